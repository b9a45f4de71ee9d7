"""What is asked of an evaluation: everything that the result depends on.

A request can go to another process or machine, and its fingerprint tells whether a result that is
there is still the answer.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nightseg_ros
from nightseg_ros import __version__
from nightseg_ros.core.model import released_model
from nightseg_ros.evaluation.bag_reader.files import bag_files
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
        extras: what else is written: paths.
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
    extras: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Bag and camera, for people."""
        return f'{self.bag.name}{self.camera}'

    def fingerprint(self) -> str:
        """Return a digest of everything that the result depends on."""
        model = self.engine.model_path or released_model()
        content = {
            **{key: str(value) for key, value in asdict(self).items() if key != 'output'},
            'software': _own_sources(),
            'model': _sha256(model, model.stat().st_mtime_ns),
            'bag_files': [_traits(path) for path in bag_files(self.bag).paths],
            'label_files': _labels(Path(self.labels)) if self.labels else [],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@functools.lru_cache(maxsize=8)
def _sha256(path: Path, _changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.lru_cache(maxsize=1)
def _own_sources() -> str:
    """Return a digest of this package's code: a checkout changes without its version."""
    digest = hashlib.sha256(__version__.encode())
    for path in sorted(Path(nightseg_ros.__file__).parent.rglob('*.py')):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _traits(path: Path) -> tuple[str, int, int]:
    """Return name, size and time of change of a file."""
    status = path.stat()
    return path.name, status.st_size, status.st_mtime_ns


def _labels(folder: Path) -> list[tuple[str, int, int]]:
    """Return the traits of all files of a folder of labels; none of a topic."""
    if not folder.is_dir():
        return []
    return [_traits(path) for path in sorted(folder.rglob('*')) if path.is_file()]


def report_of(request: DriveRequest, since_ns: int | None = None) -> dict[str, Any] | None:
    """Return report.json of a request, perhaps of a part of it; None where it is another's.

    Args:
        request: as it stands now.
        since_ns: a report that is younger (time.time_ns) is taken in any case: a bag that is still
            being recorded is another one by now.
    """
    path = request.output / NUMBERS
    try:
        report = json.loads(path.read_text(encoding='utf-8'))
        young = since_ns is not None and path.stat().st_mtime_ns >= since_ns
    except (OSError, ValueError):
        return None
    if not isinstance(report, dict):
        return None
    return report if young or report.get('fingerprint') == request.fingerprint() else None


def finished(request: DriveRequest) -> bool:
    """Return whether a request was evaluated to the end; a replay measures anew each time."""
    if request.mode == REPLAY:
        return False
    report = report_of(request)
    return report is not None and report['complete']
