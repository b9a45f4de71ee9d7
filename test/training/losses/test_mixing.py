from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from training.losses.mixing import class_mask
from training.losses.mixing import confident_share
from training.losses.mixing import dynamic_mask
from training.losses.mixing import mix


@given(seed=st.integers(0, 10_000), classes=st.integers(1, 19))
@settings(deadline=None, max_examples=50)
def test_half_of_the_classes_are_drawn_whole(seed: int, classes: int) -> None:
    torch.manual_seed(seed)
    labels = torch.randint(0, classes, (3, 8, 8))
    labels[:, 0] = 255
    for image, mask in zip(labels, class_mask(labels), strict=True):
        present = set(image.unique().tolist()) - {255}
        drawn = set(image[mask].tolist())
        assert len(drawn) == math.ceil(len(present) / 2)
        assert 255 not in drawn
        # A class is in or out as a whole.
        assert drawn.isdisjoint(image[~mask].tolist())


def test_the_code_may_draw_what_is_unlabelled() -> None:
    labels = torch.tensor([[[0, 255]]])
    drawn = set()
    for seed in range(20):
        torch.manual_seed(seed)
        drawn |= set(labels[class_mask(labels, draw_unlabelled=True)].tolist())
    assert drawn == {0, 255}


def test_images_draw_for_themselves() -> None:
    labels = torch.arange(16).view(1, 4, 4).repeat(8, 1, 1)
    torch.manual_seed(0)
    masks = class_mask(labels)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 1


def test_nothing_labelled_draws_nothing() -> None:
    assert not class_mask(torch.full((1, 4, 4), 255)).any()


def test_who_moves() -> None:
    labels = torch.tensor([[[0, 10, 11, 12, 18]]])
    assert dynamic_mask(labels).tolist() == [[[False, False, True, True, True]]]
    assert dynamic_mask(labels, 12).tolist() == [[[False, False, False, True, True]]]


def test_mix_by_hand() -> None:
    mask = torch.tensor([[[True, False]]])
    labels = mix(mask, torch.tensor([[[1, 2]]]), torch.tensor([[[3, 4]]]))
    assert labels.tolist() == [[[1, 4]]]
    image = mix(mask, torch.full((1, 3, 1, 2), 5), torch.full((1, 3, 1, 2), 6))
    assert image[0].tolist() == [[[5, 6]]] * 3


def test_mix_needs_one_size() -> None:
    with pytest.raises(ValueError, match='one size.*source_transform.crop'):
        mix(torch.ones(1, 2, 2).bool(), torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 3))


def test_confident_share_by_hand() -> None:
    p = torch.full((1, 2, 1, 4), 0.5)
    p[0, :, 0, 0] = torch.tensor([0.97, 0.03])
    p[0, :, 0, 1] = torch.tensor([0.04, 0.96])
    assert confident_share(p).item() == pytest.approx(1 / 4)
    assert confident_share(p, 0.96).item() == pytest.approx(2 / 4)
