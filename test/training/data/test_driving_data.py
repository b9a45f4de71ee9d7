from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.driving_data import DrivingData
from training.data.frames import DataError
from training.data.labelled_set import LabelledFrames
from training.data.rare_classes import RareClassSampler
from training.data.rare_classes import class_presence
from training.data.rare_classes import class_probabilities
from training.evaluation.measure import MEASURING_SETS


def test_batches_without_targets(mini_data: Callable[..., DrivingData]) -> None:
    data = mini_data()
    data.setup('fit')
    loaders = data.train_dataloader()
    assert set(loaders) == {'source'}
    batches = list(loaders['source'])
    assert len(batches) == 2  # five frames, the odd one dropped
    for image, labels in batches:
        assert image.shape == (2, 3, 64, 128)
        assert image.dtype == torch.uint8
        assert labels.shape == (2, 64, 128)
        assert labels.dtype == torch.int64


def test_batches_with_pairs(mini_data: Callable[..., DrivingData]) -> None:
    data = mini_data(pairs=True)
    data.setup('fit')
    [(day, night)] = data.train_dataloader()['target']
    assert day.shape == night.shape == (2, 3, 64, 128)
    assert day.dtype == night.dtype == torch.uint8
    assert night.float().mean() < day.float().mean()


def test_nights_are_not_relit(mini_data: Callable[..., DrivingData], mini_root: Path) -> None:
    data = mini_data(
        sources=[LabelledFrames(mini_root / 'campus_day')],
        nights=[LabelledFrames(mini_root / 'roadscene_day')],
        source_transform=lambda sample: (torch.zeros(3, 8, 8), torch.zeros(8, 8)),
        night_transform=lambda sample: (torch.ones(3, 8, 8), torch.ones(8, 8)),
        batch_size=1,
    )
    data.setup('fit')
    seen = [int(image.max()) for image, _ in data.train_dataloader()['source']]
    assert sorted(seen) == [0, 1]
    assert data.source_images(2).shape == (2, 3, 8, 8)


def test_measuring_frames_are_whole_and_in_order(mini_data: Callable[..., DrivingData]) -> None:
    data = mini_data()
    data.setup('validate')
    assert list(data.measuring) == list(MEASURING_SETS)
    for loader in data.val_dataloader():
        image, labels = next(iter(loader))
        assert image.shape == (1, 3, 60, 90)
        assert labels.shape == (1, 60, 90)
        # The red channel of the miniature's measuring frames is the truth.
        assert torch.equal(image[:, 0].long(), labels)


def test_measuring_needs_no_training_set(mini_data: Callable[..., DrivingData]) -> None:
    data = mini_data(sources=[LabelledFrames('nowhere')])
    data.setup('validate')
    assert not hasattr(data, 'source')


@pytest.mark.parametrize(
    'sets', [{'sources': [LabelledFrames('moon')]}, {'measuring': {'a': LabelledFrames('moon')}}]
)
def test_missing_set_is_named(mini_data: Callable[..., DrivingData], sets: dict) -> None:
    with pytest.raises(DataError, match='moon.* does not exist.*root'):
        mini_data(**sets).setup('fit')


@pytest.mark.parametrize(('pairs', 'kind'), [(False, '5 labelled frames'), (True, '2 pairs')])
def test_less_than_a_batch_is_refused(
    mini_data: Callable[..., DrivingData], pairs: bool, kind: str
) -> None:
    data = mini_data(pairs=pairs, batch_size=3 if pairs else 6)
    with pytest.raises(DataError, match=f'{kind} do not fill one batch.*lower data.batch_size'):
        data.setup('fit')


def test_rare_classes_by_hand() -> None:
    pixels = np.zeros((3, 19), np.int64)
    pixels[:, 0] = 1000
    pixels[2, 6] = 100
    pixels[1, 7] = 10  # too few to count as shown
    probabilities = class_probabilities(pixels, temperature=0.5)
    share = torch.tensor([3000 / 3110, 100 / 3110])
    expected = ((1 - share) / 0.5).softmax(0)
    assert probabilities[[0, 6]].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert probabilities.sum().item() == pytest.approx(1)
    assert probabilities[7] == 0


def test_rare_frames_are_drawn_more_often_the_lower_the_temperature() -> None:
    pixels = np.zeros((10, 19), np.int64)
    pixels[:, 0] = 1000
    pixels[7, 6] = 100
    shares = []
    for temperature in (100.0, 0.1):
        torch.manual_seed(0)
        sampler = RareClassSampler(pixels, temperature)
        drawn = [index for _ in range(100) for index in sampler]
        assert len(drawn) == 100 * len(sampler)
        shares.append(drawn.count(7) / len(drawn))
    # Road and light are equally likely at first; light is always frame 7, road one time in ten.
    assert shares[0] == pytest.approx(0.55, abs=0.06)
    assert shares[1] > 0.95


def test_presence_counts_labels_of_all_sets(mini_root: Path) -> None:
    sets = [LabelledFrames(mini_root / name) for name in ('camvid_day_train', 'campus_day')]
    pixels = class_presence(sets)
    assert pixels.shape == (3, 19)
    for row, frames, index in ((0, sets[0], 0), (2, sets[1], 0)):
        labels = frames[index].labels
        assert pixels[row, 10] == (labels == 10).sum() > 0
        assert pixels[row].sum() == (labels != 255).sum()


def test_rare_class_sampling_feeds_the_loader(mini_data: Callable[..., DrivingData]) -> None:
    data = mini_data(rare_class_temperature=0.01)
    data.setup('fit')
    loader = data.train_dataloader()['source']
    assert isinstance(loader.sampler, RareClassSampler)
    assert len(list(loader)) == 2
