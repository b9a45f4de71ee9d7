from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.losses.segmentation import class_weights
from training.losses.static import StaticLoss
from training.losses.static import day_pseudo_label
from training.losses.static import focal_static_loss
from training.losses.static import fused_pseudo_label
from training.losses.static import neighbour_classes
from training.losses.static import reweighted
from training.losses.static import self_supervised_loss

CAR, SKY, POLE, ROAD = 13, 10, 5, 0


def logits_of(*pixels: dict[int, float]) -> Tensor:
    """Return logits [1, 19, 1, len(pixels)]: zero but for the classes named."""
    x = torch.zeros(1, 19, 1, len(pixels))
    for column, values in enumerate(pixels):
        for k, value in values.items():
            x[0, k, 0, column] = value
    return x


def test_weights_tip_what_is_nearly_tied() -> None:
    day = logits_of({ROAD: 3.0, POLE: 2.9}, {ROAD: 3.0, POLE: 1.0}, {CAR: 4.0})
    assert day_pseudo_label(day, None).tolist() == [[[ROAD, ROAD, 255]]]
    # e^3 * .6932 < e^2.9 * .9961.
    assert day_pseudo_label(day, class_weights(0.16)).tolist() == [[[POLE, ROAD, 255]]]


def test_reweighted_takes_the_weights_of_its_channels() -> None:
    weights = class_weights(0.05)
    x = torch.ones(1, 11, 2, 2)
    torch.testing.assert_close(reweighted(x, weights)[0, :, 0, 0], weights[:11])
    assert reweighted(x, None) is x


@pytest.mark.parametrize(
    ('day', 'night', 'expected'),
    [
        # Above 0.4 the day counts 0.8: road 0.8 * 2 against pole 0.2 * 0 + 0.8 * 1.9 = 1.52.
        ({ROAD: 2.0}, {POLE: 1.9}, ROAD),
        # The same with a stronger night: 1.6 against 0.8 * 2.1 = 1.68.
        ({ROAD: 2.0}, {POLE: 2.1}, POLE),
        # Below 0.4 the day counts 0.2: 0.06 against 0.08.
        ({ROAD: 0.3}, {POLE: 0.1}, POLE),
        # Dynamic logits are those of the night alone.
        ({CAR: 9.0, ROAD: 1.0}, {}, ROAD),
        ({ROAD: 1.0}, {CAR: 1.0}, 255),
    ],
)
def test_fused_pseudo_label_by_hand(day: dict, night: dict, expected: int) -> None:
    label = fused_pseudo_label(logits_of(day), logits_of(night), None)
    assert label.tolist() == [[[expected]]]


def test_neighbours_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 5, 255]]])
    near = neighbour_classes(labels)
    assert near.shape == (1, 11, 1, 4)
    assert near[0, :, 0].nonzero().tolist() == [[0, 0], [0, 1], [0, 2], [5, 1], [5, 2]]
    alone = neighbour_classes(labels, neighbourhood=1)
    assert alone[0, :, 0].nonzero().tolist() == [[0, 0], [0, 1], [5, 2]]


def test_focal_loss_by_hand() -> None:
    likelihood = torch.zeros(1, 11, 1, 3)
    likelihood[0, ROAD] = torch.tensor([0.5, 0.25, 0.9])
    likelihood[0, POLE] = torch.tensor([0.25, 0.5, 0.1])
    labels = torch.tensor([[[ROAD, POLE, 255]]])
    own = [0.5 * math.log(2), 0.5 * math.log(2)]
    got = focal_static_loss(likelihood, labels, gamma=1, neighbourhood=1)
    assert got.item() == pytest.approx(sum(own) / 2)
    # With neighbours both classes count at both pixels, each with its own likelihood there.
    other = [0.75 * math.log(4), 0.75 * math.log(4)]
    got = focal_static_loss(likelihood, labels, gamma=1, neighbourhood=3)
    assert got.item() == pytest.approx(sum(own + other) / 2)
    got = focal_static_loss(likelihood, labels, gamma=0, neighbourhood=1)
    assert got.item() == pytest.approx(math.log(2))


def test_certain_wrong_and_empty_are_finite() -> None:
    likelihood = torch.zeros(1, 11, 2, 2, requires_grad=True)
    for labels in (torch.zeros(1, 2, 2).long(), torch.full((1, 2, 2), 255)):
        loss = focal_static_loss(likelihood, labels)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(likelihood.grad).all()
    assert loss == 0


def test_self_supervised_loss_by_hand() -> None:
    # By day road has 0.5 and the other eighteen share the rest; by night it has 0.1.
    day = logits_of({ROAD: math.log(18)})
    night = logits_of({ROAD: math.log(2)})
    assert self_supervised_loss(day, night).item() == pytest.approx(0.5 * -math.log(0.1), rel=1e-5)
    got = self_supervised_loss(day, night, gamma=2).item()
    assert got == pytest.approx(0.25 * -math.log(0.1), rel=1e-5)


def test_the_day_is_a_teacher_only() -> None:
    day = torch.randn(1, 19, 4, 4, requires_grad=True)
    night = torch.randn(1, 19, 4, 4, requires_grad=True)
    self_supervised_loss(day, night).backward()
    assert day.grad is None
    assert night.grad.abs().sum() > 0


@pytest.mark.parametrize('pseudo_label', ['day', 'fused'])
@pytest.mark.parametrize('likelihood', ['all', 'static'])
@pytest.mark.parametrize('std', [None, 0.05])
def test_static_loss_teaches_the_night_what_the_day_shows(
    pseudo_label: str, likelihood: str, std: float | None
) -> None:
    loss = StaticLoss(1.0, 3, pseudo_label, likelihood, std, std)
    day = torch.zeros(1, 19, 6, 6)
    day[:, ROAD, 3:] = day[:, SKY, :3] = 8
    day[:, CAR, 4:, :2] = 20
    day.requires_grad_()
    night = torch.zeros(1, 19, 6, 6, requires_grad=True)
    label = loss.label(day, night)
    assert set(label.unique().tolist()) <= {ROAD, SKY, 255}
    assert not label.requires_grad
    loss(night, label).backward()
    assert day.grad is None
    # Descent raises what the day shows there.
    assert (night.grad[0, ROAD, 5, 5] < 0) and (night.grad[0, SKY, 0, 0] < 0)
    assert night.grad[0, SKY, 5, 5] > 0
    if likelihood == 'static':
        assert (night.grad[0, 11:] == 0).all()


def test_likelihood_over_all_classes_and_over_the_static_ones() -> None:
    night = logits_of({ROAD: 1.0, CAR: 5.0})
    label = torch.tensor([[[ROAD]]])
    p = math.e / (math.e + math.e**5 + 17)
    got = StaticLoss(0.0, 1, prediction_weight_std=None)(night, label)
    assert got.item() == pytest.approx(-math.log(p), rel=1e-5)
    p = math.e / (math.e + 10)
    got = StaticLoss(0.0, 1, likelihood='static', prediction_weight_std=None)(night, label)
    assert got.item() == pytest.approx(-math.log(p), rel=1e-5)
    got = StaticLoss(0.0, 1, likelihood='static', prediction_weight_std=0.05)(night, label)
    assert got.item() == pytest.approx(-math.log(p * 0.9041), rel=1e-4)
