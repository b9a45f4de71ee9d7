from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.student import Student
from training.optimisation import PolyAdam
from training.optimisation import PolyAdamW
from training.optimisation import PolySGD
from training.optimisation import warm_poly


@pytest.mark.parametrize(
    ('step', 'steps', 'warmup', 'expected'),
    [
        (0, 6000, 150, 1 / 150),
        (74, 6000, 150, 0.5),
        (149, 6000, 150, 1.0),
        (150, 6000, 150, 1.0),
        (3075, 6000, 150, 0.5**0.9),
        (6000, 6000, 150, 0.0),
        (7000, 6000, 150, 0.0),
        (0, 10, 0, 1.0),
        (5, 10, 0, 0.5**0.9),
        (3, 4, 150, 4 / 150),
    ],
)
def test_warm_poly_by_hand(step: int, steps: int, warmup: int, expected: float) -> None:
    assert warm_poly(step, steps, warmup) == pytest.approx(expected)


@given(steps=st.integers(1, 500), warmup=st.integers(0, 100))
def test_warm_poly_climbs_then_falls(steps: int, warmup: int) -> None:
    rates = [warm_poly(step, steps, warmup) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_norms_and_biases_do_not_decay() -> None:
    net = Student(8, 4)
    optimizer, _ = PolyAdamW(1e-3, warmup=2, weight_decay=0.02).configure(net.named_parameters(), 9)
    decayed, kept = optimizer.param_groups
    assert decayed['weight_decay'] == 0.02
    assert kept['weight_decay'] == 0
    assert {p.ndim for p in decayed['params']} == {4}
    assert {p.ndim for p in kept['params']} == {1}
    assert len(decayed['params']) + len(kept['params']) == len(list(net.parameters()))
    assert decayed['lr'] == pytest.approx(1e-3 * 1 / 2)  # the first of two steps of warm-up


def test_sgd_is_the_papers() -> None:
    net = nn.Sequential()
    net.add_module('body', nn.Linear(2, 2))
    net.add_module('head', nn.Linear(2, 2))
    optimizer, schedule = PolySGD(head_lr_factor=10).configure(net.named_parameters(), 4)
    body, head = optimizer.param_groups
    assert body['params'] == list(net.body.parameters())
    assert head['params'] == list(net.head.parameters())
    for group, rate in ((body, 2.5e-4), (head, 2.5e-3)):
        assert (group['momentum'], group['weight_decay']) == (0.9, 5e-4)
        assert group['lr'] == pytest.approx(rate)
    optimizer.step()
    schedule.step()
    assert body['lr'] == pytest.approx(2.5e-4 * 0.75**0.9)
    assert head['lr'] == pytest.approx(2.5e-3 * 0.75**0.9)


def test_frozen_parameters_are_left_alone() -> None:
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    for optimisation in (PolySGD(), PolyAdam(), PolyAdamW()):
        optimizer, _ = optimisation.configure(net.named_parameters(), 4)
        params = [p for group in optimizer.param_groups for p in group['params']]
        assert params == [net.weight]


def test_adam_is_the_papers() -> None:
    optimizer, _ = PolyAdam().configure(nn.Linear(2, 2).named_parameters(), 4)
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]['betas'] == (0.9, 0.99)
    assert optimizer.param_groups[0]['lr'] == 2.5e-4
