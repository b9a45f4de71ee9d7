"""``night_seg_demo``: replay a night drive through the node and report how good and how fast.

Without arguments the drive is procedural and has exact labels; ``--bag`` and ``--frames`` take a
real one. ``evaluate_bag`` does more of it, for bags.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from nightseg_ros.core.backends import AUTO
from nightseg_ros.core.backends import BACKENDS
from nightseg_ros.core.model import load_model
from nightseg_ros.evaluation.bag_job import EXPECTED_ERRORS
from nightseg_ros.evaluation.bag_job import BagJob
from nightseg_ros.evaluation.bag_reader import find_topics
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.bags import COMPRESSED_IMAGE
from nightseg_ros.evaluation.bags import IMAGE
from nightseg_ros.evaluation.bags import LABELS_TOPIC
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.bags import Frame
from nightseg_ros.evaluation.bags import folder_frames
from nightseg_ros.evaluation.bags import write_drive
from nightseg_ros.evaluation.console import frames_bar
from nightseg_ros.evaluation.console import print_report
from nightseg_ros.evaluation.offline import Engine
from nightseg_ros.evaluation.offline import cores
from nightseg_ros.evaluation.replay import ReplayError
from nightseg_ros.evaluation.replay_job import run_replay
from nightseg_ros.evaluation.request import REPLAY
from nightseg_ros.evaluation.request import DriveRequest
from nightseg_ros.evaluation.ros_environment import isolate_ros
from nightseg_ros.simulation.night_drive import NightDrive

FRAME_RATE_HZ = 10.0
PROCEDURAL = (
    'The drive is procedural: its mIoU says that the chain works, not how the model does on real '
    'roads; see the model card for that.'
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; exit code 2 on bad input."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        load_model(options.model)
        isolate_ros()
        drive = _drive(options)
        request = DriveRequest(
            bag=drive.bag,
            camera=drive.camera,
            output=options.output,
            engine=Engine(options.model, options.backend),
            labels=drive.labels,
            label_format=drive.label_format,
            mode=REPLAY,
            rate=options.rate,
            notes=drive.notes,
        )
        console.print(f'replaying {drive.bag.name} through the node ...')
        with frames_bar(console) as progress:
            (report,) = run_replay(BagJob((request,), cores()), progress)
    except (*EXPECTED_ERRORS, ReplayError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print_report(console, report, options.output)
    return 130 if report['interrupted'] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='night_seg_demo',
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--bag', type=Path, help='a rosbag2 with a camera topic')
    source.add_argument(
        '--frames', type=Path, help='a folder of images, or of images/ beside labels/'
    )
    source.add_argument('--seconds', type=float, default=20.0, help='of the procedural drive')
    parser.add_argument('--image-topic', help="the bag's camera topic, when it has several")
    parser.add_argument('--labels-topic', default=LABELS_TOPIC, help='ground truth in the bag')
    parser.add_argument('--output', type=Path, default=Path('build/demo'), help='for the report')
    parser.add_argument('--rate', type=float, default=1.0, help='2 replays twice as fast')
    parser.add_argument('--model', type=Path, help='an exported ONNX instead of the released one')
    parser.add_argument('--backend', choices=(AUTO, *BACKENDS), default=AUTO)
    return parser


@dataclass(frozen=True)
class _Drive:
    """What is replayed: a bag, its camera and ground truth, and what to say of it."""

    bag: Path
    camera: str
    labels: str | None
    label_format: str
    notes: tuple[str, ...] = ()


def _drive(options: argparse.Namespace) -> _Drive:
    """Return the drive to replay, made first when it is frames or procedural."""
    if options.rate <= 0:
        raise BagError(f'--rate must be above 0, got {options.rate}')
    bag, notes = options.bag, tuple[str, ...]()
    if options.frames:
        bag = options.output / 'drive'
        write_drive(bag, folder_frames(options.frames, FRAME_RATE_HZ))
    elif not bag:
        count = round(options.seconds * FRAME_RATE_HZ)
        if count < 1:
            raise BagError(f'--seconds must be at least {1 / FRAME_RATE_HZ}, got {options.seconds}')
        bag, notes = options.output / 'procedural_drive', (PROCEDURAL,)
        write_drive(bag, track(_procedural_frames(count), 'rendering a night drive', count))
    with open_bag(bag) as opened:
        wanted = [options.image_topic] if options.image_topic else []
        kinds = (IMAGE, COMPRESSED_IMAGE)
        cameras = find_topics(opened, wanted, kinds, besides=[options.labels_topic])
        has_labels = any(topic.name == options.labels_topic for topic in opened.topics)
    return _Drive(
        bag,
        cameras[0].name,
        options.labels_topic if has_labels else None,
        'auto' if options.bag else 'trainIds',
        notes,
    )


def _procedural_frames(count: int) -> Iterator[Frame]:
    for frame in NightDrive(rate_hz=FRAME_RATE_HZ).frames(count):
        yield Frame(frame.stamp_ns, frame.night, frame.labels)


if __name__ == '__main__':
    sys.exit(main())
