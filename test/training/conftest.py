"""A miniature of the data root: streets of a few pixels under the names of the real sets."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.student import Student
from training.data.driving_data import DrivingData
from training.data.frames import Sample
from training.data.labelled_set import LabelledFrames
from training.data.pair_set import RelitPairs
from training.data.transforms import PairTransform
from training.data.transforms import RelightTransform
from training.evaluation.measure import MEASURING_SETS
from training.evaluation.measure import ROAD_SET
from training.fit import fit
from training.methods.method import Method
from training.methods.supervised import Supervised
from training.optimisation import PolyAdamW

DAY_SETS = ('camvid_day_train', 'campus_day', 'roadscene_day', 'idd_day')

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


@pytest.fixture
def data_root(mini_root: Path, tmp_path: Path) -> Path:
    """Return a copy of the miniature root with both night sets."""
    root = tmp_path / 'data'
    shutil.copytree(mini_root, root)
    shutil.copytree(root / 'campus_night', root / 'roadscene_night')
    return root


def make_data(root: Path, *, pairs: bool = False, **arguments) -> DrivingData:
    """Return crops of 64x128 of the miniature root, in batches of two."""
    day = LabelledFrames(root / 'camvid_day_train')
    return DrivingData(
        **{
            'sources': [LabelledFrames(root / name) for name in DAY_SETS],
            'targets': [RelitPairs(day)] if pairs else [],
            'measuring': {name: LabelledFrames(root / name) for name in MEASURING_SETS},
            'source_transform': RelightTransform((64, 128)),
            'pair_transform': PairTransform((64, 128), resize=None),
            'batch_size': 2,
            'workers': 0,
            **arguments,
        }
    )


@pytest.fixture(scope='session')
def mini_data(mini_root: Path) -> Callable[..., DrivingData]:
    """Return :func:`make_data` of the miniature root."""
    return functools.partial(make_data, mini_root)


def make_student() -> Supervised:
    """Return the student's method with a net of 8 channels."""
    return Supervised(Student(8, 4), PolyAdamW(warmup=1), measure_size=(64, 128))


@pytest.fixture(scope='session')
def mini_fit(mini_data: Callable[..., DrivingData]) -> Callable[..., None]:
    """Return a function that trains a method in the output folder, for some steps."""

    def run(output: Path, steps: int, method: Method | None = None, **arguments) -> None:
        pairs = arguments.pop('pairs', False)
        fit(
            mini_data(pairs=pairs),
            method or make_student(),
            output,
            **{
                'steps': steps,
                'measure_every': 2,
                'checkpoint_every': 2,
                'accelerator': 'cpu',
                'ema_decay': 0.998,
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
