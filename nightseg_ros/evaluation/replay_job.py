"""A bag replayed through the real node: what its cameras' masks were, and when they came."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightseg_ros.core.image_codec import ImageError
from nightseg_ros.core.model import load_model
from nightseg_ros.evaluation.bag_job import BagJob
from nightseg_ros.evaluation.bag_job import Progress
from nightseg_ros.evaluation.bag_job import extras_of
from nightseg_ros.evaluation.bag_reader import Bag
from nightseg_ros.evaluation.bag_reader import Topic
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.evaluate import Extras
from nightseg_ros.evaluation.evaluate import opened
from nightseg_ros.evaluation.evaluate import record
from nightseg_ros.evaluation.evaluate import topic_of
from nightseg_ros.evaluation.frames import BagFrame
from nightseg_ros.evaluation.frames import decode
from nightseg_ros.evaluation.frames import header_stamp_ns
from nightseg_ros.evaluation.join import measure_replay
from nightseg_ros.evaluation.mask_bag import MaskTopics
from nightseg_ros.evaluation.mask_bag import camera_names
from nightseg_ros.evaluation.replay import MASKS_OF_A_FRAME
from nightseg_ros.evaluation.replay import Replay
from nightseg_ros.evaluation.replay import replay
from nightseg_ros.evaluation.request import DriveRequest
from nightseg_ros.evaluation.staging import staging_folder

LOG = 'node.log'


def run_replay(job: BagJob, progress: Progress = lambda *_: None) -> list[dict[str, Any]]:
    """Replay a bag and evaluate its cameras; returns report.json of each.

    Call it where ROS is isolated (see `ros_environment`).

    Raises:
        ReplayError: the node does not start, or dies.
        one of `EXPECTED_ERRORS`: the bag cannot be evaluated.
    """
    first = job.drives[0]
    with staging_folder(first.output, '.replay-') as folder:
        masks_bag = folder / 'masks'
        with open_bag(job.bag) as bag:
            cameras = [topic_of(bag, drive.camera) for drive in job.drives]
            _check_room(bag, cameras, folder)
        run = _play(job, cameras, masks_bag, progress)
        names = camera_names([camera.name for camera in cameras])
        with extras_of(job, progress) as extras:
            return [
                _evaluate(drive, run, masks_bag, MaskTopics.of(names[drive.camera]), extras(drive))
                for drive in job.drives
            ]


def _play(job: BagJob, cameras: Sequence[Topic], masks_bag: Path, progress: Progress) -> Replay:
    first = job.drives[0]
    expected = sum(camera.count for camera in cameras)
    played = 0

    def on_image() -> None:
        nonlocal played
        played += 1
        progress(first, expected, played)

    parameters = {'backend': first.engine.backend, 'precision': first.engine.precision}
    if first.engine.model_path is not None:
        parameters['model_path'] = str(first.engine.model_path.absolute())
    log = first.output / LOG
    return replay(job.bag, masks_bag, cameras, log, first.rate, parameters, on_image)


def _check_room(bag: Bag, cameras: Sequence[Topic], folder: Path) -> None:
    """Raise BagError when the masks of the replay will not fit onto the disk."""
    needed = 0
    for camera in cameras:
        message = next(iter(bag.messages([camera.name])), None)
        if message is None:
            continue
        try:
            image = decode(message)
        except (ImageError, BagError):
            continue
        needed += MASKS_OF_A_FRAME * image.height * image.width * camera.count
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BagError(
            f'the masks of this replay take {needed / 2**30:.1f} GiB for a while, and '
            f'{free / 2**30:.1f} GiB are free: make room, or choose another --out'
        )


def _evaluate(
    drive: DriveRequest, run: Replay, masks_bag: Path, topics: MaskTopics, extras: Extras
) -> dict[str, Any]:
    camera = run.cameras[drive.camera]
    model = load_model(drive.engine.model_path)
    engine = run.engine
    with opened(drive) as drive_open:
        facts = drive_open.facts(
            model=engine['model'],
            model_sha256=engine['sha256'],
            backend=f'{engine["backend"]} {engine["precision"]}',
            model_card=dict(model.card),
            notes=(
                f'Replayed through the node at {drive.rate:g} times the recorded pace. Backend: '
                f'{engine["why"]}.',
                'Latency is the time from publishing an image to receiving its mask in another '
                'process; age counts from the stamp of the image.',
            ),
        )

        def played() -> Iterator[BagFrame]:
            published = camera.published_ns
            return (f for f in drive_open.frames() if header_stamp_ns(f.message) in published)

        frames = measure_replay(played(), masks_bag, topics, camera)
        problems = [] if run.complete else ['The replay was interrupted.']
        observed = {
            'drops': camera.drops,
            'stages_ms': camera.stages_ms,
            'memory_of': 'node',
            'memory': run.memory,
            'wall_s': camera.seconds,
        }
        return record(drive_open, facts, frames, extras, observed, problems, run.complete)
