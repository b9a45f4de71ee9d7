"""How much slower than the bare network is an offline evaluation: ``make bench-evaluation``.

Bare is the network alone on an image that is ready, nothing else on the machine, in the two ways
in which one can run it: as many at once as there are cores, one thread each (bare), and one on all
cores, as the node does (node). The evaluation reads a bag, decodes, segments, matches truth, counts
(IoU, EF1, calibration, flow and flicker, bootstrap), and writes rows and the overlay video. All
take turns; the ratios are medians over the rounds. Memory is that of the last evaluation, from its
first frame to its last.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle
from itertools import islice
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from nightseg_ros.core.backends import AUTO
from nightseg_ros.core.backends import BACKENDS
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.evaluation.bags import IMAGE_TOPIC
from nightseg_ros.evaluation.bags import LABELS_TOPIC
from nightseg_ros.evaluation.bags import Frame
from nightseg_ros.evaluation.bags import folder_frames
from nightseg_ros.evaluation.bags import stamp_of
from nightseg_ros.evaluation.bags import write_drive
from nightseg_ros.evaluation.evaluate import evaluate_offline
from nightseg_ros.evaluation.offline import Engine
from nightseg_ros.evaluation.offline import cores
from nightseg_ros.evaluation.offline import segmenters
from nightseg_ros.evaluation.request import DriveRequest
from nightseg_ros.simulation.night_drive import NightDrive

RATE_HZ = 10.0


def frames(folder: Path | None, count: int) -> Iterator[Frame]:
    """Return a drive of so many frames: those of a folder again and again, or procedural ones."""
    if folder is None:
        drive = NightDrive(rate_hz=RATE_HZ).frames(min(count, 100))
        source = (Frame(f.stamp_ns, f.night, f.labels) for f in drive)
    else:
        source = folder_frames(folder, RATE_HZ)
    for index, frame in enumerate(islice(cycle(source), count)):
        yield Frame(stamp_of(index, RATE_HZ), frame.image, frame.labels)


def bare_rate(loaded: list[Segmenter], seconds: float) -> float:
    """Return inferences per second of networks that run side by side and do nothing else."""
    done = [0] * len(loaded)
    deadline = time.perf_counter() + seconds

    def run(index: int) -> None:
        backend = loaded[index].backend
        while time.perf_counter() < deadline:
            backend.infer(backend.input)
            done[index] += 1

    started = time.perf_counter()
    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(loaded))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - started)


def measure(options: argparse.Namespace, folder: Path) -> dict:
    """Return every rate and the ratios of their medians."""
    bag = folder / 'drive'
    write_drive(bag, frames(options.frames, options.count), compressed=options.compressed)
    topic = f'{IMAGE_TOPIC}/compressed' if options.compressed else IMAGE_TOPIC
    first = next(iter(frames(options.frames, 1)))
    with closing(Segmenter.load(None, options.backend, BackendOptions())) as node_like:
        engine = Engine(None, node_like.backend.name, node_like.backend.precision)
        request = DriveRequest(
            bag,
            topic,
            folder / 'report',
            engine,
            labels=None if first.labels is None else LABELS_TOPIC,
            video=not options.no_video,
        )
        rates: dict[str, list[float]] = {'bare': [], 'node': [], 'evaluation': []}
        for _ in range(options.rounds):
            with segmenters(engine, options.workers) as loaded:
                rates['bare'].append(bare_rate(loaded, options.seconds))
            rates['node'].append(bare_rate([node_like], options.seconds))
            report = evaluate_offline(request, options.workers)
            rates['evaluation'].append(report['metrics']['fps'])
    pairs = list(zip(*rates.values(), strict=True))
    return {
        'backend': report['backend'],
        'frames': options.count,
        'size': f'{first.image.shape[1]}x{first.image.shape[0]}',
        'truth': first.labels is not None,
        'workers': options.workers,
        'rates_hz': rates,
        'evaluation_to_bare': median(evaluation / bare for bare, _, evaluation in pairs),
        'evaluation_to_node': median(evaluation / node for _, node, evaluation in pairs),
        'memory': report['memory'],
    }


def main() -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.offline_evaluation',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--frames', type=Path, help='images, or images/ beside labels/')
    parser.add_argument('--count', type=int, default=600, help='frames of the bag (default 600)')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--seconds', type=float, default=8.0, help='of each bare measurement')
    parser.add_argument('--workers', type=int, default=cores(), help='frames at a time')
    parser.add_argument('--backend', choices=(AUTO, *BACKENDS), default=AUTO)
    parser.add_argument('--compressed', action='store_true', help='JPEG instead of raw images')
    parser.add_argument('--no-video', action='store_true')
    parser.add_argument('--output', type=Path, default=Path('build/bench/evaluation.json'))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, Path(folder))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + '\n')
    table = Table(title=f'{found["frames"]} frames of {found["size"]}, {found["backend"]}')
    table.add_column('')
    table.add_column('frames/s', justify='right')
    for name, rates in found['rates_hz'].items():
        table.add_row(name, ' '.join(f'{rate:.1f}' for rate in rates))
    table.add_row('evaluation / bare', f'{found["evaluation_to_bare"]:.3f}')
    table.add_row('evaluation / node', f'{found["evaluation_to_node"]:.3f}')
    memory = found['memory']
    table.add_row('memory, MiB', f'{memory["first_mib"]:.0f} to {memory["last_mib"]:.0f}')
    console = Console()
    console.print(table)
    console.print(options.output)


if __name__ == '__main__':
    main()
