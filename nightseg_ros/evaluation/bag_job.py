"""A bag to evaluate: all of its cameras, one after the other, and what is written besides."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightseg_ros.core.backends import BackendError
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.evaluate import Extras
from nightseg_ros.evaluation.evaluate import evaluate_offline
from nightseg_ros.evaluation.mask_bag import mask_bag
from nightseg_ros.evaluation.request import DriveRequest
from nightseg_ros.evaluation.request import finished
from nightseg_ros.evaluation.rerun_log import RerunLog

EXPECTED_ERRORS = (ValueError, BackendError, OSError)
"""What bags, truths, models and backends refuse, with a message that says what to do, and what the
system refuses: a disk that fails, a file that is gone."""

Progress = Callable[[DriveRequest, int, int], None]
"""Called with a drive, how many frames it has and how many of them are done."""


@dataclass(frozen=True)
class BagJob:
    """A bag to evaluate.

    Attributes:
        drives: one for each camera, all of one bag.
        workers: frames at a time.
        write_bag: where masks are written beside the input, or None.
        rerun: where a recording for the Rerun viewer is written, or None.
    """

    drives: tuple[DriveRequest, ...]
    workers: int
    write_bag: Path | None = None
    rerun: Path | None = None

    @property
    def bag(self) -> Path:
        """The bag's path."""
        return self.drives[0].bag

    def finished(self) -> bool:
        """Return whether everything that is asked for is there already."""
        extras = [path for path in (self.write_bag, self.rerun) if path is not None]
        return all(path.exists() for path in extras) and all(map(finished, self.drives))


def run_offline(job: BagJob, progress: Progress = lambda *_: None) -> list[dict[str, Any]]:
    """Evaluate every frame of a bag's cameras; returns report.json of each.

    Raises:
        one of `EXPECTED_ERRORS`: the bag cannot be evaluated.
    """
    reports = []
    with extras_of(job, progress) as extras:
        for drive in job.drives:
            reports.append(evaluate_offline(drive, job.workers, extras(drive)))
            if not reports[-1]['complete']:
                break
    return reports


@contextmanager
def extras_of(job: BagJob, progress: Progress) -> Iterator[Callable[[DriveRequest], Extras]]:
    """Open what is written besides the reports; yields what makes the extras of each drive."""
    with ExitStack() as stack:
        masks = rerun = None
        if job.write_bag is not None:
            bag = stack.enter_context(open_bag(job.bag))
            cameras = [drive.camera for drive in job.drives]
            masks = stack.enter_context(mask_bag(job.write_bag, bag, cameras))
        if job.rerun is not None:
            rerun = stack.enter_context(RerunLog(job.rerun))

        def extras(drive: DriveRequest) -> Extras:
            told = _Told(drive, progress)
            sinks = (rerun.sink(drive.camera),) if rerun is not None else ()
            return Extras(masks, sinks, told.advance, told.start)

        yield extras


class _Told:
    """Tells how far a drive is."""

    def __init__(self, drive: DriveRequest, progress: Progress) -> None:
        self._drive = drive
        self._progress = progress
        self._expected = 0
        self._done = 0

    def start(self, expected: int) -> None:
        self._expected = expected
        self._progress(self._drive, expected, 0)

    def advance(self) -> None:
        self._done += 1
        self._progress(self._drive, self._expected, self._done)
