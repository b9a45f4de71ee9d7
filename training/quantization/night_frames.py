"""Night frames for quantisation: some calibrate, some tune, others judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.image_codec import CameraFrame
from nightseg_ros.core.image_codec import resize_to_rgb
from training.data.frames import DataError
from training.data.frames import list_images
from training.data.frames import read_rgb


class NightFrames(NamedTuple):
    """RGB uint8 [H, W, 3] frames of the model's size; no frame is in two of the lists.

    Attributes:
        calibration: give the ranges of the activations.
        tuning: choose the method and the layers that stay in FP32.
        held_out: judge; from the other half of each folder.
    """

    calibration: list[NDArray[np.uint8]]
    tuning: list[NDArray[np.uint8]]
    held_out: list[NDArray[np.uint8]]


def load_night_frames(
    folders: Sequence[Path], height: int, width: int, calibration: int, tuning: int, held_out: int
) -> NightFrames:
    """Read night frames, as many of each folder, evenly spread over its halves.

    The first half of each folder (by name: neighbours show the same place) calibrates and tunes,
    the second judges.

    Args:
        folders: of images.
        height: of the frames, in which they are scaled as on the vehicle.
        width: of the frames.
        calibration: how many frames calibrate.
        tuning: how many tune.
        held_out: how many judge.

    Raises:
        DataError: a folder is missing or holds fewer than four frames.
    """
    lists: tuple[list[Path], list[Path], list[Path]] = ([], [], [])
    for folder in folders:
        paths = list_images(folder)
        if len(paths) < 4:
            raise DataError(f'{folder} holds {len(paths)} images: at least 4 are needed')
        first, second = paths[: len(paths) // 2], paths[len(paths) // 2 :]
        lists[0].extend(_spread(first[::2], calibration // len(folders)))
        lists[1].extend(_spread(first[1::2], tuning // len(folders)))
        lists[2].extend(_spread(second, held_out // len(folders)))
    return NightFrames(*([read_frame(path, height, width) for path in paths] for paths in lists))


def read_frame(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """Return an image file as RGB uint8 [height, width, 3], scaled as on the vehicle."""
    return resize_to_rgb(CameraFrame.of(read_rgb(path)), np.empty((height, width, 3), np.uint8))


def _spread(paths: list[Path], count: int) -> list[Path]:
    count = min(max(count, 1), len(paths))
    return [paths[index * len(paths) // count] for index in range(count)]
