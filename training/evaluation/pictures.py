"""What people look at: EF1 by exposure, and sheets of the worst, median and best frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from rich.progress import track

from nightseg_ros.core.exposure_f1 import BIN_NAMES
from nightseg_ros.core.exposure_f1 import ExposureF1Result
from nightseg_ros.core.labels import CLASSES
from nightseg_ros.core.labels import NAMES
from nightseg_ros.core.labels import UNLABELLED
from nightseg_ros.core.labels import colorize
from nightseg_ros.core.overlay import overlay
from nightseg_ros.core.segmentation_score import class_iou
from nightseg_ros.core.segmentation_score import confusion_matrix
from training.data.labelled_set import LabelledSet
from training.evaluation.protocol import EvaluationProtocol
from training.evaluation.protocol import Predictor
from training.evaluation.protocol import network_input
from training.evaluation.protocol import predict_frame
from training.evaluation.published import PublishedResult
from training.evaluation.scores import Evaluation
from training.evaluation.scores import FrameScore
from training.evaluation.scores import ranked

_PANEL_WIDTH = 640
_OVERLAY_OPACITY = 0.55
_WRONG = (235, 70, 60)
_TEXT = '#3b4552'
_OURS = '#2f6fde'


def draw_ef1(exposure: ExposureF1Result, rows: Sequence[PublishedResult], path: Path) -> None:
    """Plot EF1 per exposure bin above the share of pixels of each bin, as PNG."""
    figure = Figure(figsize=(8, 5.2), layout='constrained')
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    bins = np.arange(len(BIN_NAMES))
    best = next((row for row in rows if row.ef1), None)
    if best is not None:
        upper.plot(bins, best.ef1, color='#9aa5b3', lw=1.4, label=f'{best.method}, published')
    for name, values, color in (
        ('support-weighted', exposure.weighted, '#0f8f83'),
        ('macro', exposure.macro, '#d9731a'),
        ('micro (as in the paper)', exposure.micro, _OURS),
    ):
        upper.plot(bins, values, 'o-', color=color, lw=1.8, ms=5, label=name)
    if not math.isnan(exposure.mean_micro):
        upper.axhline(exposure.mean_micro, color=_OURS, lw=1, ls=(0, (2, 3)))
        title = f'mEF1 {exposure.mean_micro:.4f}'
        upper.set_title(title, loc='left', color=_TEXT, fontsize=11, weight='bold')
    upper.set_ylim(0, 1)
    upper.set_ylabel('EF1', color=_TEXT)
    upper.legend(
        fontsize=8.5, labelcolor=_TEXT, frameon=False, ncols=2, loc='lower left',
        bbox_to_anchor=(0.22, 1.0), borderaxespad=0.2,
    )  # fmt: skip
    total = max(int(exposure.support.sum()), 1)
    shares = 100 * exposure.support / total
    bars = lower.bar(bins, shares, color=_OURS, alpha=0.55, width=0.7)
    lower.bar_label(bars, [f'{share:.1f}' for share in shares], fontsize=8, color=_TEXT, padding=1)
    lower.margins(y=0.35)
    lower.set_ylabel('pixels [%]', color=_TEXT)
    lower.set_xticks(bins, BIN_NAMES, fontsize=8)
    lower.set_xlabel('exposure V = max(R, G, B) / 255', color=_TEXT)
    for axes in (upper, lower):
        axes.set_axisbelow(True)
        axes.grid(axis='y', color='#dde2e9', lw=0.8)
        axes.tick_params(colors=_TEXT, length=0)
        for side, spine in axes.spines.items():
            spine.set_visible(side == 'bottom')
            spine.set_color('#dde2e9')
    figure.savefig(path, dpi=130)


def choose_frames(frames: Sequence[FrameScore], count: int) -> list[tuple[str, FrameScore]]:
    """Return the worst, the middle and the best frames by mIoU, a third each, worst first.

    Args:
        frames: with their mIoU; those without a truth (NaN) are left out.
        count: how many to return at most.

    Returns:
        (``worst``, ``median`` or ``best``; frame), no frame twice.
    """
    order = ranked(frames)
    count = max(0, min(count, len(order)))
    worst = -(-count // 3)
    best = (count - worst + 1) // 2
    median = count - worst - best
    middle = order[worst : len(order) - best]
    start = (len(middle) - median) // 2
    return [
        *(('worst', f) for f in order[:worst]),
        *(('median', f) for f in middle[start : start + median]),
        *(('best', f) for f in order[len(order) - best :]),
    ]


def draw_sheets(
    method: Predictor, dataset: LabelledSet, evaluation: Evaluation, count: int, folder: Path
) -> None:
    """Draw the frames of `choose_frames` into a folder, without those of an earlier run."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob('*.png'):
        old.unlink()
    chosen = choose_frames(evaluation.frames, count)
    for number, (rank, score) in enumerate(track(chosen, description='drawing'), 1):
        name = score.name.replace('/', '_')
        frame = inspect_frame(method, dataset, evaluation.protocol, score)
        draw_sheet(frame, rank, folder / f'{number:02d}_{rank}_{name}.png')


