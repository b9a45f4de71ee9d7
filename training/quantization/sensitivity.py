"""Which layers suffer from INT8, by measurement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import onnx
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from onnxruntime.quantization.calibrate import TensorsData
from rich.progress import track

from training.quantization.comparison import Agreement
from training.quantization.comparison import Frame
from training.quantization.comparison import Masks
from training.quantization.comparison import agreement
from training.quantization.comparison import masks_of
from training.quantization.graph import convolutions
from training.quantization.int8 import to_int8

KEPT_STEPS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""How many of the worst layers are tried in FP32, until the masks are near enough."""


class Sensitivity(NamedTuple):
    """What quantising one layer alone does to the masks."""

    layer: str
    agreement: Agreement


class Choice(NamedTuple):
    """Layers that stay in FP32, and what the masks then are.

    Attributes:
        kept: names of the layers, the worst first.
        agreement: with them in FP32 and all others in INT8.
    """

    kept: tuple[str, ...]
    agreement: Agreement


def rank_layers(
    proto: onnx.ModelProto, ranges: TensorsData, frames: Sequence[Frame], expected: Sequence[Masks]
) -> list[Sensitivity]:
    """Quantise one layer at a time; return all of them, the one that hurts most first.

    Args:
        proto: a folded FP32 model.
        ranges: of its activations.
        frames: RGB uint8 [H, W, 3].
        expected: its masks of these frames.
    """
    layers = convolutions(proto)
    ranking = []
    for layer in track(layers, description='layer by layer'):
        others = [name for name in layers if name != layer]
        found = masks_of(to_int8(proto, ranges, others), frames)
        ranking.append(Sensitivity(layer, agreement(found, expected)))
    return sorted(ranking, key=lambda entry: entry.agreement.labels)


def choose_kept(
    proto: onnx.ModelProto,
    ranges: TensorsData,
    ranking: Sequence[Sensitivity],
    frames: Sequence[Frame],
    expected: Sequence[Masks],
    target: float,
) -> list[Choice]:
    """Keep more and more of the worst layers in FP32 until the labels agree well enough.

    Args:
        proto: a folded FP32 model.
        ranges: of its activations.
        ranking: of its layers, the worst first.
        frames: RGB uint8 [H, W, 3].
        expected: its masks of these frames.
        target: share of pixels that must have the same label.

    Returns:
        What was tried; the last reaches the target, or is the nearest that was tried.
    """
    tried: list[Choice] = []
    for count in [step for step in KEPT_STEPS if step < len(ranking)]:
        kept = tuple(entry.layer for entry in ranking[:count])
        found = masks_of(to_int8(proto, ranges, kept), frames)
        tried.append(Choice(kept, agreement(found, expected)))
        if tried[-1].agreement.labels >= target:
            break
    else:
        tried.sort(key=lambda choice: choice.agreement.labels)
    return tried


def write_ranking(ranking: Sequence[Sensitivity], tried: Sequence[Choice], folder: Path) -> None:
    """Write sensitivity.json and sensitivity.png."""
    content = {
        'layers': [{'layer': e.layer, **e.agreement._asdict()} for e in ranking],
        'tried': [{'kept': c.kept, **c.agreement._asdict()} for c in tried],
    }
    (folder / 'sensitivity.json').write_text(json.dumps(content, indent=2) + '\n')
    figure = Figure(figsize=(9, 0.17 * len(ranking) + 1.2), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    kept = {*tried[-1].kept} if tried else set()
    axes.barh(
        [short_name(entry.layer) for entry in ranking],
        [100 * (1 - entry.agreement.labels) for entry in ranking],
        color=['tab:red' if entry.layer in kept else 'tab:blue' for entry in ranking],
    )
    axes.invert_yaxis()
    axes.margins(y=0.005)
    axes.tick_params(axis='y', labelsize=7)
    axes.set_xlabel('labels that change when this layer alone is INT8 (%); red: stays in FP32')
    figure.savefig(folder / 'sensitivity.png', dpi=120)


def short_name(layer: str) -> str:
    """Return what is worth reading of a traced name: stem.0.0 of /net/stem/stem.0/stem.0.0/Conv."""
    parts = layer.strip('/').removesuffix('/Conv').removeprefix('net/').split('/')
    if len(parts) == 1:
        return parts[0]
    # Each part of a traced name begins with the one before.
    kept = [
        part
        for part, after in zip(parts, [*parts[1:], ''], strict=True)
        if not after.startswith(f'{part}.')
    ]
    return '/'.join(kept)
