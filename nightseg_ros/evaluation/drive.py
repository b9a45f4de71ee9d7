"""One drive (one camera of one bag): its frames are added one by one, its result is a folder.

Frames are read once, as they come; kept are sums, one line of report.csv each, and a few small
pictures. A result on disk is complete or not there; results of several drives are merged by
`summary`.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.bootstrap import Bootstrap
from nightseg_ros.core.bootstrap import unit_key
from nightseg_ros.core.memory import resident_mib
from nightseg_ros.core.segmenter import resize_labels
from nightseg_ros.evaluation.counts import VECTOR_SIZE
from nightseg_ros.evaluation.counts import Counts
from nightseg_ros.evaluation.counts import frame_numbers
from nightseg_ros.evaluation.flicker import Flicker
from nightseg_ros.evaluation.frames import EvaluatedFrame
from nightseg_ros.evaluation.frames import MeasuredFrame
from nightseg_ros.evaluation.highlights import Highlight
from nightseg_ros.evaluation.highlights import Samples
from nightseg_ros.evaluation.highlights import Worst
from nightseg_ros.evaluation.report.sheets import Sheet
from nightseg_ros.evaluation.report.sheets import make_sheet
from nightseg_ros.evaluation.rows import COLUMNS
from nightseg_ros.evaluation.rows import cells
from nightseg_ros.evaluation.rows import read_rows
from nightseg_ros.evaluation.rows import time_axis
from nightseg_ros.evaluation.video import OverlayVideo
from nightseg_ros.evaluation.video import VideoError

VIDEO = 'overlay.mp4'
VIDEO_FRAMES = 200
"""A longer drive becomes a time lapse of about so many frames."""

ROWS = 'report.csv'
_MEMORY_EVERY_S = 1.0
_MEMORY_POINTS = 600


@dataclass(frozen=True)
class DriveFacts:
    """What is evaluated.

    Attributes:
        title: heading of the report.
        mode: 'offline' or 'replay'.
        bag: name of the bag, never a path.
        camera: topic of the images.
        storage: 'mcap', 'sqlite3' or 'ros1'.
        ros_distro: that recorded it, None where the bag does not say.
        expected_frames: messages of the topic.
        rate_hz: at which frames were shown to the segmenter, None for "as fast as it could".
        truth: name, format, assumed, tolerance_ms of the ground truth, or None.
        model, model_sha256, backend, model_card: what made the masks.
        unit_ns: stretch of frames that is resampled together; 0: each by itself.
        fingerprint: of everything that the result depends on.
        notes: whatever a reader should know.
    """

    title: str
    mode: str
    bag: str
    camera: str
    storage: str
    ros_distro: str | None
    expected_frames: int
    rate_hz: float | None
    truth: Mapping[str, Any] | None
    model: str
    model_sha256: str
    backend: str
    model_card: Mapping[str, str] = field(default_factory=dict)
    unit_ns: int = 0
    fingerprint: str = ''
    notes: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Bag and camera; the key under which frames are resampled begins with it."""
        return f'{self.bag}{self.camera}'


@dataclass
class Observations:
    """What else is known of a drive.

    Attributes:
        complete: whether all frames of the bag were evaluated.
        interrupted: whether they were not because somebody stopped it.
        frames: how many were.
        unreadable: images that could not be used, by reason.
        truth_refused: labels that could not be used, by reason.
        truth_matched: images with a label within the tolerance.
        drops: of the node, by reason.
        stages_ms: percentiles by stage, as the node reports them; empty offline.
        memory: [seconds, MiB] of the process named by ``memory_of``.
        wall_s: that the evaluation took.
        problems: what could not be read or written, for people.
        video: whether there is one.
    """

    complete: bool = False
    interrupted: bool = False
    frames: int = 0
    unreadable: dict[str, int] = field(default_factory=dict)
    truth_refused: dict[str, int] = field(default_factory=dict)
    truth_matched: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    stages_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    memory_of: str = 'evaluator'
    memory: list[tuple[float, float]] = field(default_factory=list)
    wall_s: float = 0.0
    problems: list[str] = field(default_factory=list)
    video: bool = False


@dataclass(frozen=True)
class DriveResult:
    """A drive that was evaluated.

    Attributes:
        facts: what was evaluated.
        seen: what was observed.
        counts: sums over its frames.
        sums: the same resampled, float64 [1000, VECTOR_SIZE].
        stamps_ns: int64 [N], one for each frame.
        columns: float64 [N] by name of `COLUMNS`, NaN where unknown.
        samples, worst: frames to show.
    """

    facts: DriveFacts
    seen: Observations
    counts: Counts
    sums: NDArray[np.float64]
    stamps_ns: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.float64]]
    samples: Sequence[Sheet]
    worst: Sequence[Sheet]


class Sink(Protocol):
    """Takes every frame that could be read, in order, with its row."""

    def __call__(self, frame: MeasuredFrame, row: Mapping[str, float]) -> None:
        """Take a frame."""
        ...