@dataclass(frozen=True)
class InspectedFrame:
    """What a sheet shows: RGB uint8 [H, W, 3] and trainIds uint8 [H, W], all of one size."""

    score: FrameScore
    image: NDArray[np.uint8]
    relit: NDArray[np.uint8] | None
    prediction: NDArray[np.uint8]
    truth: NDArray[np.uint8]


@torch.inference_mode()
def inspect_frame(
    method: Predictor, dataset: LabelledSet, protocol: EvaluationProtocol, score: FrameScore
) -> InspectedFrame:
    """Predict one frame again, and make everything as wide as a panel of its sheet, or less."""
    image, truth = dataset[score.index]
    prediction = predict_frame(image, method, protocol)
    relit = method.relight(network_input(image, method, protocol.predict_size))
    height, width = truth.shape
    scale = min(1.0, _PANEL_WIDTH / width)
    size = (round(width * scale), max(1, round(height * scale)))

    def picture(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cv2.resize(array, size, interpolation=cv2.INTER_AREA)

    def labels(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cv2.resize(array, size, interpolation=cv2.INTER_NEAREST)

    return InspectedFrame(
        score,
        picture(image),
        None if relit is None else picture(relit[0].permute(1, 2, 0).cpu().numpy()),
        labels(prediction.labels),
        labels(truth),
    )


def error_picture(
    image: NDArray[np.uint8], prediction: NDArray[np.uint8], truth: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return wrong pixels red on the grey frame, pixels without truth black; RGB uint8."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    picture = np.repeat((grey // 2 + 64)[..., None], 3, axis=2)
    picture[prediction != truth] = _WRONG
    picture[truth == UNLABELLED] = 0
    return picture


def panels(frame: InspectedFrame) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures of a sheet by their titles, RGB uint8 [H, W, 3]."""
    wrong = (frame.prediction != frame.truth)[frame.truth != UNLABELLED]
    share = f'{wrong.mean():.1%} of the labelled' if wrong.size else 'no label'
    pictures = {'input': frame.image}
    if frame.relit is not None:
        pictures['relit'] = frame.relit
    pictures['prediction on the input'] = overlay(frame.image, frame.prediction, _OVERLAY_OPACITY)
    pictures['prediction'] = colorize(frame.prediction)
    pictures['truth (black: not labelled)'] = colorize(frame.truth)
    pictures[f'errors (red): {share}'] = error_picture(frame.image, frame.prediction, frame.truth)
    return pictures


def draw_sheet(frame: InspectedFrame, rank: str, path: Path) -> None:
    """Write the panels of a frame with the colours and IoU of its classes as one PNG."""
    pictures = panels(frame)
    height, width = frame.truth.shape
    columns = 3 if width >= height else len(pictures)
    rows = -(-len(pictures) // columns)
    panel = 4.8
    below = 0.0 if len(pictures) < rows * columns else 0.6
    size = (columns * panel, rows * (panel * height / width + 0.32) + 0.45 + below)
    figure = Figure(figsize=size, layout='constrained')
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.07, wspace=0.01, hspace=0.01)
    figure.suptitle(
        f'{frame.score.name}: mIoU {100 * frame.score.miou:.2f} ({rank})',
        color=_TEXT, fontsize=13, weight='bold', x=0.008, ha='left',
    )  # fmt: skip
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, picture) in zip(grid, pictures.items(), strict=False):
        axes.imshow(picture, interpolation='antialiased')
        axes.set_title(title, loc='left', color=_TEXT, fontsize=10, pad=3)
    for axes in grid:
        axes.axis('off')
    _legend(figure, grid[len(pictures) :], frame)
    figure.savefig(path, dpi=_PANEL_WIDTH / panel)


def _legend(figure: Figure, free: Sequence[Axes], frame: InspectedFrame) -> None:
    """Name the classes in the truth or prediction, in the free panel or below."""
    confusion = confusion_matrix(frame.truth, frame.prediction)
    iou, support = class_iou(confusion), confusion.sum(axis=1)
    shown = np.flatnonzero(~np.isnan(iou))
    handles = [
        Patch(
            color=np.array(CLASSES[c].color) / 255,
            label=f'{NAMES[c]} {100 * iou[c]:.0f}' if support[c] else f'{NAMES[c]} (not there)',
        )
        for c in shown
    ]
    if not handles:
        return
    style = {'frameon': False, 'labelcolor': _TEXT, 'handlelength': 1.2, 'handleheight': 1.2}
    if len(free):
        title = 'classes and their IoU [%]'
        legend = free[0].legend(
            handles=handles, loc='upper left', fontsize=10, ncols=2, title=title, **style
        )
        legend.get_title().set_color(_TEXT)
    else:
        figure.legend(
            handles=handles, loc='outside lower left', fontsize=9.5, ncols=min(len(shown), 10),
            **style,
        )  # fmt: skip
