from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from nightseg_ros.core.labels import UNLABELLED
from training.data.frames import Sample
from training.data.occlusion import HiddenBlocks
from training.data.occlusion import OwnVehicle
from training.data.transforms import RelightTransform


def transformed(sample: Sample, seed: int, relight_probability: float) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return RelightTransform((64, 128), relight_probability)(sample)


@pytest.mark.parametrize('relight_probability', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('size', [(96, 128), (40, 40), (72, 300)])
def test_crops_have_one_form_and_only_labels_of_the_frame(
    street: Callable[..., Sample], size: tuple[int, int], relight_probability: float
) -> None:
    sample = street(*size)
    alphabet = set(np.unique(sample.labels).tolist())
    for seed in range(8):
        image, labels = transformed(sample, seed, relight_probability)
        assert image.shape == (3, 64, 128)
        assert image.dtype == torch.uint8
        assert labels.shape == (64, 128)
        assert labels.dtype == torch.int64
        assert set(labels.unique().tolist()) <= alphabet


def test_checkerboard_labels_are_never_interpolated(day: Sample) -> None:
    height, width = day.labels.shape
    checks = (np.indices((height, width)).sum(0) % 2 * 18).astype(np.uint8)
    for seed in range(8):
        _, labels = transformed(Sample(day.image, checks), seed, 0.5)
        assert set(labels.unique().tolist()) <= {0, 18}


@pytest.mark.parametrize('seed', range(6))
def test_night_has_the_labels_of_its_day_and_less_light(day: Sample, seed: int) -> None:
    image, labels = transformed(day, seed, 0.0)
    night, night_labels = transformed(day, seed, 1.0)
    assert torch.equal(labels, night_labels)
    assert night.float().mean() < image.float().mean()


def test_geometry_moves_image_and_labels_together() -> None:
    labels = np.repeat(np.arange(8, dtype=np.uint8), 16)[None].repeat(96, 0)
    image = np.repeat(labels[..., None] * 32, 3, axis=2)
    transform = RelightTransform((64, 128), 0.0)
    transform.color = torch.nn.Identity()
    for seed in range(8):
        torch.manual_seed(seed)
        crop, cropped_labels = transform(Sample(image, labels))
        # Off by one at the edges of a stripe: the image is interpolated, the labels are not.
        agree = (crop[0].float() / 32).round() == cropped_labels
        assert agree.float().mean() > 0.9


def test_flips_and_crops_happen(day: Sample) -> None:
    crops = [transformed(day, seed, 0.0)[1] for seed in range(12)]
    # The car is left of the middle.
    places = [(crop == 13).nonzero()[:, 1].float().mean().item() for crop in crops]
    assert min(places) < 64 < max(places)


def test_torch_seed_decides(day: Sample) -> None:
    first, again = transformed(day, 3, 1.0), transformed(day, 3, 1.0)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], transformed(day, 4, 1.0)[0])


def test_the_share_of_nights(day: Sample) -> None:
    nights = []
    transform = RelightTransform((64, 64), 0.25, lambda sample, rng: nights.append(1) or sample)
    torch.manual_seed(0)
    for _ in range(200):
        transform(day)
    assert 30 <= len(nights) <= 70


def test_frame_itself_is_not_changed(day: Sample) -> None:
    before = day.image.copy(), day.labels.copy()
    transformed(day, 0, 1.0)
    np.testing.assert_array_equal(day.image, before[0])
    np.testing.assert_array_equal(day.labels, before[1])


def test_frames_without_colours_are_grey(day: Sample) -> None:
    torch.manual_seed(0)
    image, _ = RelightTransform((64, 128), 0.0, grey=1.0)(day)
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[1], image[2])


def test_own_vehicle_is_unlabelled_and_hidden_blocks_are_not(day: Sample) -> None:
    def labels(own_vehicle: OwnVehicle | None, hidden: HiddenBlocks | None) -> Tensor:
        torch.manual_seed(1)
        transform = RelightTransform((64, 128), 1.0, own_vehicle=own_vehicle, hidden=hidden)
        return transform(day)[1]

    plain = labels(None, None)
    assert torch.equal(labels(None, HiddenBlocks(1.0)), plain)
    covered = labels(OwnVehicle(bonnet=1.0), None) != plain
    assert covered.any()
    assert (labels(OwnVehicle(bonnet=1.0), None)[covered] == UNLABELLED).all()
