"""Rare-class sampling (DAFormer, Hoyer et al., CVPR 2022, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor
from torch.utils.data import Sampler

from nightseg_ros.core.labels import NUM_CLASSES
from training.data.frames import DataError
from training.data.labelled_set import LabelledSet

MIN_PIXELS = 64
"""A frame counts as one that shows a class from this many pixels on."""


def class_presence(sets: Sequence[LabelledSet]) -> NDArray[np.int64]:
    """Return the pixels of each class in each frame of the sets, int64 [frames, 19]."""
    counts = []
    for frames in sets:
        for index in track(range(len(frames)), f'counting classes of {frames.root.name}'):
            count = np.bincount(frames.read_labels(index).ravel(), minlength=256)
            counts.append(count[:NUM_CLASSES])
    return np.stack(counts)


def class_probabilities(pixels: NDArray[np.int64], temperature: float) -> Tensor:
    """Return how likely each class is drawn, float [19] (DAFormer, equation 10).

    P(c) = softmax over classes of (1 - f_c) / T, with f_c the share of labelled pixels; a class
    that no frame shows is never drawn.

    Args:
        pixels: of each class in each frame, [frames, 19].
        temperature: T above 0; the lower, the more often rare classes are drawn.
    """
    share = torch.from_numpy(pixels.sum(axis=0) / max(pixels.sum(), 1))
    shown = torch.from_numpy((pixels >= MIN_PIXELS).any(axis=0))
    return ((1 - share) / temperature).masked_fill(~shown, -torch.inf).softmax(dim=0)


class RareClassSampler(Sampler[int]):
    """Draws a class by its rarity, then a frame that shows it.

    Args:
        pixels: of each class in each frame, [frames, 19] (:func:`class_presence`).
        temperature: see :func:`class_probabilities`.
    """

    def __init__(self, pixels: NDArray[np.int64], temperature: float) -> None:
        if not (pixels >= MIN_PIXELS).any():
            raise DataError(f'no frame has {MIN_PIXELS} pixels of any class: nothing to sample')
        self.probabilities = class_probabilities(pixels, temperature)
        self.frames = [
            torch.from_numpy(np.flatnonzero(pixels[:, k] >= MIN_PIXELS)) for k in range(NUM_CLASSES)
        ]
        self.count = len(pixels)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        for _ in range(self.count):
            frames = self.frames[int(torch.multinomial(self.probabilities, 1))]
            yield int(frames[torch.randint(len(frames), ())])
