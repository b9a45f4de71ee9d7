from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from nightseg_ros.core.labels import NAMES
from training.losses import segmentation as losses

LN2 = math.log(2)

DANNET_WEIGHTS = (
    0.9041, 0.9542, 0.9175, 1.0162, 1.0081, 0.9988, 1.0482, 1.0210, 0.9275, 1.0004,
    0.9658, 0.9990, 1.0601, 0.9504, 1.0411, 1.0447, 1.0450, 1.0689, 1.0290,
)  # fmt: skip


def test_class_weights_are_dannets() -> None:
    torch.testing.assert_close(
        losses.class_weights(0.05), torch.tensor(DANNET_WEIGHTS), rtol=0, atol=5e-5
    )


@pytest.mark.parametrize(
    ('name', 'expected'), [('road', 0.6932), ('pole', 0.9961), ('motorcycle', 1.2204)]
)
def test_class_weights_of_the_wider_spread(name: str, expected: float) -> None:
    assert losses.class_weights(0.16)[NAMES.index(name)].item() == pytest.approx(expected, abs=5e-5)


@given(std=st.floats(0, 0.5), mean=st.floats(0.5, 2))
@settings(deadline=None)
def test_class_weights_have_the_asked_mean_and_deviation(std: float, mean: float) -> None:
    weights = losses.class_weights(std, mean)
    assert weights.mean().item() == pytest.approx(mean, abs=1e-4)
    assert weights.std().item() == pytest.approx(std, abs=1e-4)


def test_class_shares_sum_to_one() -> None:
    assert sum(losses.CLASS_SHARES) == pytest.approx(1, abs=1e-4)
    assert len(losses.CLASS_SHARES) == len(NAMES)


@given(seed=st.integers(0, 2**31), ignored=st.floats(0, 0.9), weighted=st.booleans())
@settings(max_examples=40, deadline=None)
def test_segmentation_loss_is_torchs_weighted_mean(
    seed: int, ignored: float, weighted: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 19, 4, 5, generator=generator)
    labels = torch.randint(0, 19, (2, 4, 5), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    labels[0, 0, 0] = 0  # one labelled pixel at least
    weights = losses.class_weights(0.16) if weighted else None
    expected = F.cross_entropy(logits, labels, weight=weights, ignore_index=255)
    torch.testing.assert_close(losses.segmentation_loss(logits, labels, weights), expected)


def test_segmentation_loss_of_a_single_light_pixel_is_its_cross_entropy() -> None:
    labels = torch.full((1, 2, 2), 255)
    labels[0, 1, 0] = 0  # road weighs 0.69
    loss = losses.segmentation_loss(torch.zeros(1, 19, 2, 2), labels, losses.class_weights(0.16))
    assert loss.item() == pytest.approx(math.log(19), rel=1e-5)


def test_segmentation_loss_by_hand() -> None:
    # p(truth) is 3/4 on the first pixel, 1/2 on the second; the third is ignored.
    logits = torch.tensor([[[[math.log(3), 0.0, 9.0]], [[0.0, 0.0, -9.0]]]])
    labels = torch.tensor([[[0, 1, 255]]])
    expected = (2 * math.log(4 / 3) + 6 * LN2) / 8
    loss = losses.segmentation_loss(logits, labels, torch.tensor([2.0, 6.0]))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('weighted', [True, False])
def test_all_ignored_gives_zero_and_finite_gradients(weighted: bool) -> None:
    logits = torch.randn(1, 19, 3, 3, requires_grad=True)
    weights = losses.class_weights() if weighted else None
    loss = losses.segmentation_loss(logits, torch.full((1, 3, 3), 255), weights)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(
    ('labels', 'width', 'expected'),
    [
        pytest.param([[4, 4, 4], [4, 4, 4]], 3, [[0, 0, 0], [0, 0, 0]], id='one class'),
        pytest.param([[0, 0, 1, 1]], 3, [[0, 1, 1, 0]], id='two classes'),
        pytest.param([[0, 0, 0, 1, 1, 1]], 5, [[0, 1, 1, 1, 1, 0]], id='wider'),
        pytest.param([[7, 7, 255, 255]], 3, [[0, 1, 1, 0]], id='ignored region'),
        pytest.param([[255, 255]], 3, [[0, 0]], id='all ignored'),
        pytest.param(
            [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 9]],
            3,
            [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]],
            id='lone pixel in a corner',
        ),
    ],
)
def test_label_boundaries_by_hand(
    labels: list[list[int]], width: int, expected: list[list[int]]
) -> None:
    boundaries = losses.label_boundaries(torch.tensor([labels]), width)
    assert boundaries.dtype == torch.float32
    assert boundaries.tolist() == [[expected]]


def test_label_boundaries_do_not_cross_frames() -> None:
    labels = torch.stack([torch.zeros(3, 3), torch.ones(3, 3)]).long()
    assert not losses.label_boundaries(labels).any()


