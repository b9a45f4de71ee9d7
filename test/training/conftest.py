"""A miniature of the data root: streets of a few pixels under the names of the real sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from training.data.night_driving import DAY_SETS
from training.data.night_driving import MEASURING_SETS
from training.data.night_driving import NightDrivingData

from training.data.frames import Sample
from training.fit import fit
from training.measure import ROAD_SET
from training.methods.supervised import Supervised

ROAD, SIDEWALK, BUILDING, LIGHT, VEGETATION, SKY, CAR = 0, 1, 2, 6, 8, 10, 13
UNLABELLED = 255


def make_street(height: int = 96, width: int = 128, seed: int = 0) -> Sample:
    """Return a bright day: sky over a building and a tree, a road with a car, a traffic light."""
    labels = np.full((height, width), SKY, np.uint8)
    middle = height // 2
    labels[height // 4 : middle, : width // 2] = BUILDING
    labels[height // 4 : middle, width // 2 :] = VEGETATION
    labels[height // 4 : middle, width // 2 : width // 2 + 4] = LIGHT
    labels[middle:] = SIDEWALK
    labels[middle + 8 :] = ROAD
    labels[middle : middle + 20, width // 4 : width // 2] = CAR
    labels[-4:] = UNLABELLED
    noise = np.random.default_rng(seed).integers(0, 30, (height, width, 3))
    image = np.full((height, width, 3), 120) + noise
    image[labels == SKY] += 100
    image[labels == VEGETATION] -= (60, 30, 60)
    return Sample(image.astype(np.uint8), labels)


def write_frame(root: Path, name: str, sample: Sample, folder: str = 'labels') -> None:
    """Write a frame without loss, and its labels."""
    for part in ('images', folder):
        (root / part).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / 'images' / f'{name}.png'), sample.image[..., ::-1])
    cv2.imwrite(str(root / folder / f'{name}.png'), sample.labels)


@pytest.fixture(scope='session')
def street() -> Callable[..., Sample]:
    """Return :func:`make_street`."""
    return make_street


@pytest.fixture(scope='session')
def day(street: Callable[..., Sample]) -> Sample:
    """Return one frame by day; do not write to it."""
    return street()


@pytest.fixture(scope='session')
def write() -> Callable[..., None]:
    """Return :func:`write_frame`."""
    return write_frame


@pytest.fixture(scope='session')
def mini_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root with every named set; do not write to it.

    The red channel of a measuring frame tells its labels: a segmenter that knows the truth.
    """
    root = tmp_path_factory.mktemp('data')
    for index, name in enumerate(DAY_SETS):
        folder = 'labels' if name.startswith('camvid') else 'teacher_labels'
        write_frame(root / name, f'{name}_0', make_street(seed=index), folder)
    write_frame(root / DAY_SETS[0], 'second', make_street(72, 96, seed=9))
    for index, name in enumerate(MEASURING_SETS):
        sample = make_street(60, 90, seed=index)
        sample.image[..., 0] = sample.labels
        write_frame(root / name, f'{name}_0', sample)
    write_frame(root / 'campus_night', 'night_0', make_street(seed=5))
    image, labels = make_street(60, 90)
    labels[labels == CAR] = 253
    labels[~np.isin(labels, (ROAD, 253, UNLABELLED))] = 254
    image[..., 0] = labels
    write_frame(root / ROAD_SET, 'moto_0', Sample(image, labels))
    return root


@pytest.fixture(scope='session')
def mini_fit(mini_root: Path) -> Callable[..., None]:
    """Return a function that trains a net of 8 channels in the output folder, for some steps."""

    def run(output: Path, steps: int, method_class: type = Supervised, **arguments) -> None:
        data = NightDrivingData(root=str(mini_root), crop=(64, 128), batch_size=2, workers=0)
        method = method_class(width=8, exposure_width=4, warmup=1, input_size=(64, 128))
        fit(
            data,
            method,
            output,
            **{
                'steps': steps,
                'measure_every': 2,
                'checkpoint_every': 2,
                'accelerator': 'cpu',
                **arguments,
            },
        )

    return run


@pytest.fixture(scope='session')
def trained(mini_fit: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of four steps of training; do not write to it."""
    output = tmp_path_factory.mktemp('trained')
    mini_fit(output, 4)
    return output
