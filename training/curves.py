"""Training curves: losses, learning rate and mIoU over the steps, as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from lightning import LightningModule
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Curve = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Steps in order, and values."""

_WINDOW = 25
"""Logged values that the drawn mean runs over, at most: a batch is a few crops."""


class CurvesPicture(Callback):
    """Draws the curves of a training after each measurement, and at its end.

    Args:
        logs: folder of ``metrics.csv`` and of what earlier calls left beside it.
        picture: PNG to write.
    """

    def __init__(self, logs: Path, picture: Path) -> None:
        self.logs = logs
        self.picture = picture

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what is logged so far."""
        if trainer.logger is not None:
            trainer.logger.save()
        draw_curves(read_curves(self.logs), self.picture)

    on_fit_end = on_validation_end


def read_curves(logs: Path) -> dict[str, Curve]:
    """Return every curve that the calls of one training logged, by name.

    Args:
        logs: folder of ``metrics.csv``, ``metrics-1.csv`` and so on; the last of them has the word
            on steps that were done twice.
    """
    earlier = sorted(logs.glob('metrics-*.csv'), key=lambda path: int(path.stem.split('-')[1]))
    values: dict[str, dict[int, float]] = {}
    for path in [*earlier, logs / 'metrics.csv']:
        if not path.is_file():
            continue
        with path.open(newline='') as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and name not in ('epoch', 'step'):
                        values.setdefault(name, {})[int(row['step'])] = float(value)
    return {
        name: (np.array(sorted(curve)), np.array([curve[step] for step in sorted(curve)]))
        for name, curve in values.items()
    }


def draw_curves(curves: dict[str, Curve], path: Path) -> None:
    """Plot losses, mIoU and the learning rate side by side; nothing without a curve."""
    panels = {
        'loss (running mean)': {n: c for n, c in curves.items() if n.startswith('loss')},
        'mIoU': {n: c for n, c in curves.items() if n.startswith('miou')},
        'learning rate': {n: c for n, c in curves.items() if n.startswith('lr')},
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return
    figure = Figure(figsize=(4.6 * len(panels), 3.6), layout='constrained')
    FigureCanvasAgg(figure)
    for axes, (title, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        _draw_panel(axes, title, lines)
    figure.savefig(path, dpi=110)


def _draw_panel(axes: Axes, title: str, lines: dict[str, Curve]) -> None:
    losses = title.startswith('loss')
    for name, (steps, values) in sorted(lines.items()):
        shown = _running_mean(values) if losses else values
        label = name.partition('/')[2] or name
        axes.plot(steps, shown, '-' if losses or len(steps) > 20 else 'o-', ms=3, label=label)
        if title == 'mIoU':
            axes.annotate(f'{values[-1]:.3f}', (steps[-1], values[-1]), fontsize=7, va='bottom')
    if losses and all((values > 0).all() for _, values in lines.values()):
        axes.set_yscale('log')
    axes.set_title(title, fontsize=10)
    axes.set_xlabel('step', fontsize=8)
    axes.tick_params(labelsize=8)
    if title != 'learning rate':
        axes.legend(fontsize=7, frameon=False)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each value and those before it, up to a window."""
    window = min(_WINDOW, max(1, len(values) // 10))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
