"""Frames that show their classes, and a predictor that reads them off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from training.data.labelled_set import LabelledFrames
from training.evaluation import protocol

SIZE = (24, 40)


class Knowing:
    """Reads the class of each pixel from its red channel, as the frames below are painted."""

    def __init__(self, shift: int = 0, relit: bool = False, stride: int = 1) -> None:
        self.device = torch.device('cpu')
        self.shift, self.relit, self.stride = shift, relit, stride
        self.sizes: list[tuple[int, int]] = []

    def predict_logits(self, image: Tensor) -> Tensor:
        assert image.dtype == torch.uint8
        self.sizes.append(tuple(image.shape[-2:]))
        ids = (image[:, 0, :: self.stride, :: self.stride].long() // 12 + self.shift) % 19
        return 30.0 * torch.nn.functional.one_hot(ids, 19).permute(0, 3, 1, 2).float()

    def relight(self, image: Tensor) -> Tensor | None:
        return (image.float() * 2).clamp(0, 255).to(torch.uint8) if self.relit else None

    def eval(self) -> Knowing:
        return self

    def to(self, device: str) -> Knowing:
        self.device = torch.device(device)
        return self


@pytest.fixture
def knowing() -> type[Knowing]:
    """Return :class:`Knowing`."""
    return Knowing


class Masked(LabelledFrames):
    """Frames whose upper half is not to be told from the night image alone."""

    def invalid_mask(self, index: int) -> np.ndarray | None:
        mask = np.zeros(SIZE, bool)
        mask[: SIZE[0] // 2] = True
        return mask


@pytest.fixture
def masked(root: Path) -> Masked:
    """Return the frames of `root` with masks."""
    return Masked(root, cache=False)


def paint_frame(root: Path, name: str, labels: np.ndarray) -> None:
    """Write a frame that shows its classes, and its label."""
    for folder in ('images', 'labels'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    shown = np.where(labels == 255, 0, labels) * 12 + 5
    image = np.stack([np.full(labels.shape, 40), np.full(labels.shape, 60), shown], axis=-1)
    assert cv2.imwrite(str(root / 'images' / f'{name}.png'), image.astype(np.uint8))
    assert cv2.imwrite(str(root / 'labels' / f'{name}.png'), labels.astype(np.uint8))


@pytest.fixture
def paint() -> Callable[..., None]:
    """Return :func:`paint_frame`."""
    return paint_frame


def make_halves(upper: int, lower: int) -> np.ndarray:
    labels = np.full(SIZE, upper, np.uint8)
    labels[SIZE[0] // 2 :] = lower
    return labels


@pytest.fixture
def halves() -> Callable[[int, int], np.ndarray]:
    """Return :func:`make_halves`."""
    return make_halves


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder of three frames."""
    folder = tmp_path / 'frames'
    paint_frame(folder, 'a', make_halves(10, 0))
    paint_frame(folder, 'b', make_halves(2, 13))
    paint_frame(folder, 'c', make_halves(255, 0))
    return folder


@pytest.fixture
def frames(root: Path) -> LabelledFrames:
    """Return them as a data set."""
    return LabelledFrames(root, cache=False)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Knowing:
    """Return what every checkpoint holds."""
    method = Knowing(relit=True)
    monkeypatch.setattr(protocol, 'load_method', lambda path: method)
    return method
