"""Labelled frames in folders: ``images/NAME.jpg`` beside ``labels/NAME.png``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
LABEL_FOLDERS = ('labels', 'teacher_labels')


class DataError(ValueError):
    """A data set is missing or not in the expected form; the message says what to do."""


class Sample(NamedTuple):
    """One frame: RGB uint8 [H, W, 3] and its trainIds uint8 [H, W] (255 = ignore)."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class LabelledFrames(Dataset):
    """The frames of one folder that have labels, decoded once and kept in memory.

    Args:
        root: folder with ``images/`` and ``labels/`` or ``teacher_labels/``.
        transform: maps a :class:`Sample` to what an item shall be; None leaves it as it is.
        cache: keep decoded frames (about 1 MB each at 640x480).
        extra_labels: label values above 18 that this folder uses on purpose.

    Raises:
        DataError: when the folder, its images or a frame's label is missing.
    """

    def __init__(
        self,
        root: Path,
        transform: Callable[[Sample], object] | None = None,
        *,
        cache: bool = True,
        extra_labels: tuple[int, ...] = (),
    ) -> None:
        self.root = Path(root)
        self.transform = transform
        self.cache: dict[int, Sample] | None = {} if cache else None
        self.valid_labels = {*range(NUM_CLASSES), UNLABELLED, *extra_labels}
        self.images = list_images(self.root / 'images')
        self.labels = [self._label_of(image) for image in self.images]

    def _label_of(self, image: Path) -> Path:
        for folder in LABEL_FOLDERS:
            label = self.root / folder / f'{image.stem}.png'
            if label.is_file():
                return label
        raise DataError(
            f'{image} has no label: expected {image.stem}.png in '
            + ' or '.join(str(self.root / folder) for folder in LABEL_FOLDERS)
        )

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Sample:
        """Return frame ``index`` decoded and checked.

        Raises:
            DataError: when a file does not decode, sizes differ, or a label is no trainId.
        """
        if self.cache is not None and index in self.cache:
            return self.cache[index]
        image = read_rgb(self.images[index])
        path = self.labels[index]
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if labels is None or labels.ndim != 2 or labels.dtype != np.uint8:
            raise DataError(f'{path} is no single-channel 8-bit PNG: give trainIds, not colours')
        if labels.shape != image.shape[:2]:
            raise DataError(
                f'{path} is {labels.shape}, its image is {image.shape[:2]}: '
                'a label needs the size of its image'
            )
        foreign = set(np.unique(labels).tolist()) - self.valid_labels
        if foreign:
            raise DataError(
                f'{path} holds {sorted(foreign)}: no trainIds (0..{NUM_CLASSES - 1}, 255). '
                'Are these Cityscapes labelIds? Convert them first.'
            )
        sample = Sample(image, labels)
        if self.cache is not None:
            self.cache[index] = sample
        return sample

    def __getitem__(self, index: int) -> object:
        sample = self.read(index)
        return sample if self.transform is None else self.transform(sample)


def list_images(folder: Path) -> list[Path]:
    """Return the images of a folder by name.

    Raises:
        DataError: when the folder does not exist or holds no image.
    """
    if not folder.is_dir():
        raise DataError(
            f'{folder} does not exist: point fit --data.root or export '
            '--data_root at the folder of data sets'
        )
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise DataError(f'{folder} holds no {", ".join(IMAGE_SUFFIXES)}')
    return images


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Return an image file as RGB uint8 [H, W, 3].

    Raises:
        DataError: when it does not decode.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise DataError(f'{path} does not decode: is it complete?')
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def to_tensors(sample: Sample) -> tuple[Tensor, Tensor]:
    """Return image uint8 [3, H, W] and labels int64 [H, W]."""
    image = torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1)
    return image, torch.from_numpy(sample.labels.astype(np.int64))
