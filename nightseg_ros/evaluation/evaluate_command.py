"""``evaluate_bag``: how good and how fast is the segmenter on my drive?

Offline, every frame of a recorded drive goes through the network as fast as the machine allows. In
replay mode the bag is played to the real node at its recorded pace, which tells latency, drops and
age. Either way a folder with report.html, report.json, report.csv and an overlay video is the
answer.

Examples:
  evaluate_bag drive --out report
  evaluate_bag drive --labels /camera/labels --fail-under miou=0.4
  evaluate_bag drive --mode replay --fail-over p99_ms=120 dropped_share=0.01
  evaluate_bag 'fleet/**/*.mcap' --image-topic /front/image_raw --out fleet_report
  evaluate_bag --compare old/report.json new/report.json --out comparison

A bag is a rosbag2 folder, a lone .mcap or .db3 file, or a ROS 1 .bag; several, and patterns, make
a report of each and one of all together. Started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from nightseg_ros.core.backends import AUTO
from nightseg_ros.core.backends import BACKENDS
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.model import PRECISIONS
from nightseg_ros.core.model import load_model
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.evaluation.bag_job import EXPECTED_ERRORS
from nightseg_ros.evaluation.bag_job import BagJob
from nightseg_ros.evaluation.bag_job import run_offline
from nightseg_ros.evaluation.bag_reader import find_bags
from nightseg_ros.evaluation.bag_reader import find_topics
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.bags import COMPRESSED_IMAGE
from nightseg_ros.evaluation.bags import IMAGE
from nightseg_ros.evaluation.bags import LABELS_TOPIC
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.console import drives_bar
from nightseg_ros.evaluation.console import frames_bar
from nightseg_ros.evaluation.console import print_report
from nightseg_ros.evaluation.drive_files import load_result
from nightseg_ros.evaluation.evaluate import write_merged
from nightseg_ros.evaluation.fleet import run_locally
from nightseg_ros.evaluation.fleet import run_on_ray
from nightseg_ros.evaluation.interruption import termination_as_interrupt
from nightseg_ros.evaluation.label_formats import LABEL_FORMATS
from nightseg_ros.evaluation.offline import Engine
from nightseg_ros.evaluation.offline import cores
from nightseg_ros.evaluation.report.comparison import write_comparison
from nightseg_ros.evaluation.request import OFFLINE
from nightseg_ros.evaluation.request import REPLAY
from nightseg_ros.evaluation.request import DriveRequest
from nightseg_ros.evaluation.request import report_of
from nightseg_ros.evaluation.summary import ALL_METRICS
from nightseg_ros.evaluation.summary import drive_line
from nightseg_ros.evaluation.thresholds import Threshold
from nightseg_ros.evaluation.thresholds import failures

LIMIT_BROKEN, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes besides 0."""