class DriveRecorder:
    """Adds up a drive frame by frame; a context manager.

    Args:
        facts: what is evaluated.
        folder: where rows and video are written, empty.
        video: whether to make one.
        sinks: called with each frame.
    """

    def __init__(
        self, facts: DriveFacts, folder: Path, video: bool = True, sinks: Sequence[Sink] = ()
    ) -> None:
        self.facts = facts
        self.seen = Observations()
        self._folder = folder
        self._sinks = sinks
        self._counts = Counts.zeros()
        self._bootstrap = Bootstrap(VECTOR_SIZE)
        self._flicker = Flicker()
        self._samples = Samples(facts.expected_frames)
        self._worst = Worst()
        self._stride = max(1, math.ceil(facts.expected_frames / VIDEO_FRAMES))
        self._video: OverlayVideo | None = None
        if video:
            self._video = OverlayVideo(folder / VIDEO, facts.rate_hz or 10.0)
        self._rows = (folder / ROWS).open('w', encoding='utf-8', newline='')
        self._csv = csv.writer(self._rows, lineterminator='\n')
        self._csv.writerow(COLUMNS)
        self._started = time.monotonic()
        self._memory_due = 0.0

    def __enter__(self) -> DriveRecorder:
        return self

    def __exit__(self, *error: Any) -> None:
        with suppress(OSError):  # a full disk: what got there is read back
            self._rows.close()
        if self._video is not None:
            self._video.__exit__(None, None, None)

    def add(self, measured: MeasuredFrame) -> None:
        """Add the next frame.

        Raises:
            OSError: the disk is full.
        """
        counts, seen = measured.counts, self.seen
        seen.frames += 1
        if measured.problem is not None:
            _count(seen.unreadable, measured.problem)
        if measured.frame.truth is not None:
            seen.truth_matched += 1
        if measured.truth_problem is not None:
            _count(seen.truth_refused, measured.truth_problem)
        if counts is not None and measured.glimpse is not None:
            counts.flicker[:] = self._flicker.update(measured.glimpse)
        row = _row(measured)
        self._csv.writerow(cells(row, measured.frame.stamp_ns))
        if counts is not None:
            self._counts.add(counts)
            key = unit_key(self.facts.name, measured.frame.stamp_ns, self.facts.unit_ns)
            self._bootstrap.add(key, counts.vector())
        if measured.picture is not None:
            self._samples.offer(row, measured.picture)
            self._worst.offer(row, measured.picture)
            if measured.frame.index % self._stride == 0:
                self._add_to_video(measured.picture())
            for sink in self._sinks:
                sink(measured, row)
        self._watch_memory()

    def finish(self) -> DriveResult:
        """Return the result of all frames that were added; more cannot be added."""
        self.seen.wall_s = self.seen.wall_s or time.monotonic() - self._started
        self._finish_video()
        with suppress(OSError):
            self._rows.close()
        stamps, columns = read_rows(self._folder / ROWS)
        return DriveResult(
            self.facts,
            self.seen,
            self._counts,
            self._bootstrap.sums,
            stamps,
            columns,
            _sheets(self._samples.kept, stamps, columns),
            _sheets(self._worst.kept, stamps, columns),
        )

    def drop_video(self) -> None:
        """Make room: of all that is written a video is the largest."""
        if self._video is not None:
            self._give_up_video(VideoError('there was no room'))

    def _add_to_video(self, frame: EvaluatedFrame) -> None:
        if self._video is None:
            return
        labels = frame.labels
        if labels is not None and labels.shape != frame.image.shape[:2]:
            labels = resize_labels(labels, np.empty(frame.image.shape[:2], np.uint8))
        try:
            self._video.add(frame.image, labels, frame.stamp_ns, frame.latency_ms)
        except VideoError as error:
            self._give_up_video(error)

    def _finish_video(self) -> None:
        if self._video is None:
            return
        try:
            self.seen.video = self._video.finish()
        except VideoError as error:
            self._give_up_video(error)

    def _give_up_video(self, error: VideoError) -> None:
        """A report without a video is better than none."""
        self.seen.problems.append(f'{VIDEO} was not written: {error}.')
        if self._video is not None:
            self._video.__exit__(None, None, None)
        self._video = None
        (self._folder / VIDEO).unlink(missing_ok=True)

    def _watch_memory(self) -> None:
        elapsed = time.monotonic() - self._started
        if elapsed < self._memory_due:
            return
        memory = self.seen.memory
        memory.append((round(elapsed, 2), round(resident_mib(), 1)))
        if len(memory) > _MEMORY_POINTS:
            del memory[1::2]
        step = _MEMORY_EVERY_S
        if len(memory) > 1:
            step = max(step, elapsed / _MEMORY_POINTS * 2)
        self._memory_due = elapsed + step


def _sheets(
    kept: Sequence[Highlight],
    stamps: NDArray[np.int64],
    columns: Mapping[str, NDArray[np.float64]],
) -> list[Sheet]:
    times = dict(zip(columns['index'], time_axis(stamps), strict=True))
    return [
        make_sheet(shown.frame, {**shown.row, 'time_s': times.get(shown.row['index'], math.nan)})
        for shown in kept
    ]


def _count(counts: dict[str, int], reason: str) -> None:
    counts[reason] = counts.get(reason, 0) + 1


def _row(measured: MeasuredFrame) -> dict[str, float]:
    row = dict.fromkeys(COLUMNS, math.nan)
    row['index'] = measured.frame.index
    row['stamp_ns'] = measured.frame.stamp_ns
    row['received'] = measured.counts is not None
    row['truth'] = measured.has_truth
    row.update(measured.times_ms)
    if measured.counts is None:
        return row
    row.update(frame_numbers(measured.counts))
    predicted = measured.counts.predicted
    row['dominant_class'] = int(predicted.argmax())
    row['dominant_share'] = predicted.max() / predicted.sum()
    return row
