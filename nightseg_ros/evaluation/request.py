"""What is asked of an evaluation: everything that the result depends on.

A request can go to another process or machine, and its fingerprint tells whether a result that is
there is still the answer.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightseg_ros import __version__
from nightseg_ros.core.model import released_model
from nightseg_ros.evaluation.drive_files import NUMBERS
from nightseg_ros.evaluation.offline import Engine

OFFLINE, REPLAY = 'offline', 'replay'


@dataclass(frozen=True)
class DriveRequest:
    """A drive to evaluate: one camera of one bag.

    Attributes:
        bag: its path.
        camera: topic of the images.
        output: folder of its report.
        engine: what makes the masks. For a fleet its backend is never 'auto', which goes by time
            and may choose otherwise in another process.
        labels: ground truth, a topic or a folder; None without.
        label_format: 'auto', or as `label_formats` names them.
        tolerance_ms: by which stamps of images and labels may differ.
        bootstrap_s: seconds of drive that are resampled together; 0: each frame by itself.
        mode: 'offline' or 'replay'.
        rate: of a replay.
        video: whether to make one.
        notes: whatever a reader of the report should know.
    """

    bag: Path
    camera: str
    output: Path
    engine: Engine
    labels: str | None = None
    label_format: str = 'auto'
    tolerance_ms: float = 10.0
    bootstrap_s: float = 0.0
    mode: str = OFFLINE
    rate: float = 1.0
    video: bool = True
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Bag and camera, for people."""
        return f'{self.bag.name}{self.camera}'

    def fingerprint(self) -> str:
        """Return a digest of everything that the result depends on."""
        model = self.engine.model_path or released_model()
        content = {
            **{key: str(value) for key, value in asdict(self).items() if key != 'output'},
            'software': __version__,
            'model': _sha256(model, model.stat().st_mtime_ns),
            'bag_files': _files(self.bag),
            'label_files': _files(Path(self.labels)) if self.labels else [],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@functools.lru_cache(maxsize=8)
def _sha256(path: Path, _changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _files(path: Path) -> list[tuple[str, int, int]]:
    """Return names, sizes and times of change of a file or of all files of a folder."""
    if path.is_file():
        paths: Iterable[Path] = [path]
    else:
        paths = sorted(p for p in path.rglob('*') if p.is_file()) if path.is_dir() else []
    return [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in paths]


def report_of(request: DriveRequest) -> dict[str, Any] | None:
    """Return report.json of a request, if it was evaluated as it stands; perhaps not to the end."""
    try:
        report = json.loads((request.output / NUMBERS).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    if not isinstance(report, dict) or report.get('fingerprint') != request.fingerprint():
        return None
    return report


def finished(request: DriveRequest) -> bool:
    """Return whether a request was evaluated to the end."""
    report = report_of(request)
    return report is not None and report['complete']