NO_LABELS = 'none'


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns:
        0; 1 when a limit of ``--fail-under`` or ``--fail-over`` is broken; 2 when a bag, or all of
        them, could not be evaluated; 130 when interrupted.
    """
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        if options.compare:
            return _compare(options)
        with termination_as_interrupt():
            return _evaluate(options, console)
    except EXPECTED_ERRORS as error:
        print(f'error: {error}', file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED


# Arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='evaluate_bag',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f'metrics of --fail-under and --fail-over: {", ".join(ALL_METRICS)}',
    )
    parser.add_argument('bags', nargs='*', metavar='BAG', help='bags, folders of bags, patterns')
    parser.add_argument('--out', type=Path, default=Path('evaluation'), help='folder of the report')
    parser.add_argument(
        '--image-topic',
        nargs='+',
        default=[],
        metavar='TOPIC',
        help='cameras, names or patterns ("/cam_*/image_raw"); not needed where there is one',
    )

    truth = parser.add_argument_group('ground truth')
    truth.add_argument(
        '--labels',
        nargs='+',
        default=[],
        metavar='TOPIC|FOLDER',
        help=f'for each camera, in their order; "{NO_LABELS}" for a camera without; {{bag}} in it '
        f'stands for the name of the bag. Default: {LABELS_TOPIC} where the bag has it',
    )
    truth.add_argument(
        '--label-format',
        choices=('auto', *LABEL_FORMATS),
        default='auto',
        help='what the masks hold; auto recognises it (default)',
    )
    truth.add_argument(
        '--tolerance-ms',
        type=float,
        default=10.0,
        help='by which stamps of image and label may differ (default 10)',
    )
    truth.add_argument(
        '--bootstrap-seconds',
        type=float,
        default=0.0,
        help='intervals resample stretches of this length instead of single frames, which '
        'resemble their neighbours (default 0: frames)',
    )

    run = parser.add_argument_group('how it is run')
    run.add_argument('--mode', choices=(OFFLINE, REPLAY), default=OFFLINE)
    run.add_argument('--rate', type=float, default=1.0, help='of a replay: 2 is twice as fast')
    run.add_argument('--model', type=Path, help='an exported ONNX instead of the released one')
    run.add_argument('--backend', choices=(AUTO, *BACKENDS), default=AUTO)
    run.add_argument('--precision', choices=(AUTO, *PRECISIONS), default=AUTO)
    run.add_argument(
        '--workers', type=int, default=0, help='frames at a time (default: a core each)'
    )
    run.add_argument('--jobs', type=int, default=0, help='bags at a time (default: a core each)')
    run.add_argument(
        '--ray',
        metavar='ADDRESS',
        help='evaluate the bags on a Ray cluster (auto, HOST:PORT, ray://...) whose machines see '
        'the same files; local starts one here',
    )
    run.add_argument('--fresh', action='store_true', help='do finished bags again')

    also = parser.add_argument_group('what else is written')
    also.add_argument('--no-video', action='store_true', help='no overlay video')
    also.add_argument(
        '--write-bag',
        type=Path,
        metavar='BAG',
        help='a bag with the topics of the input and the masks beside them, in step; of several '
        'bags a folder of bags',
    )
    also.add_argument('--rerun', type=Path, metavar='FILE.rrd', help='for the Rerun viewer')

    judge = parser.add_argument_group('what it is judged by')
    judge.add_argument(
        '--fail-under', nargs='+', default=[], metavar='METRIC=VALUE', help='exit code 1 if below'
    )
    judge.add_argument(
        '--fail-over', nargs='+', default=[], metavar='METRIC=VALUE', help='exit code 1 if above'
    )
    judge.add_argument(
        '--compare',
        nargs=2,
        type=Path,
        metavar=('A.json', 'B.json'),
        help='two reports side by side, with the significance of the difference',
    )
    return parser


def _check(options: argparse.Namespace) -> None:
    if not options.bags:
        raise BagError('name a bag to evaluate, or two reports to --compare; --help shows how')
    if not 0 < options.rate < math.inf:
        raise BagError(f'--rate must be above 0, got {options.rate}')
    for name in ('tolerance_ms', 'bootstrap_seconds', 'workers', 'jobs'):
        if not 0 <= getattr(options, name) < math.inf:
            option = name.replace('_', '-')
            raise BagError(f'--{option} must be a number from 0, got {getattr(options, name)}')
    for extra in (options.write_bag, options.rerun):
        if extra is not None and options.out.absolute().is_relative_to(extra.absolute()):
            raise BagError(f'the report ({options.out}) would lie in {extra}: choose another --out')
    if options.mode == REPLAY and options.ray:
        raise BagError('a replay measures this machine: --ray is for --mode offline')


# Comparing


def _compare(options: argparse.Namespace) -> int:
    if options.bags or options.fail_under or options.fail_over:
        raise BagError('--compare takes two reports, and neither bags nor limits')
    reports = []
    for path in options.compare:
        try:
            reports.append(json.loads(path.read_text(encoding='utf-8')))
        except (OSError, ValueError) as error:
            raise BagError(f'{path} is no report.json of evaluate_bag: {error}') from error
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        write_comparison(reports[0], reports[1], options.out)
    except OSError as error:
        raise BagError(f'{options.out} cannot be written: {error.strerror}') from error
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise BagError(f'one of the reports is damaged ({error!r}): evaluate again') from error
    print(options.out / 'comparison.html')
    return 0


# Evaluating


@dataclass
class _Run:
    """What became of the bags."""

    errors: list[str] = field(default_factory=list)
    interrupted: bool = False


def _evaluate(options: argparse.Namespace, console: Console) -> int:
    _check(options)
    limits = [Threshold.parse(text, upper=False) for text in options.fail_under]
    limits += [Threshold.parse(text, upper=True) for text in options.fail_over]
    # Absolute: "." has no name, and processes elsewhere stand in other folders.
    paths = [Path(os.path.abspath(path)) for path in find_bags(options.bags)]
    for name in ('out', 'write_bag', 'rerun'):
        path = getattr(options, name)
        setattr(options, name, path and path.absolute())
    run_since_ns = time.time_ns()
    engine = _engine(options, console)
    run = _Run()
    jobs = _jobs(options, paths, engine, run)
    single = len(paths) == 1 and len(jobs) == 1 and len(jobs[0].drives) == 1
    if single:
        jobs = [replace(jobs[0], drives=(replace(jobs[0].drives[0], output=options.out),))]
    elif options.rerun and len(paths) > 1:
        raise BagError('--rerun records one bag: name one')
    _run_jobs(options, jobs, run, console)
    report = _report(jobs, single, options.out, run_since_ns)
    for error in run.errors:
        print(f'error: {error}', file=sys.stderr)
    if report is None:
        return INTERRUPTED if run.interrupted else BAD_INPUT
    print_report(console, report, options.out)
    broken = failures(limits, report)
    for failure in broken:
        print(f'limit broken: {failure}', file=sys.stderr)
    if run.interrupted or report['interrupted']:
        return INTERRUPTED
    if run.errors or not report['complete']:
        return BAD_INPUT
    return LIMIT_BROKEN if broken else 0


def _engine(options: argparse.Namespace, console: Console) -> Engine:
    """Return what makes the masks; 'auto' is decided here, once for all bags."""
    load_model(options.model)
    engine = Engine(options.model, options.backend, options.precision)
    if options.mode == REPLAY or AUTO not in (options.backend, options.precision):
        return engine
    with console.status('choosing the backend'):
        settings = BackendOptions(threads=1, precision=options.precision)
        segmenter = Segmenter.load(options.model, options.backend, settings)
        chosen = Engine(options.model, segmenter.backend.name, segmenter.backend.precision)
        segmenter.close()
    return chosen


def _jobs(
    options: argparse.Namespace, paths: Sequence[Path], engine: Engine, run: _Run
) -> list[BagJob]:
    """Return what is to be done; bags that cannot be opened are noted as errors."""
    at_once = _jobs_at_once(options, len(paths))
    workers = options.workers or max(1, cores() // at_once)
    jobs = []
    taken: set[Path] = set()
    for path in paths:
        try:
            drives = tuple(_drives(options, path, engine, taken))
        except EXPECTED_ERRORS as error:
            run.errors.append(str(error))
            continue
        write_bag = options.write_bag
        if write_bag is not None and len(paths) > 1:
            write_bag = _untaken(write_bag / path.name, taken)
        jobs.append(BagJob(drives, workers, write_bag, options.rerun))
    return jobs


def _jobs_at_once(options: argparse.Namespace, bags: int) -> int:
    return min(options.jobs or cores(), bags)


def _drives(
    options: argparse.Namespace, path: Path, engine: Engine, taken: set[Path]
) -> Iterator[DriveRequest]:
    with open_bag(path) as bag:
        kinds = (IMAGE, COMPRESSED_IMAGE)
        truths = [label for label in options.labels if label.startswith('/')]
        cameras = find_topics(bag, options.image_topic, kinds, besides=[LABELS_TOPIC, *truths])
        topics = {topic.name for topic in bag.topics}
    labels = _labels(options.labels, path, [camera.name for camera in cameras], topics)
    for camera, truth in zip(cameras, labels, strict=True):
        folder = '_'.join([_name(path), *camera.name.strip('/').split('/')])
        yield DriveRequest(
            bag=path,
            camera=camera.name,
            output=_untaken(options.out / folder, taken),
            engine=engine,
            labels=truth,
            label_format=options.label_format,
            tolerance_ms=options.tolerance_ms,
            bootstrap_s=options.bootstrap_seconds,
            mode=options.mode,
            rate=options.rate,
            extras=tuple(str(p) for p in (options.write_bag, options.rerun) if p is not None),
            video=not options.no_video,
        )


def _labels(
    asked: Sequence[str], path: Path, cameras: Sequence[str], topics: Iterable[str]
) -> list[str | None]:
    """Return the ground truth of each camera."""
    if not asked:
        only = LABELS_TOPIC if LABELS_TOPIC in topics and len(cameras) == 1 else None
        return [only] * len(cameras)
    if len(asked) != len(cameras):
        raise BagError(
            f'{path.name} has {len(cameras)} cameras ({", ".join(cameras)}) and --labels names '
            f'{len(asked)}: name one for each camera, "{NO_LABELS}" for one without'
        )
    return [
        None if label == NO_LABELS else os.path.abspath(label.replace('{bag}', _name(path)))
        for label in asked
    ]


def _name(bag: Path) -> str:
    """Return the name of a bag, without the suffix of a file."""
    return bag.stem if bag.is_file() else bag.name


def _untaken(path: Path, taken: set[Path]) -> Path:
    """Return a path that nobody else has: bags of different folders may share a name."""
    free, number = path, 2
    while free in taken:
        free, number = path.with_name(f'{path.name}_{number}'), number + 1
    taken.add(free)
    return free


# Running


def _run_jobs(
    options: argparse.Namespace, jobs: Sequence[BagJob], run: _Run, console: Console
) -> None:
    done = [] if options.fresh else [job for job in jobs if job.finished()]
    if done:
        console.print(f'{len(done)} of {len(jobs)} bags are finished: --fresh does them again')
    open_jobs = [job for job in jobs if job not in done]
    try:
        if options.mode == REPLAY:
            _replay_one_by_one(open_jobs, run, console)
        elif options.ray:
            _fleet(run_on_ray(open_jobs, options.ray), len(open_jobs), run, console)
        elif len(open_jobs) == 1:
            with frames_bar(console) as progress:
                run_offline(open_jobs[0], progress)
        elif open_jobs:
            at_once = _jobs_at_once(options, len(open_jobs))
            _fleet(run_locally(open_jobs, at_once), len(open_jobs), run, console)
    except KeyboardInterrupt:
        run.interrupted = True
    except EXPECTED_ERRORS as error:
        run.errors.append(str(error))


def _replay_one_by_one(jobs: Sequence[BagJob], run: _Run, console: Console) -> None:
    # Only a replay needs ROS.
    from nightseg_ros.evaluation.replay import ReplayError
    from nightseg_ros.evaluation.replay_job import run_replay
    from nightseg_ros.evaluation.ros_environment import isolate_ros

    isolate_ros()
    for job in jobs:
        try:
            with frames_bar(console) as progress:
                run_replay(job, progress)
        except (*EXPECTED_ERRORS, ReplayError) as error:
            run.errors.append(f'{job.bag.name}: {error}')


def _fleet(outcomes: Iterator[Any], bags: int, run: _Run, console: Console) -> None:
    with drives_bar(console) as bar:
        task = bar.add_task('bags', total=bags)
        for outcome in outcomes:
            if outcome.error:
                run.errors.append(outcome.error)
            bar.advance(task)


def _report(
    jobs: Sequence[BagJob], single: bool, out: Path, run_since_ns: int
) -> dict[str, Any] | None:
    """Return report.json of everything, written first where there are several drives."""
    drives = [drive for job in jobs for drive in job.drives]
    reports = [(drive.output, report_of(drive, run_since_ns)) for drive in drives]
    found = [(folder, report) for folder, report in reports if report is not None]
    if not found:
        return None
    if single:
        return found[0][1]
    lines = [drive_line(report, folder.name) for folder, report in found]
    return write_merged((load_result(folder) for folder, _ in found), lines, out)


if __name__ == '__main__':
    sys.exit(main())
