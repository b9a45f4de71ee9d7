"""``python -m training recipes``: variants of the released recipe, trained briefly and compared.

A variant is a config file put after that of the base: it says what it changes and nothing else.
Each is trained with every seed, exported, and measured as a vehicle would run it. Every training
is a process of its own: interrupted, the same command goes on where it was.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from statistics import stdev

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from training.check_night import CHECKS
from training.data.frames import DataError
from training.fit import LAST
from training.methods.method import TrainingError

LABELLED = {
    'miou/camvid_day_val': 'day',
    'miou/camvid_dusk_dev': 'dusk',
    'miou/night_dev': 'night',
    'road_iou/motorcycle_night_dev': 'motorcycle road',
}
"""Measures on frames with truth, and their headings."""

COLUMNS = {
    **LABELLED,
    'relit/roadscene_day/accuracy': 'relit agreement',
    'exposure_consistency/roadscene_night': 'exposure consistency',
}
"""What is compared: the check's name and its heading."""

_EMA_DECAY = 0.99
"""A longer average would still hold the untrained net at the end of a short training."""

_MIN_AGREEMENT = 0.97
"""A net that has learnt little has many pixels at a tie."""

Values = dict[str, dict[str, list[float]]]
"""Of every recipe and column, one value for each seed."""


@dataclass(frozen=True)
class Run:
    """One training: base and variant, where from and where to, with what seed."""

    recipe: str
    configs: tuple[Path, ...]
    initial: Path | None
    folder: Path
    steps: int
    seed: int


def recipes(
    base: list[Path] = [Path('training/configs/night_student.yaml')],  # noqa: B006
    variants: Path = Path('training/configs/recipes'),
    only: list[str] | None = None,
    initial: Path | None = None,
    output: Path = Path('build/recipes'),
    steps: int = 500,
    seeds: int = 1,
    height: int = 384,
    width: int = 640,
    data_root: Path = Path('../shared/data'),
    workers: int = 1,
) -> None:
    """Train variants of a recipe and compare how they see by day, at dusk and at night.

    Eight minutes a variant and seed on two cores. Look at the sheets of masks in each run's folder,
    too: two labelled nights tell little.

    Args:
        base: configs of the recipe, one put after the other.
        variants: folder of config files, each put after the base.
        only: names of the variants, without suffix; null takes all.
        initial: checkpoint or released model that every run starts from; null: what the configs
            name.
        output: folder of the runs, recipes.json, recipes.md and recipes.png.
        steps: optimiser steps of each run.
        seeds: runs of each variant, with seeds 1, 2, ...
        height: at which masks are measured.
        width: at which masks are measured.
        data_root: folder of the measuring sets.
        workers: runs at a time, which share the cores: no faster on two.
    """
    found = {path.stem: path for path in sorted(Path(variants).glob('*.yaml'))}
    names = only or list(found)
    unknown = [name for name in names if name not in found]
    if unknown or not names:
        raise DataError(f'no variant {unknown} in {variants}: there are {list(found)}')
    runs = [
        Run(
            name,
            (*base, found[name]),
            initial,
            Path(output) / f'{name}_{steps}' / f'seed_{seed}',
            steps,
            seed,
        )
        for seed in range(1, seeds + 1)
        for name in names
    ]
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(lambda run: _finish(run, threads, height, width, data_root), runs)
        checks = list(track(results, f'{len(runs)} trainings', total=len(runs)))
    values: Values = {name: {column: [] for column in COLUMNS} for name in names}
    for run, result in zip(runs, checks, strict=True):
        for column in COLUMNS:
            values[run.recipe][column].append(result[column])
    output.mkdir(parents=True, exist_ok=True)
    (output / 'recipes.json').write_text(json.dumps(values, indent=1) + '\n')
    (output / 'recipes.md').write_text(markdown(values, steps))
    draw(values, output / 'recipes.png')
    table = Table('recipe', *COLUMNS.values(), title=f'{seeds} seeds, {steps} steps')
    for name, columns in values.items():
        table.add_row(name, *(spread(columns[column]) for column in COLUMNS))
    Console().print(table)
    Console().print(f'plot: {output / "recipes.png"}', soft_wrap=True)


