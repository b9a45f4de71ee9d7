from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import models.student
from models.exposure_guidance import ExposureConcatenation
from models.exposure_guidance import ExposureGuidance
from models.exposure_guidance import ExposureMapGuidance
from models.exposure_guidance import ExposureSum


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_one_attention_channel_by_hand() -> None:
    guide = ExposureGuidance(2, w1=2.0, w2=0.5)
    guide.attention.weight.data = torch.tensor([1.0, -3.0]).view(1, 2, 1, 1)
    guide.attention.bias.data = torch.tensor([0.25])
    features = torch.tensor([4.0, -1.0, 0.0]).view(1, 3, 1, 1)
    exposure = torch.tensor([0.5, 0.2]).view(1, 2, 1, 1)
    gate = sigmoid(1.0 * 0.5 - 3.0 * 0.2 + 0.25)
    expected = [4.0 * (2 + 0.5 * gate), -1.0 * (2 + 0.5 * gate), 0.0]
    assert guide(features, exposure).flatten().tolist() == pytest.approx(expected)


def test_each_channel_has_its_own_gate_when_asked() -> None:
    guide = ExposureGuidance(1, attention_channels=3)
    guide.attention.weight.data = torch.tensor([0.0, 2.0, -2.0]).view(3, 1, 1, 1)
    nn.init.zeros_(guide.attention.bias)
    got = guide(torch.ones(1, 3, 1, 1), torch.ones(1, 1, 1, 1)).flatten().tolist()
    assert got == pytest.approx([1 + 0.3 * sigmoid(x) for x in (0.0, 2.0, -2.0)])


def test_released_students_still_find_their_keys() -> None:
    assert models.student.ExposureGuidance is ExposureGuidance
    assert {name: tuple(x.shape) for name, x in ExposureGuidance(4).state_dict().items()} == {
        'attention.weight': (1, 4, 1, 1),
        'attention.bias': (1,),
    }


@pytest.mark.parametrize(('value', 'factor'), [(0.0, 1.0), (1.0, 1.3), (0.5, 1.15)])
def test_the_exposure_map_gates_without_sigmoid(value: float, factor: float) -> None:
    features = torch.randn(2, 5, 3, 4)
    got = ExposureMapGuidance()(features, torch.full((2, 1, 24, 32), value))
    torch.testing.assert_close(got, features * factor)


def test_the_exposure_map_is_resized_to_the_features() -> None:
    exposure = torch.tensor([[0.0, 1.0]]).repeat_interleave(4, dim=1).expand(1, 1, 4, 8)
    got = ExposureMapGuidance(w1=0, w2=1)(torch.ones(1, 2, 1, 2), exposure)
    assert got.flatten().tolist() == [0, 1, 0, 1]


def test_concatenation_returns_to_the_channels_of_the_features() -> None:
    fusion = ExposureConcatenation(2, 3)
    nn.init.zeros_(fusion.reduce.bias)
    fusion.reduce.weight.data = torch.tensor([[1.0, 0, 0, 0, 2], [0, 1, -1, 0, 0]])[..., None, None]
    features = torch.tensor([10.0, 20.0]).view(1, 2, 1, 1)
    exposure = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    assert fusion(features, exposure).flatten().tolist() == [10 + 2 * 3, 20 - 1]


def test_sum_by_hand() -> None:
    features, exposure = torch.full((1, 2, 1, 1), 2.0), torch.full((1, 2, 1, 1), -5.0)
    assert ExposureSum()(features, exposure).flatten().tolist() == [-3, -3]
