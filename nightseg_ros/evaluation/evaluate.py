"""Evaluating a drive: it is opened, its frames are measured, added up and reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import closing
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightseg_ros.evaluation.bag_reader import Bag
from nightseg_ros.evaluation.bag_reader import Topic
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.bags import NO_ROOM
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.drive import ROWS
from nightseg_ros.evaluation.drive import VIDEO
from nightseg_ros.evaluation.drive import DriveFacts
from nightseg_ros.evaluation.drive import DriveRecorder
from nightseg_ros.evaluation.drive import DriveResult
from nightseg_ros.evaluation.drive import Sink
from nightseg_ros.evaluation.drive_files import NUMBERS
from nightseg_ros.evaluation.drive_files import PAGE
from nightseg_ros.evaluation.drive_files import publish
from nightseg_ros.evaluation.drive_files import save_result
from nightseg_ros.evaluation.drive_files import write_rows
from nightseg_ros.evaluation.frames import BagFrame
from nightseg_ros.evaluation.frames import MeasuredFrame
from nightseg_ros.evaluation.frames import bag_frames
from nightseg_ros.evaluation.interruption import stop_requests
from nightseg_ros.evaluation.mask_bag import MaskBagWriter
from nightseg_ros.evaluation.offline import measure_offline
from nightseg_ros.evaluation.offline import segmenters
from nightseg_ros.evaluation.report.page import write_page
from nightseg_ros.evaluation.request import REPLAY
from nightseg_ros.evaluation.request import DriveRequest
from nightseg_ros.evaluation.staging import staging_folder
from nightseg_ros.evaluation.summary import summarise
from nightseg_ros.evaluation.together import Together
from nightseg_ros.evaluation.together import columns_of
from nightseg_ros.evaluation.together import put_together
from nightseg_ros.evaluation.truth import TruthSource
from nightseg_ros.evaluation.truth import open_truth


@dataclass(frozen=True)
class Extras:
    """What a single evaluation writes besides its report.

    Attributes:
        mask_bag: takes the masks, or None.
        sinks: take every frame that could be read.
        on_frame: called after each frame, for a progress bar.
        on_start: called with the number of frames to come.
    """

    mask_bag: MaskBagWriter | None = None
    sinks: tuple[Sink, ...] = ()
    on_frame: Callable[[], None] = lambda: None
    on_start: Callable[[int], None] = lambda _: None

    @property
    def problems(self) -> list[str]:
        """Return what of the bag is not in the mask bag, as sentences."""
        return [] if self.mask_bag is None else self.mask_bag.problems


def evaluate_offline(
    request: DriveRequest, workers: int, extras: Extras | None = None
) -> dict[str, Any]:
    """Evaluate every frame of a drive and write its report; returns report.json.

    Interrupted (Ctrl-C) or out of disk, the report tells of what was evaluated until then and is
    not complete.

    Raises:
        BagError: the bag cannot be read or lacks the topic, or nothing can be written.
        TruthError: the ground truth cannot be used at all.
        ModelError, BackendError: the model cannot run.
    """
    extras = extras or Extras()
    with segmenters(request.engine, workers) as loaded, opened(request) as drive:
        backend = loaded[0].backend
        facts = drive.facts(
            model=backend.model.name,
            model_sha256=backend.model.sha256,
            backend=f'{backend.name} {backend.precision}',
            model_card=dict(backend.model.card),
            notes=(
                f'Offline: every frame, {workers} at a time with one thread of the network each. '
                'Latency and drops are what a replay measures.',
            ),
        )
        frames = measure_offline(drive.frames(), loaded, workers)
        return record(drive, facts, frames, extras)


@dataclass(frozen=True)
class OpenDrive:
    """A drive whose bag and truth are open."""

    request: DriveRequest
    bag: Bag
    camera: Topic
    truth: TruthSource | None

    @property
    def problems(self) -> list[str]:
        """Return what could not be read until now, as sentences."""
        return [*self.bag.problems, *(self.truth.problems if self.truth is not None else ())]

    def frames(self) -> Iterator[BagFrame]:
        """Yield the images in the order of recording, each with its label if it has one."""
        labels = self.truth.labels() if self.truth is not None else ()
        tolerance_ns = round(self.request.tolerance_ms * 1e6)
        return bag_frames(self.bag, self.camera.name, labels, tolerance_ns)

    def facts(self, notes: Sequence[str], **about: Any) -> DriveFacts:
        """Return what is evaluated.

        Args:
            notes: besides those of the request.
            about: what the drive itself does not know: model and backend.
        """
        request, truth = self.request, self.truth
        return DriveFacts(
            title=f'{request.bag.name}, {self.camera.name}',
            mode=request.mode,
            bag=request.bag.name,
            camera=self.camera.name,
            storage=self.bag.storage,
            ros_distro=self.bag.ros_distro,
            expected_frames=self.camera.count,
            rate_hz=self._rate_hz(),
            truth=truth
            and {
                'name': truth.name,
                'format': truth.label_format,
                'assumed': truth.assumed,
                'tolerance_ms': request.tolerance_ms,
            },
            unit_ns=round(request.bootstrap_s * 1e9),
            fingerprint=request.fingerprint(),
            notes=(*notes, *request.notes),
            **about,
        )

    def _rate_hz(self) -> float | None:
        """Return how many frames a second were recorded, times the rate of a replay."""
        bag, count = self.bag, self.camera.count
        if bag.start_ns is None or bag.end_ns is None or count < 2:
            return None
        seconds = (bag.end_ns - bag.start_ns) / 1e9
        rate = self.request.rate if self.request.mode == REPLAY else 1.0
        return (count - 1) / seconds * rate if seconds > 0 else None


@contextmanager
def opened(request: DriveRequest) -> Iterator[OpenDrive]:
    """Open a drive's bag and truth.

    Raises:
        BagError: the bag cannot be read or lacks the topic.
        TruthError: the ground truth cannot be used.
    """
    with ExitStack() as stack:
        bag = stack.enter_context(open_bag(request.bag))
        camera = topic_of(bag, request.camera)
        truth = None
        if request.labels is not None:
            truth = stack.enter_context(
                open_truth(request.labels, request.bag, request.label_format)
            )
        yield OpenDrive(request, bag, camera, truth)


def topic_of(bag: Bag, name: str) -> Topic:
    """Return a topic of a bag.

    Raises:
        BagError: it is not there.
    """
    found = [topic for topic in bag.topics if topic.name == name]
    if not found:
        raise BagError(f'{bag.path.name} has no topic {name}')
    return found[0]


def record(
    drive: OpenDrive,
    facts: DriveFacts,
    frames: Generator[MeasuredFrame, None, None],
    extras: Extras,
    observed: Mapping[str, Any] | None = None,
    problems: Sequence[str] = (),
    whole: bool = True,
) -> dict[str, Any]:
    """Add up measured frames and write the report; returns report.json.

    Args:
        drive: that the frames come from; what could not be read of it is reported.
        facts: what is evaluated.
        frames: in order.
        extras: what else to do with them.
        observed: attributes of `Observations` that are known otherwise.
        problems: for people.
        whole: whether these are all frames of the drive; else it was interrupted before.

    Raises:
        BagError: nothing can be written: the disk is full.
    """
    extras.on_start(facts.expected_frames)
    with staging_folder(drive.request.output, '.evaluation-') as staging:
        sinks = (*extras.sinks, *_mask_sink(extras.mask_bag, facts.camera))
        with DriveRecorder(facts, staging, drive.request.video, sinks) as recorder:
            seen = recorder.seen
            try:
                with stop_requests() as stop_requested, closing(frames):
                    for frame in frames:
                        recorder.add(frame)
                        extras.on_frame()
                        if stop_requested():
                            seen.interrupted = True
                            seen.problems.append(f'Interrupted after {seen.frames} frames.')
                            break
                    else:
                        seen.complete = whole
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                seen.problems.append(f'The disk was full after {seen.frames} frames.')
                recorder.drop_video()
            seen.interrupted = seen.interrupted or not whole
            seen.problems += [*problems, *drive.problems, *extras.problems]
            for name, value in (observed or {}).items():
                setattr(seen, name, value)
            result = recorder.finish()
        return _write_drive(result, staging, drive.request.output)


def _mask_sink(mask_bag: MaskBagWriter | None, camera: str) -> tuple[Sink, ...]:
    if mask_bag is None:
        return ()

    def write(frame: MeasuredFrame, row: Mapping[str, float]) -> None:
        if frame.picture is not None and frame.counts is not None:
            mask_bag.write(camera, frame.frame.message, frame.picture())

    return (write,)


def _write_drive(result: DriveResult, staging: Path, output: Path) -> dict[str, Any]:
    try:
        try:
            return _write_result(result, staging, output)
        except OSError as error:
            if error.errno not in NO_ROOM or not result.seen.video:
                raise
        # Of all that is written the video is the largest: a report without it is better than none.
        (staging / VIDEO).unlink()
        result.seen.video = False
        result.seen.problems.append(f'{VIDEO} was dropped: the disk is full.')
        return _write_result(result, staging, output)
    except OSError as error:
        raise BagError(
            f'the report cannot be written to {output} ({error.strerror}): make room; what was '
            'there before is untouched'
        ) from error


def _write_result(result: DriveResult, staging: Path, output: Path) -> dict[str, Any]:
    save_result(result, staging)
    return _write_report(put_together([result]), staging, output)


def write_merged(
    results: Iterable[DriveResult], lines: list[dict[str, Any]], output: Path
) -> dict[str, Any]:
    """Write the report of several drives; returns report.json.

    Args:
        results: of the drives, one by one.
        lines: a `drive_line` for each.
        output: folder.

    Raises:
        BagError: it cannot be written.
    """
    with staging_folder(output, '.evaluation-') as staging:
        together = put_together(results)
        try:
            write_rows(together.drives, staging / ROWS)
            return _write_report(together, staging, output, lines)
        except OSError as error:
            raise BagError(
                f'the report cannot be written to {output} ({error.strerror}): make room; the '
                'reports of the drives are there'
            ) from error


def _write_report(
    together: Together, staging: Path, output: Path, lines: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    summary = summarise(together, lines or ())
    columns = columns_of(together.drives)
    write_page(staging / PAGE, summary, columns, together.samples, together.worst)
    text = json.dumps(summary, indent=1, allow_nan=False, ensure_ascii=False)
    (staging / NUMBERS).write_text(text + '\n', encoding='utf-8')
    publish(staging, output)
    return summary
