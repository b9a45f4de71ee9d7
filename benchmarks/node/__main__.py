"""How fast the node is, against what cannot be avoided and against what is commonly written.

Everything is measured on this machine in one run, in processes of their own, over real DDS:

  inference  the backend alone on an image that is ready, at the camera's pace (and back to back:
             a processor that rests between frames is slower). Ratios use the paced one.
  floor      a node that does nothing: an image comes in, a mask of its size goes out at once.
  night_seg  this package's node: image published to mask received.
  common     the node that most people write: cv_bridge's copies, logits to numpy, one thread.

The headline is night_seg / (inference + floor): what the node adds to the unavoidable. Quantities
take turns in short bursts, so that a machine's noise hits all alike; medians over the whole run,
and of the ratios of single rounds, are told side by side. Trust neither when they disagree: run it
again on a quiet machine.

Afterwards cameras publish faster than the node can follow, and several at once: what comes through
must be new, whatever is dropped.

Examples:
  python -m benchmarks.node                                   everything, about six minutes
  python -m benchmarks.node --sizes 1280x720 --no-throughput  the headline alone, two minutes
  python -m benchmarks.node --backend onnxruntime --rounds 8  one backend, more samples
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn
from rich.progress import MofNCompleteColumn
from rich.progress import Progress
from rich.progress import TextColumn
from rich.progress import TimeElapsedColumn

from benchmarks.node.report import all_figures
from benchmarks.node.report import show
from benchmarks.node.report import write_chart
from benchmarks.node.schedule import WARM_UP
from benchmarks.node.schedule import Plan
from benchmarks.node.schedule import Schedule
from benchmarks.node.schedule import Size
from benchmarks.node.schedule import name_of
from nightseg_ros.core.backends import AUTO
from nightseg_ros.core.backends import BACKENDS
from nightseg_ros.evaluation.ros_environment import isolate_ros
from nightseg_ros.simulation.night_drive import SMALLEST

SIZES: tuple[Size, ...] = ((640, 480), (1280, 720), (1920, 1080))


def size(text: str) -> Size:
    """Return WIDTHxHEIGHT as numbers."""
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if match is None or min(map(int, match.groups())) < SMALLEST:
        raise argparse.ArgumentTypeError(
            f'{text} is no size like 1280x720 of at least {SMALLEST} pixels a side'
        )
    return int(match[1]), int(match[2])


def positive(text: str) -> float:
    """Return a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is no number above 0')
    return number


def count(text: str) -> int:
    """Return a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text} is no whole number above 0')
    return int(text)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.node',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--sizes', type=size, nargs='+', default=list(SIZES), metavar='WxH',
        help='of the images; the headline is 1280x720 or else the last (default: '
        f'{" ".join(map(name_of, SIZES))})',
    )  # fmt: skip
    parser.add_argument(
        '--seconds', type=positive, default=4.0,
        help=f'of a burst, whose first {WARM_UP} frames do not count (default: %(default)g)',
    )  # fmt: skip
    parser.add_argument(
        '--rounds', type=count, default=4,
        help='bursts of each quantity at each size, taking turns (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--hz', type=positive, default=10.0,
        help='pace of the camera; a slower node gets its next image after its mask '
        '(default: %(default)g)',
    )  # fmt: skip
    parser.add_argument(
        '--backend', choices=(AUTO, *BACKENDS), default=AUTO,
        help='of bare inference and night_seg; auto chooses as the node does, once for both',
    )  # fmt: skip
    parser.add_argument(
        '--model', default='', help='exported ONNX file of all nodes (default: the released one)'
    )
    parser.add_argument(
        '--cameras', type=count, default=4,
        help='at once in the last measurement; 1 leaves it out (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--throughput', action=argparse.BooleanOptionalAction, default=True,
        help='measure cameras that are too fast, and several (default: yes)',
    )  # fmt: skip
    parser.add_argument(
        '--default-transport', action=argparse.BooleanOptionalAction, default=True,
        help="measure the floor without this package's Fast DDS profile too (default: yes)",
    )  # fmt: skip
    parser.add_argument(
        '--output', type=Path, default=Path('build/bench'),
        help='folder of node.json, node.png and the logs in node/ (default: %(default)s)',
    )  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print tables, write node.json and node.png; exit code 1 when a process failed."""
    options = parse(arguments)
    # Ended by others it must end its processes, as when it ends by itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    isolate_ros()
    plan = Plan(
        sizes=tuple(dict.fromkeys(options.sizes)),
        seconds=options.seconds,
        rounds=options.rounds,
        hz=options.hz,
        backend=options.backend,
        model=options.model,
        cameras=options.cameras,
        throughput=options.throughput,
        default_transport=options.default_transport,
        folder=options.output / 'node',
    )
    console = Console()
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
    # Drawn only between bursts: drawing takes processor time.
    with Progress(*columns, TimeElapsedColumn(), console=console, auto_refresh=False) as progress:
        task = progress.add_task('', total=plan.steps, completed=-1)

        def tell(what: str) -> None:
            progress.update(task, description=what, advance=1, refresh=True)

        try:
            measurement = Schedule(plan, tell).run()
        except (RuntimeError, ValueError, OSError) as error:
            console.print(f'error: {error}\nlogs in {plan.folder}', style='red', markup=False)
            return 1
        progress.update(task, description='done', completed=plan.steps, refresh=True)
    settings = {
        'seconds': plan.seconds, 'rounds': plan.rounds, 'hz': plan.hz, 'warm_up_frames': WARM_UP,
    }  # fmt: skip
    figures = all_figures(measurement, plan.headline, settings)
    show(figures, console)
    path = options.output / 'node.json'
    path.write_text(json.dumps(figures, indent=1) + '\n')
    write_chart(figures, options.output / 'node.png')
    console.print(f'\n{path}, node.png beside it, logs in {plan.folder}', markup=False)
    return 0


if __name__ == '__main__':
    sys.exit(main())
