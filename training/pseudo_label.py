"""``python -m training pseudo_label``: labels for unlabelled nights, by trained networks together.

Every frame is seen by every network, mirrored and in several sizes; the mean of what they say is
surer than any of them (Noisy Student: Xie et al., CVPR 2020, whose students then learn it under
stronger augmentation). What they are least sure of is ignored, class by class, so that rare classes
keep their best pixels, too (class-balanced self-training: Zou et al., ECCV 2018). Leaves where
nothing shows a leaf are ignored as well: networks call an even night sky so, and would only learn
to be surer of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.segmentation_output import resize
from nightseg_ros.core.labels import NAMES
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED
from training.check_night import write_sheet
from training.checkpoint import load_method
from training.data.frames import DataError
from training.data.frames import list_images
from training.data.frames import read_rgb
from training.methods.method import Method

_LEVELS = 256

_VEGETATION = NAMES.index('vegetation')

_EVEN = 1.5
"""Mean difference from the neighbourhood (0..255) below which nobody sees leaves."""


def pseudo_label(
    checkpoints: list[Path],
    folders: list[Path] = [  # noqa: B006 - jsonargparse shows it
        Path('../shared/data/campus_night'),
        Path('../shared/data/roadscene_night'),
        Path('../shared/data/camvid_dusk_dev'),
    ],
    output: Path = Path('build/pseudo_labels'),
    sizes: list[tuple[int, int]] = [(288, 480), (384, 640), (512, 832)],  # noqa: B006
    keep: float = 0.75,
    sure: float = 0.9,
) -> None:
    """Label frames by the mean of several networks, mirrored and in several sizes.

    Writes one folder of PNGs per folder of frames, and a sheet of overlays to look at. A second a
    frame and network on two cores.

    Args:
        checkpoints: files that ``python -m training fit`` wrote.
        folders: data sets whose ``images/`` are to be labelled. Their own labels are not read.
        output: folder of ``NAME/`` (trainIds, 255 = ignore) and ``NAME.jpg`` for each of them.
        sizes: heights and widths at which the networks see a frame.
        keep: share of each class's pixels that is kept, its surest; in (0, 1].
        sure: confidence (0..1) from which a pixel is kept in any case.

    Raises:
        CheckpointError: when a checkpoint cannot be read.
        DataError: when frames are missing, or ``keep`` keeps nothing.
    """
    if not 0 < keep <= 1:
        raise DataError(f'keep is the share of pixels that get a label, in (0, 1]: got {keep}')
    methods = [load_method(path) for path in checkpoints]
    for method in methods:
        method.to('cuda' if torch.cuda.is_available() else 'cpu')
    files = [(Path(f), path) for f in folders for path in list_images(Path(f) / 'images')]
    predictions = [
        predict(methods, read_rgb(path), sizes) for _, path in track(files, 'labelling nights')
    ]
    thresholds = class_thresholds(predictions, keep, sure)
    kept: dict[Path, list[tuple[Path, NDArray[np.uint8]]]] = {}
    counts = np.zeros(256, np.int64)
    for (folder, path), (predicted, confidence) in zip(files, predictions, strict=True):
        sure_of = confidence >= thresholds[predicted]
        sure_of &= (predicted != _VEGETATION) | shows_texture(read_rgb(path))
        labels = np.where(sure_of, predicted, UNLABELLED).astype(np.uint8)
        target = output / folder.name / f'{path.stem}.png'
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), labels)
        kept.setdefault(folder, []).append((path, labels))
        counts += np.bincount(labels.ravel(), minlength=256)
    for folder, labelled in kept.items():
        images = [read_rgb(path) for path, _ in labelled]
        write_sheet(images, [labels for _, labels in labelled], output / f'{folder.name}.jpg')
    table = Table('class', 'share', 'kept from', title=f'{len(files)} frames labelled in {output}')
    for name, count, threshold in zip(NAMES, counts, thresholds, strict=False):
        table.add_row(name, f'{count / counts.sum():.4f}', f'{threshold / 255:.2f}')
    table.add_row('ignored', f'{counts[UNLABELLED] / counts.sum():.4f}', '')
    Console().print(table)


@torch.no_grad()
def predict(
    methods: Sequence[Method], image: NDArray[np.uint8], sizes: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return trainIds and confidence (0..255), uint8 [H, W] each, of an RGB frame [H, W, 3]."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None].to(methods[0].device).float() / 255
    total: Tensor | None = None
    for size in sizes:
        small = F.interpolate(x, tuple(size), mode='bilinear', antialias=True)
        both = torch.cat([small, small.flip(-1)])
        for method in methods:
            logits = resize(method.predict_logits(both), image.shape[:2])
            straight, mirrored = logits.softmax(dim=1)
            seen = straight + mirrored.flip(-1)
            total = seen if total is None else total + seen
    confidence, labels = (total / (2 * len(sizes) * len(methods))).max(dim=0)
    levels = (confidence * 255).round()
    return labels.to(torch.uint8).cpu().numpy(), levels.to(torch.uint8).cpu().numpy()


def shows_texture(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where an RGB frame uint8 [H, W, 3] is more than even light and noise, [H, W]."""
    smooth = cv2.GaussianBlur(image, (0, 0), 1.5)
    difference = cv2.absdiff(smooth, cv2.blur(smooth, (9, 9))).max(axis=2)
    return cv2.blur(difference.astype(np.float32), (15, 15)) >= _EVEN


def class_thresholds(
    predictions: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]], keep: float, sure: float
) -> NDArray[np.uint8]:
    """Return for each class the least confidence (0..255) that is kept, uint8 [19].

    Args:
        predictions: trainIds and confidence, uint8 [H, W] each.
        keep: share of each class's pixels, the surest of which are kept.
        sure: confidence (0..1) above which no threshold rises.
    """
    histogram = np.zeros((NUM_CLASSES, _LEVELS), np.int64)
    for labels, confidence in predictions:
        cells = labels.astype(np.int64).ravel() * _LEVELS + confidence.ravel()
        histogram += np.bincount(cells, minlength=histogram.size).reshape(histogram.shape)
    # Pixels at a level or above it, of each class.
    above = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]
    enough = above >= keep * above[:, :1]
    thresholds = _LEVELS - 1 - enough[:, ::-1].argmax(axis=1)
    return np.minimum(thresholds, round(sure * 255)).astype(np.uint8)