def _finish(run: Run, threads: int, height: int, width: int, data_root: Path) -> dict[str, float]:
    """Train, export and check what is not done yet; what the programs say goes to log.txt."""
    checks = run.folder / 'night' / CHECKS
    if not checks.is_file():
        run.folder.mkdir(parents=True, exist_ok=True)
        configs = [part for path in run.configs for part in ('--config', str(path))]
        every = str(run.steps)
        fit = ['fit', *configs, '--output', str(run.folder), '--steps', every, '--seed']
        fit += [str(run.seed), '--measure_every', every, '--progress', 'false']
        # The exported model is measured, so that torch need not measure as well.
        fit += ['--ema_decay', str(_EMA_DECAY), '--data.measuring', '{}']
        fit += ['--initial', str(run.initial)] if run.initial is not None else []
        model = str(run.folder / 'model.onnx')
        size = ['--height', str(height), '--width', str(width), '--data_root', str(data_root)]
        export = ['export', '--checkpoint', str(run.folder / LAST), '--output', model, *size]
        export += ['--min_agreement', str(_MIN_AGREEMENT)]
        check = ['check_night', '--model', model, '--output', str(run.folder / 'night')]
        check += ['--frames', '20', '--data_root', str(data_root)]
        for arguments in (fit, export, check):
            _call(arguments, threads, run.folder / 'log.txt')
    return json.loads(checks.read_text())


def _call(arguments: Sequence[str], threads: int, log: Path) -> None:
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
    with log.open('a') as file:
        command = [sys.executable, '-m', 'training', *arguments]
        done = subprocess.run(command, stdout=file, stderr=file, env=environment, check=False)
    if done.returncode:
        raise TrainingError(f'{arguments[0]} ended with {done.returncode}: see {log}')


def spread(values: Sequence[float]) -> str:
    """Return mean and deviation over seeds, as text."""
    deviation = f' ± {stdev(values):.3f}' if len(values) > 1 else ''
    return f'{mean(values):.3f}{deviation}'


def markdown(values: Values, steps: int) -> str:
    """Return the table for docs/."""
    lines = [
        f'| recipe ({steps} steps) | seeds | {" | ".join(COLUMNS.values())} |',
        '|---' * (len(COLUMNS) + 2) + '|',
    ]
    for name, columns in values.items():
        seeds = len(columns[next(iter(COLUMNS))])
        cells = ' | '.join(spread(columns[column]) for column in COLUMNS)
        lines.append(f'| {name} | {seeds} | {cells} |')
    return '\n'.join(lines) + '\n'


def draw(values: Values, path: Path) -> None:
    """Plot the labelled measures side by side: bars for means, a dot for every seed."""
    columns = list(LABELLED)
    figure = Figure(figsize=(11, 0.42 * len(values) + 1.3), layout='constrained')
    FigureCanvasAgg(figure)
    names = list(values)[::-1]
    rows = np.arange(len(names))
    for axes, column in zip(figure.subplots(1, len(columns), sharey=True), columns, strict=True):
        axes.barh(rows, [mean(values[name][column]) for name in names], 0.6, color='#9db8ea')
        for row, name in zip(rows, names, strict=True):
            seeds = values[name][column]
            axes.plot(seeds, [row] * len(seeds), 'o', color='#16325c', ms=3.5)
            axes.text(0.01, row, spread(seeds), va='center', fontsize=8)
        axes.set_yticks(rows, names)
        axes.set_title(COLUMNS[column], fontsize=10)
        axes.set_xlim(0, 1)
        for side in ('top', 'right'):
            axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=130)
