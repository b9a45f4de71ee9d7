"""Frames as the data sets hold them, decoded and checked: what every reader here is built from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')

TRAIN_IDS = frozenset({*range(NUM_CLASSES), UNLABELLED})
"""What a trainId label may hold."""

LABEL_IDS = frozenset({*range(34), UNLABELLED})
"""What a Cityscapes labelId label may hold; 255 is licence plate (-1) as uint8."""


class DataError(ValueError):
    """A data set is missing or not in the expected form; the message says what to do."""


class Sample(NamedTuple):
    """One frame: RGB uint8 [H, W, 3] and its trainIds uint8 [H, W] (255 = ignore)."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class Pair(NamedTuple):
    """One place by day and by night: RGB uint8 [H, W, 3] each, of one size."""

    day: NDArray[np.uint8]
    night: NDArray[np.uint8]


def list_images(folder: Path) -> list[Path]:
    """Return the images of a folder by name.

    Raises:
        DataError: when the folder does not exist or holds no image.
    """
    if not folder.is_dir():
        raise DataError(
            f'{folder} does not exist: set the root of the data set (in the config, or with '
            '--data_root)'
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


def read_labels(path: Path, valid: Collection[int] = TRAIN_IDS) -> NDArray[np.uint8]:
    """Return a label file, uint8 [H, W], as it is encoded.

    Args:
        path: an 8-bit PNG with one channel or a palette.
        valid: values that it may hold.

    Raises:
        DataError: when it does not decode, is in colour, or holds another value.
    """
    labels = decode_labels(path)
    if labels is None:
        raise DataError(f'{path} is no single-channel 8-bit PNG: give trainIds, not colours')
    foreign = set(np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist()) - set(valid)
    if foreign:
        largest = max(set(valid) - {UNLABELLED})
        raise DataError(
            f'{path} holds {sorted(foreign)}: this data set has only 0..{largest} and '
            f'{UNLABELLED}. Are these labelIds where trainIds belong? Convert them first.'
        )
    return labels


def decode_labels(path: Path) -> NDArray[np.uint8] | None:
    """Return a label file's values, uint8 [H, W]; None where it has colours or 16 bits.

    Raises:
        DataError: when it does not decode.
    """
    try:
        with Image.open(path) as image:
            # A palette's indices are the labels, whatever colours they are shown in.
            return np.array(image) if image.mode in ('L', 'P') else None
    except (OSError, SyntaxError) as error:
        raise DataError(f'{path} does not decode: copy or unpack it again') from error


def check_same_size(image: NDArray, labels: NDArray, path: Path) -> None:
    """Refuse labels of another size than their image.

    Raises:
        DataError: naming the file and both sizes.
    """
    if labels.shape[:2] != image.shape[:2]:
        raise DataError(
            f'{path} is {labels.shape}, its image is {image.shape[:2]}: '
            'a label needs the size of its image'
        )


def to_tensors(sample: Sample) -> tuple[Tensor, Tensor]:
    """Return image uint8 [3, H, W] and labels int64 [H, W]."""
    image = torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1)
    return image, torch.from_numpy(sample.labels.astype(np.int64))
