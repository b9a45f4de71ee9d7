"""``python -m training ablation``: the methods side by side on procedural streets, on any machine.

A small network first learns from labelled days; then every method goes on from there for the same
number of steps, with several seeds. What is measured is the mIoU on nights of unseen streets, with
the batch statistics that training left and with those of the target's nights.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr
from contextlib import redirect_stdout
from pathlib import Path
from statistics import mean
from statistics import stdev
from typing import Literal
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models.discriminator import Discriminator
from models.relighting import CurveRelighting
from models.student import Student
from training.adversary import Adversary
from training.checkpoint import load_method
from training.data.driving_data import DrivingData
from training.data.labelled_set import LabelledFrames
from training.data.pair_set import PairedFolders
from training.data.procedural import render
from training.data.transforms import PairTransform
from training.data.transforms import SourceTransform
from training.evaluation.protocol import EvaluationProtocol
from training.evaluation.scores import evaluate_method
from training.fit import LAST
from training.fit import fit
from training.losses.light import LightLoss
from training.losses.static import StaticLoss
from training.methods.adaptsegnet import AdaptSegNet
from training.methods.bimix import BiMix
from training.methods.dannet import DANNet
from training.methods.method import Method
from training.methods.selftrain import SelfTrain
from training.methods.source_only import SourceOnly
from training.optimisation import PolyAdamW
from training.recalibrate import estimate_statistics
from training.self_training import SelfTraining

HEIGHT, WIDTH = 128, 256
CROP = (128, 128)
NIGHT, RECALIBRATED, DAY = 'night', 'night, recalibrated', 'day'

Pairs = Literal['aligned', 'shifted']
DAYS = {'aligned': 'target_day', 'shifted': 'target_day_shifted'}
"""Folder of the day frames."""


KEYS = (NIGHT, RECALIBRATED, DAY)

Scores = dict[str, dict[str, list[float]]]
"""mIoU of every seed by method and by what was measured."""


def _net() -> Student:
    return Student(width=12, exposure_width=0)


def _common() -> dict:
    return {'optimizer': PolyAdamW(5e-4, warmup=20, weight_decay=0.01), 'measure_weight_std': None}


def _adversary(loss: str = 'least_squares', weight: float = 0.01) -> Adversary:
    return Adversary(Discriminator(channels=(16, 32, 64, 64)), loss, weight)


def _self_training() -> SelfTraining:
    return SelfTraining(decay=0.99, mask_block=16)


def _dannet(**changes) -> DANNet:
    arguments = {
        'relighting': CurveRelighting(width=8),
        'light': LightLoss('dannet'),
        'static': StaticLoss(),
        'day_adversary': _adversary(),
        'night_adversary': _adversary(),
        **_common(),
    }
    return DANNet(_net(), **{**arguments, **changes})


def _bimix(**changes) -> BiMix:
    arguments = {
        'relighting': CurveRelighting(width=8),
        'light': LightLoss('bimix'),
        'day_adversary': _adversary(),
        'night_adversary': _adversary(),
        **_common(),
    }
    return BiMix(_net(), **{**arguments, **changes})


METHODS: dict[str, Callable[[], Method]] = {
    'source_only': lambda: SourceOnly(_net(), **_common()),
    'adaptsegnet': lambda: AdaptSegNet(
        _net(), adversary=_adversary('cross_entropy', 0.001), **_common()
    ),
    'dannet': _dannet,
    'bimix': _bimix,
    'selftrain': lambda: SelfTrain(_net(), _self_training(), **_common()),
}
"""What is compared. DANNet has Bi-Mix's relighting, too: its own is too slow for a CPU."""

WHY: dict[str, Callable[[], Method]] = {
    'dannet w/o static': lambda: _dannet(static=None),
    'dannet w/o adversaries': lambda: _dannet(
        day_adversary=_adversary(weight=0.0), night_adversary=_adversary(weight=0.0)
    ),
    'dannet w/o relighting': lambda: _dannet(relighting=None, light=None),
    'dannet + selftrain': lambda: _dannet(self_training=_self_training()),
    'bimix, mixing x1000': lambda: _bimix(mix_to_segmentation=1.0),
    'selftrain w/o mixing': lambda: SelfTrain(
        _net(), SelfTraining(mix_weight=0, decay=0.99, mask_block=16), **_common()
    ),
    'selftrain w/o masks': lambda: SelfTrain(
        _net(), SelfTraining(masked_weight=0, decay=0.99), **_common()
    ),
}
"""Parts left out or weighed otherwise, to tell what helps and what does not."""


class Job(NamedTuple):
    """One training: which method, where to, from what."""

    method: str
    folder: Path
    streets: Path
    pairs: str
    steps: int
    seed: int
    initial: Path | None = None