@pytest.mark.parametrize(
    ('logits', 'boundaries', 'expected'),
    [
        # A quarter is boundary: it weighs 3/4, the rest 1/4.
        ([0.0] * 4, [1.0, 0, 0, 0], LN2 * (0.75 + 3 * 0.25) / 4),
        ([0.0] * 4, [1.0, 1, 0, 0], LN2 * 0.5),
        ([50.0, -50, -50, -50], [1.0, 0, 0, 0], 0.0),
        ([3.0] * 4, [0.0] * 4, 0.0),
        ([3.0] * 4, [1.0] * 4, 0.0),
    ],
)
def test_boundary_loss_by_hand(
    logits: list[float], boundaries: list[float], expected: float
) -> None:
    maps = [torch.tensor(values).view(1, 1, 2, 2) for values in (logits, boundaries)]
    assert losses.boundary_loss(*maps).item() == pytest.approx(expected, abs=1e-6)


def test_exposure_target_is_the_largest_channel() -> None:
    image = torch.tensor([[[[0.1, 0.9]], [[0.5, 0.2]], [[0.3, 0.4]]]])
    torch.testing.assert_close(losses.exposure_target(image), torch.tensor([[[[0.5, 0.9]]]]))


@pytest.mark.parametrize(
    ('predicted', 'expected'), [([0.5, 0.0], 0.0), ([0.3, 0.0], 0.1), ([0.0, 1.0], 0.75)]
)
def test_exposure_loss_by_hand(predicted: list[float], expected: float) -> None:
    # V is .2 .8 / .4 .6 in the left half (mean .5), 0 in the right: two predicted pixels.
    image = torch.zeros(1, 3, 2, 4)
    image[0, :, :, :2] = torch.tensor(
        [[[0.2, 0.1], [0.4, 0.0]], [[0, 0.8], [0, 0]], [[0, 0], [0, 0.6]]]
    )
    loss = losses.exposure_loss(torch.tensor(predicted).view(1, 1, 1, 2), image)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_reductions_by_hand() -> None:
    logits = torch.zeros(1, 19, 1, 3)
    labels = torch.tensor([[[0, 5, 255]]])
    weights = losses.class_weights(0.16)
    each = math.log(19)
    weighted = (weights[0] + weights[5]).item() * each
    got = losses.segmentation_loss(logits, labels, weights, 'weighted_mean')
    assert got.item() == pytest.approx(each, rel=1e-5)
    got = losses.segmentation_loss(logits, labels, weights, 'pixel_class_mean')
    assert got.item() == pytest.approx(weighted / (2 * 19), rel=1e-5)
    for chosen in (weights, None):
        got = losses.segmentation_loss(logits, labels, chosen, 'position_sum', positions=6)
        assert got.item() == pytest.approx(6 * each, rel=1e-5)


@pytest.mark.parametrize('reduction', ['weighted_mean', 'pixel_class_mean', 'position_sum'])
def test_nothing_labelled_is_zero_in_every_reduction(reduction: str) -> None:
    logits = torch.zeros(1, 19, 2, 2, requires_grad=True)
    loss = losses.segmentation_loss(
        logits, torch.full((1, 2, 2), 255), losses.class_weights(), reduction
    )
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_pixel_weighted_loss_by_hand() -> None:
    logits = torch.zeros(1, 19, 1, 4)
    labels = torch.tensor([[[0, 5, 255, 3]]])
    weights = torch.tensor([[[1.0, 0.5, 1.0, 0.0]]])
    got = losses.pixel_weighted_loss(logits, labels, weights)
    assert got.item() == pytest.approx(1.5 * math.log(19) / 4, rel=1e-5)


def test_dice_loss_by_hand() -> None:
    # Two pixels of class 0 at likelihoods .9 and .5, one of class 1 at .5, one that is ignored.
    likelihood = torch.tensor([[0.9, 0.5, 0.5, 0.1], [0.1, 0.5, 0.5, 0.9]])
    logits = likelihood.log().view(1, 2, 1, 4)
    labels = torch.tensor([[[0, 0, 1, 255]]])
    first = 2 * (0.9 + 0.5) / (1.9 + 2)
    second = 2 * 0.5 / (1.1 + 1)
    expected = 1 - (first + second) / 2
    assert losses.dice_loss(logits, labels).item() == pytest.approx(expected, abs=1e-6)


def test_dice_loss_counts_classes_alike_and_ignores_absent_ones() -> None:
    logits = torch.full((1, 19, 4, 4), -20.0)
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    labels[0, 0, 0] = 18  # one pixel of sixteen
    logits[0, 0] = 20.0  # all road: half of the classes are missed
    assert losses.dice_loss(logits, labels).item() == pytest.approx(0.5, abs=0.05)
    logits.zero_().scatter_(1, labels.unsqueeze(1), 40.0)
    assert losses.dice_loss(logits, labels).item() == pytest.approx(0.0, abs=1e-5)


def test_dice_loss_of_nothing_labelled_is_zero() -> None:
    logits = torch.randn(1, 19, 2, 2, requires_grad=True)
    loss = losses.dice_loss(logits, torch.full((1, 2, 2), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.isfinite().all()
