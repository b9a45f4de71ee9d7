from __future__ import annotations

import math

import pytest
import torch

from models.discriminator import Discriminator
from training.adversary import Adversary
from training.losses.adversarial import cross_entropy
from training.losses.adversarial import least_squares
from training.losses.adversarial import self_information


def test_least_squares_by_hand() -> None:
    scores = torch.tensor([[[[0.0, 2.0], [1.0, -1.0]]]])
    assert least_squares(scores, 1.0).item() == pytest.approx((1 + 1 + 0 + 4) / 4)
    assert least_squares(scores, 0.0).item() == pytest.approx((0 + 4 + 1 + 1) / 4)


def test_cross_entropy_by_hand() -> None:
    scores = torch.tensor([math.log(3.0), 0.0])  # probabilities 3/4 and 1/2
    assert cross_entropy(scores, 1.0).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert cross_entropy(scores, 0.0).item() == pytest.approx((math.log(4) + math.log(2)) / 2)


def test_self_information_by_hand() -> None:
    p = torch.zeros(1, 19, 1, 2)
    p[0, 3, 0, 0] = 1
    p[0, :, 0, 1] = 1 / 19
    got = self_information(p)
    assert (got[..., 0] == 0).all()
    assert got[0, :, 0, 1].tolist() == pytest.approx([1 / 19] * 19, rel=1e-5)


@pytest.mark.parametrize('sees', ['probabilities', 'self_information'])
@pytest.mark.parametrize('loss', ['least_squares', 'cross_entropy'])
def test_gradients_stay_on_their_side(loss: str, sees: str) -> None:
    torch.manual_seed(0)
    adversary = Adversary(Discriminator(channels=(4, 4, 4, 4)), loss, 0.01, sees=sees)
    source, target = torch.randn(2, 1, 19, 64, 64).unbind(0)
    target.requires_grad_()
    adversary.generator_loss(target).backward()
    assert target.grad.abs().sum() > 0
    assert all(p.grad is None for p in adversary.parameters())
    target.grad = None
    adversary.discriminator_loss(source, target).backward()
    assert target.grad is None
    assert all(p.grad is not None for p in adversary.parameters())


@pytest.mark.parametrize('source_label', [0.0, 1.0])
def test_equations_10_12_and_13_by_hand(source_label: float) -> None:
    adversary = Adversary(weight=0.5, source_label=source_label)
    adversary.discriminator = Scores()
    source, target = torch.zeros(1, 19, 1, 1), torch.zeros(1, 19, 1, 1)
    source[0, 0], target[0, 0] = math.log(18), math.log(2)  # road 0.5 and 0.1
    got = adversary.generator_loss(target).item()
    assert got == pytest.approx(0.5 * (0.1 - source_label) ** 2, rel=1e-5)
    got = adversary.discriminator_loss(source, target).item()
    expected = ((0.5 - source_label) ** 2 + (0.1 - (1 - source_label)) ** 2) / 2
    assert got == pytest.approx(expected, rel=1e-5)


class Scores(torch.nn.Module):
    """Score by the likelihood of road."""

    def forward(self, probabilities: torch.Tensor) -> torch.Tensor:
        return probabilities[:, :1]


def test_discriminator_learns_to_tell() -> None:
    torch.manual_seed(0)
    adversary = Adversary(Discriminator(channels=(8, 8, 8, 8)))
    source, target = torch.zeros(2, 2, 19, 64, 64).unbind(0)
    source[:, 0] = target[:, 10] = 4
    optimizer = torch.optim.Adam(adversary.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = adversary.discriminator_loss(source, target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_one_forward_of_both_is_the_same_as_two() -> None:
    torch.manual_seed(0)
    adversary = Adversary(Discriminator(channels=(4, 4, 4, 4)), source_label=0.0)
    source, target = torch.randn(2, 1, 19, 64, 64).unbind(0)
    scores = [adversary.discriminator(x.softmax(1)) for x in (source, target)]
    expected = (least_squares(scores[0], 0.0) + least_squares(scores[1], 1.0)) / 2
    torch.testing.assert_close(adversary.discriminator_loss(source, target), expected)
    # Sizes may differ: the source's crop need not be the target's.
    wider = torch.cat([target, target], dim=-1)
    assert adversary.discriminator_loss(source, wider).isfinite()