def ablation(
    output: Path = Path('build/ablation'),
    pretraining_steps: int = 600,
    steps: int = 300,
    seeds: int = 3,
    pairs: Pairs = 'aligned',
    why: bool = False,
    workers: int = 0,
) -> None:
    """Compare the methods on procedural streets: mean and deviation of night mIoU over seeds.

    Takes about half an hour on two cores. Interrupted, it goes on where it was; finished trainings
    are not repeated.

    Args:
        output: folder of frames, checkpoints, results_PAIRS.json and ablation_PAIRS.png.
        pretraining_steps: steps of source only that all methods start from.
        steps: steps of each method after that.
        seeds: of weights, batches and crops.
        pairs: day and night aligned to the pixel, or days shifted along the street.
        why: also train variants that tell which part of a method does what.
        workers: trainings at a time, one thread each: networks this small gain nothing from
            more; 0 takes one for each core.
    """
    output = Path(output)
    streets = render(output / 'streets', HEIGHT, WIDTH)
    methods = [*METHODS, *(WHY if why else ())]
    first, second = [], []
    for seed in range(1, seeds + 1):
        folder = output / f'seed_{seed}'
        start = folder / f'pretrained_{pretraining_steps}'
        first.append(Job('source_only', start, streets, pairs, pretraining_steps, seed))
        for name in methods:
            own = folder / pairs / _folder_name(f'{name} {pretraining_steps} {steps}')
            second.append(Job(name, own, streets, pairs, steps, seed, start / LAST))
    _train_all(first, 'pre-training', workers)
    results = _train_all(second, f'{len(methods)} methods', workers)
    scores: Scores = {name: {key: [] for key in KEYS} for name in methods}
    for job, result in zip(second, results, strict=True):
        for key, value in result.items():
            scores[job.method][key].append(value)
    (output / f'results_{pairs}.json').write_text(json.dumps(scores, indent=1))
    _print(scores, seeds, steps, pairs)
    _draw(scores, pairs, output / f'ablation_{pairs}.png')
    Console().print(f'plot: {output / f"ablation_{pairs}.png"}', soft_wrap=True)


def _folder_name(text: str) -> str:
    return text.replace(' ', '_').replace('/', '')


def _train_all(jobs: list[Job], what: str, workers: int) -> list[dict[str, float]]:
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        return [_train(job) for job in track(jobs, what)]
    spawn = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(workers, spawn, torch.set_num_threads, (1,)) as pool:
        return list(track(pool.map(_train, jobs), what, total=len(jobs)))


def _train(job: Job) -> dict[str, float]:
    """Train and measure, unless that is done; what training says goes to log.txt."""
    done = job.folder / 'result.json'
    if done.is_file():
        return json.loads(done.read_text())
    job.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(job.seed)
    pairs = PairedFolders(job.streets, DAYS[job.pairs], 'target_night')
    data = DrivingData(
        [LabelledFrames(job.streets / 'source')],
        [pairs],
        {},
        SourceTransform(CROP, scale=(1.0, 1.5)),
        PairTransform(CROP, scale=(1.0, 1.5), resize=None),
        batch_size=4,
        workers=0,
    )
    with (job.folder / 'log.txt').open('a') as log, redirect_stdout(log), redirect_stderr(log):
        fit(
            data,
            {**METHODS, **WHY}[job.method](),
            job.folder,
            steps=job.steps,
            measure_every=job.steps,
            checkpoint_every=100,
            initial=job.initial,
            seed=job.seed,
            progress=False,
        )
    result = _measure(job.folder / LAST, job.streets, pairs)
    done.write_text(json.dumps(result))
    return result


def _measure(checkpoint: Path, streets: Path, pairs: PairedFolders) -> dict[str, float]:
    """Return the mIoU by day and by night, there also with batch statistics of the target."""
    method = load_method(checkpoint)
    protocol = EvaluationProtocol(predict_size=None, class_weight_std=None)

    def miou(name: str) -> float:
        return evaluate_method(method, LabelledFrames(streets / name), protocol).mean_iou

    result = {NIGHT: miou('measured_night'), DAY: miou('measured_day')}
    nights = [torch.from_numpy(pair.night).permute(2, 0, 1) for pair in pairs]
    estimate_statistics(method.generator, torch.stack(nights).split(8))
    return {**result, RECALIBRATED: miou('measured_night')}


def _print(scores: Scores, seeds: int, steps: int, pairs: str) -> None:
    title = f'mIoU over {seeds} seeds, {steps} steps, {pairs} pairs'
    table = Table('method', *KEYS, title=title)
    for name, values in scores.items():
        table.add_row(name, *(_spread(values[key]) for key in KEYS))
    Console().print(table)


def _spread(values: list[float]) -> str:
    deviation = f' ± {stdev(values):.3f}' if len(values) > 1 else ''
    return f'{mean(values):.3f}{deviation}'


def _draw(scores: Scores, pairs: str, path: Path) -> None:
    """Plot mIoU by night: bars for means, a dot for every seed."""
    figure = Figure(figsize=(8.5, 0.7 * len(scores) + 1.4), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = list(scores)[::-1]
    rows = np.arange(len(names))
    looks = (
        (RECALIBRATED, "of the target's nights", 0.19, '#2f6fde'),
        (NIGHT, 'as training left them', -0.19, '#9db8ea'),
    )
    for key, label, offset, color in looks:
        values = [scores[name][key] for name in names]
        axes.barh(rows + offset, [mean(v) for v in values], 0.36, color=color, label=label)
        for row, seeds in zip(rows + offset, values, strict=True):
            axes.plot(seeds, [row] * len(seeds), 'o', color='#16325c', ms=3.5)
            place = (max(*seeds, mean(seeds)), row)
            axes.annotate(
                _spread(seeds), place, (7, 0), textcoords='offset points', va='center', fontsize=9
            )
    axes.set_yticks(rows, names)
    axes.set_xlim(0, 1.35 * max(max(scores[name][key]) for name in names for key in KEYS[:2]))
    axes.set_xlabel(f'mIoU on unseen nights ({pairs} pairs)')
    axes.legend(loc='lower right', frameon=False, title='batch statistics', reverse=True)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=130)
