"""``night_seg_demo``: replay a night drive through the node and report how good and how fast.

Without arguments the drive is procedural and has exact labels; ``--bag`` and ``--frames`` take a
real one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from nightseg_ros.core.backends import AUTO
from nightseg_ros.core.backends import BACKENDS
from nightseg_ros.core.model import load_model
from nightseg_ros.evaluation.bags import LABELS_TOPIC
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.bags import Frame
from nightseg_ros.evaluation.bags import folder_frames
from nightseg_ros.evaluation.bags import write_drive
from nightseg_ros.evaluation.join import evaluated_frames
from nightseg_ros.evaluation.replay import Replay
from nightseg_ros.evaluation.replay import ReplayError
from nightseg_ros.evaluation.replay import replay
from nightseg_ros.evaluation.report import Run
from nightseg_ros.evaluation.report import write_report
from nightseg_ros.evaluation.ros_environment import isolate_ros
from nightseg_ros.simulation.night_drive import NightDrive

FRAME_RATE_HZ = 10.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; exit code 2 on bad input."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        load_model(options.model)
        isolate_ros()
        bag = _drive(options)
        console.print(f'replaying {bag.name} through the node ...')
        masks_bag = options.output / 'masks'
        parameters = {'backend': options.backend}
        if options.model:
            parameters['model_path'] = str(options.model.absolute())
        run = replay(bag, masks_bag, options.image_topic, options.rate, parameters)
        report = _report(options, bag, masks_bag, run)
    except (ValueError, ReplayError) as error:  # what bags, models and the report refuse
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    _print_summary(console, report, options.output)
    return 0


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


def _drive(options: argparse.Namespace) -> Path:
    """Return the bag to replay, made first when the drive is frames or procedural."""
    if options.rate <= 0:
        raise BagError(f'--rate must be above 0, got {options.rate}')
    if options.bag:
        return options.bag
    if options.frames:
        bag = options.output / 'drive'
        write_drive(bag, folder_frames(options.frames, FRAME_RATE_HZ))
        return bag
    count = round(options.seconds * FRAME_RATE_HZ)
    if count < 1:
        raise BagError(f'--seconds must be at least {1 / FRAME_RATE_HZ}, got {options.seconds}')
    bag = options.output / 'procedural_drive'
    write_drive(bag, track(_procedural_frames(count), 'rendering a night drive', count))
    return bag


def _procedural_frames(count: int) -> Iterator[Frame]:
    for frame in NightDrive(rate_hz=FRAME_RATE_HZ).frames(count):
        yield Frame(frame.stamp_ns, frame.night, frame.labels)


def _report(options: argparse.Namespace, bag: Path, masks_bag: Path, run: Replay) -> dict:
    source = options.frames or options.bag
    notes = [
        f'Backend {run.backend}: {run.backend_reason}.',
        'Latency is the time from publishing an image to receiving its mask in another process.',
    ]
    if not source:
        notes.append('The drive is procedural: its mIoU says that the chain works, not how the '
                     'model does on real roads; see the model card for that.')  # fmt: skip
    card = load_model(options.model).card
    stamps = list(run.published_ns)
    seconds = (stamps[-1] - stamps[0]) / 1e9 if len(stamps) > 1 else 0.0
    description = Run(
        title='Night drive replay',
        source=source.name if source else 'procedural night drive',
        model=run.model,
        backend=run.backend,
        frames=len(stamps),
        rate_hz=(len(stamps) - 1) / seconds * options.rate if seconds > 0 else FRAME_RATE_HZ,
        notes=tuple(notes),
        model_card={key: value for key, value in card.items() if key != 'classes'},
    )
    frames = evaluated_frames(bag, masks_bag, run, options.image_topic, options.labels_topic)
    return write_report(track(frames, 'evaluating', len(stamps)), description, options.output)


def _print_summary(console: Console, report: dict, output: Path) -> None:
    table = Table(show_header=False)
    latency = report['latency_ms']
    rows = {
        'frames': report['frames'],
        'received': report['received'],
        'dropped': report['dropped'],
        'mIoU': report['miou'],
        'latency p50 / p95 / p99 ms': ' / '.join(
            '-' if latency[p] is None else f'{latency[p]:.1f}' for p in ('p50', 'p95', 'p99')
        ),
        'backend': report['backend'],
        'model': report['model'],
    }
    for name, value in rows.items():
        if isinstance(value, float):
            value = f'{value:.3f}'
        table.add_row(name, '-' if value is None else str(value))
    console.print(table)
    for name in ('report.html', 'report.json', 'report.csv', 'overlay.mp4'):
        if (output / name).is_file():
            console.print(f'{output / name}')


if __name__ == '__main__':
    sys.exit(main())
