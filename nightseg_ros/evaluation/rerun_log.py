"""A recording of an evaluation for the Rerun viewer (rerun.io): `evaluate_bag --rerun out.rrd`."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from typing import Any
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.exposure import OVER_EXPOSED
from nightseg_ros.core.exposure import UNDER_EXPOSED
from nightseg_ros.core.labels import CLASSES
from nightseg_ros.core.labels import UNLABELLED
from nightseg_ros.core.segmenter import resize_labels
from nightseg_ros.evaluation.frames import EvaluatedFrame
from nightseg_ros.evaluation.frames import MeasuredFrame

if TYPE_CHECKING:
    from nightseg_ros.evaluation.drive import Sink

TIMELINE, FRAME_TIMELINE = 'stamp', 'frame'

PLOTS: dict[str, tuple[str, ...]] = {
    'quality': ('miou', 'accuracy', 'confidence'),
    'exposure': ('under_share', 'over_share'),
    'flicker': ('flicker',),
    'latency in ms': ('latency_ms', 'age_ms'),
}
"""Columns of a row by the plot that shows them."""

UNRATED, RIGHT, WRONG = 0, 1, 2
"""What a mask of errors holds."""

_CLEAR = (0, 0, 0, 0)
_CLASSES = {
    **{c.train_id: (c.name, (*c.color, 255)) for c in CLASSES},
    UNLABELLED: ('unlabelled', _CLEAR),
}
_ERRORS = {
    UNRATED: ('not rated', _CLEAR),
    RIGHT: ('right', (60, 150, 110, 255)),
    WRONG: ('wrong', (235, 70, 60, 255)),
}
_EXPOSURES = {
    0: ('normal', _CLEAR),
    UNDER_EXPOSED: ('under-exposed', (64, 132, 244, 255)),
    OVER_EXPOSED: ('over-exposed', (255, 150, 40, 255)),
    255: ('unknown', (128, 128, 128, 255)),
}
_MEANINGS = {
    'prediction': _CLASSES,
    'truth': _CLASSES,
    'error': _ERRORS,
    'exposure': _EXPOSURES,
}
"""Names and colours of the values of each mask."""

_JPEG_QUALITY = 90
_BATCH_S = 1.0
"""The fewer batches, the smaller the file."""

_PIPE_BYTES = 1 << 16


class RerunError(ValueError):
    """No recording can be written; the message says what to do."""


class RerunLog:
    """Streams frames into an .rrd file, which gets its name when it is complete.

    Nothing is sent anywhere and no viewer is started: the SDK only writes. Of each camera
    ``/front/image_raw`` it holds

    - ``/front/image_raw/image``, ``confidence`` (JPEG), ``prediction``, ``truth``, ``error`` and
      ``exposure`` (masks whose values have names and colours), all of the image's size,
    - ``/front/image_raw/metrics/miou`` and so on, the columns of `PLOTS`,

    on the timelines ``stamp`` and ``frame``.

    Args:
        path: of the file; replaced when it exists.

    Raises:
        RerunError: the SDK is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._rr: Any = importlib.import_module('rerun')
            self._views: Any = importlib.import_module('rerun.blueprint')
        except ImportError as error:
            raise RerunError(
                f'Rerun cannot be imported ({error}): pip install rerun-sdk'
            ) from error
        self._path = path
        self._shown: dict[str, set[str]] = {}
        self._with_truth: set[str] = set()

    def __enter__(self) -> RerunLog:
        """Open the file.

        Raises:
            RerunError: it cannot be written.
        """
        if self._path.is_dir():
            raise RerunError(f'{self._path} is a folder: name a file')
        batches = self._rr.ChunkBatcherConfig(flush_tick=_BATCH_S)
        self._recording = self._rr.RecordingStream('nightseg_ros', batcher_config=batches)
        if not self._recording.is_enabled():
            raise RerunError('the environment variable RERUN switches recordings off: unset it')
        with ExitStack() as stack:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                folder = tempfile.TemporaryDirectory(dir=self._path.parent, prefix='.rerun-')
                self._draft = Path(stack.enter_context(folder)) / self._path.name
                self._copy = _Copy(self._draft.open('wb'))
            except OSError as error:
                raise RerunError(f'{self._path} cannot be written: {error.strerror}') from error
            self._recording.save(self._copy.source)
            self._copy.start()
            self._stack = stack.pop_all()
        # The time that matters is that of the stamps.
        self._recording.set_log_time_enabled(False)
        self._recording.set_log_tick_enabled(False)
        self._recording.send_recording_name(self._path.stem)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Complete the file, or remove it after an error.

        Raises:
            RerunError: the disk was full.
        """
        with self._stack:
            self._recording.send_blueprint(self._blueprint())
            self._recording.disconnect()
            self._copy.finish()
            if kind is not None:
                return
            if self._copy.error is not None:
                raise RerunError(
                    f'{self._path} was not written: {self._copy.error.strerror}'
                ) from self._copy.error
            os.replace(self._draft, self._path)

    def sink(self, camera: str) -> Sink:
        """Return what takes the measured frames of a camera and their rows."""

        def add(frame: MeasuredFrame, row: Mapping[str, float]) -> None:
            if frame.picture is not None:
                self.log(frame.picture(), camera, row)

        return add

    def log(
        self, frame: EvaluatedFrame, camera: str, row: Mapping[str, float | None] | None = None
    ) -> None:
        """Add a frame.

        Args:
            frame: to be shown.
            camera: its topic or name.
            row: what was measured of it, by the names in `PLOTS`; None and NaN are left out.

        Raises:
            OSError: the disk is full.
        """
        if self._copy.error is not None:
            raise self._copy.error
        root = self._root(camera)
        if root not in self._shown:
            self._describe(root)
        self._recording.set_time(TIMELINE, timestamp=np.datetime64(frame.stamp_ns, 'ns'))
        self._recording.set_time(FRAME_TIMELINE, sequence=frame.index)
        masks = self._masks(frame)
        if frame.truth is not None:
            self._with_truth.add(root)
        self._recording.log(f'{root}/image', self._jpeg(frame.image))
        for name, mask in masks.items():
            self._recording.log(f'{root}/{name}', mask)
        # Without a new mask the viewer would go on showing the last one.
        for name in self._shown[root] - masks.keys():
            self._recording.log(f'{root}/{name}', self._rr.Clear(recursive=False))
        self._shown[root] = set(masks)
        for name in (name for names in PLOTS.values() for name in names):
            value = (row or {}).get(name)
            if value is not None and not np.isnan(value):
                self._recording.log(f'{root}/metrics/{name}', self._rr.Scalars(value))

    def _root(self, camera: str) -> str:
        return str(self._rr.new_entity_path(camera.strip('/').split('/')))

    def _describe(self, root: str) -> None:
        """Log names and colours of the values of a camera's masks."""
        self._shown[root] = set()
        for name, meanings in _MEANINGS.items():
            infos = [
                self._rr.AnnotationInfo(id=value, label=label, color=color)
                for value, (label, color) in meanings.items()
            ]
            self._recording.log(f'{root}/{name}', self._rr.AnnotationContext(infos), static=True)

    def _masks(self, frame: EvaluatedFrame) -> dict[str, Any]:
        """Return what lies over an image, in its size, by name."""
        size = frame.image.shape[:2]
        masks: dict[str, NDArray[np.uint8] | None] = {
            'prediction': frame.labels,
            'exposure': frame.exposure,
            'truth': frame.truth,
        }
        there = {name: _of_size(mask, size) for name, mask in masks.items() if mask is not None}
        if 'prediction' in there and 'truth' in there:
            there['error'] = _errors(there['prediction'], there['truth'])
        logged = {name: self._rr.SegmentationImage(mask) for name, mask in there.items()}
        if frame.confidence is not None:
            height, width = size
            logged['confidence'] = self._jpeg(cv2.resize(frame.confidence, (width, height)))
        return logged

    def _jpeg(self, pixels: NDArray[np.uint8]) -> Any:
        """Return RGB or grey pixels as a JPEG, which is what makes the file small."""
        bgr = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode('.jpg', bgr, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
        return self._rr.EncodedImage(contents=data.tobytes(), media_type='image/jpeg')

    def _blueprint(self) -> Any:
        """Return the views that the viewer opens with: a tab for each camera."""
        views = self._views
        tabs = [
            views.Vertical(
                views.Grid(
                    *(self._picture(root, name) for name in self._pictures(root)), grid_columns=3
                ),
                views.Horizontal(
                    *(
                        views.TimeSeriesView(
                            origin=root,
                            contents=[f'{root}/metrics/{name}' for name in names],
                            name=title,
                        )
                        for title, names in PLOTS.items()
                    )
                ),
                row_shares=[4, 1],
                name=root.strip('/'),
            )
            for root in self._shown
        ]
        return views.Blueprint(
            views.Tabs(*tabs), views.TimePanel(timeline=TIMELINE), collapse_panels=True
        )

    def _pictures(self, root: str) -> tuple[str, ...]:
        judged = ('truth', 'error') if root in self._with_truth else ()
        return ('prediction', *judged, 'confidence', 'exposure')

    def _picture(self, root: str, name: str) -> Any:
        contents = [f'{root}/image', f'{root}/{name}']
        return self._views.Spatial2DView(origin=root, contents=contents, name=name)


def _of_size(mask: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    return mask if mask.shape == size else resize_labels(mask, np.empty(size, np.uint8))


def _errors(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    errors = np.where(labels == truth, np.uint8(RIGHT), np.uint8(WRONG))
    errors[truth == UNLABELLED] = UNRATED
    return errors


class _Copy(threading.Thread):
    """Copies what the SDK writes into a file of ours.

    The SDK hangs when its own file cannot be written. Into this pipe it can write whatever happens
    to the file.

    Attributes:
        source: path that the SDK writes to.
        error: why the file is not complete, None while it is.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(name='rerun-copy', daemon=True)
        self._file = file
        self._output, self._input = os.pipe()
        self.source = f'/dev/fd/{self._input}'
        self.error: OSError | None = None

    def run(self) -> None:
        with open(self._output, 'rb', buffering=0) as pipe:
            try:
                with self._file:
                    shutil.copyfileobj(pipe, self._file)
            except OSError as error:
                self.error = error
                while pipe.read(_PIPE_BYTES):
                    pass

    def finish(self) -> None:
        """Wait until everything is copied; the SDK must have closed its end."""
        os.close(self._input)
        self.join()
