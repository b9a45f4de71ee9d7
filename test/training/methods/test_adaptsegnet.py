from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models.student import Student
from training.data.driving_data import Batch
from training.methods.adaptsegnet import AdaptSegNet
from training.methods.adaptsegnet import Advent

TERMS = ['segmentation', 'adversarial/night', 'discriminator/night']


@pytest.mark.parametrize(
    ('kind', 'sees'), [(AdaptSegNet, 'probabilities'), (Advent, 'self_information')]
)
def test_terms_and_the_papers_adversary(
    net: Student, batch: Batch, run: Callable, kind: type[AdaptSegNet], sees: str
) -> None:
    method = kind(net)
    assert list(run(method, batch)) == TERMS
    [adversary] = method.adversaries()
    assert (adversary.weight, adversary.sees) == (0.001, sees)
    strides = [m.stride[0] for m in adversary.modules() if isinstance(m, torch.nn.Conv2d)]
    assert strides == [2, 2, 2, 2, 2]


def test_each_group_trains_one_side(
    net: Student, batch: Batch, gradient_of: Callable[..., float]
) -> None:
    method = AdaptSegNet(net)
    sides = []
    for group in method.terms(batch):
        method.zero_grad()
        torch.stack(list(group.values())).sum().backward()
        sides.append((gradient_of(method.generator) > 0, gradient_of(method.adversary) > 0))
    assert sides == [(True, False), (True, False), (False, True)]


def test_the_day_of_a_pair_is_not_looked_at(net: Student, batch: Batch, run: Callable) -> None:
    method = AdaptSegNet(net).eval()
    first = run(method, batch)
    batch['target'][0] = torch.zeros_like(batch['target'][0])
    assert run(method, batch) == first
