"""Supervised losses: cross entropy in the papers' reductions, boundaries, exposure."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from nightseg_ros.core.labels import UNLABELLED

# Share of each class's pixels in Cityscapes, from DANNet's code.
CLASS_SHARES = (
    0.36869696, 0.06084986, 0.22824049, 0.00655399, 0.00877272, 0.01227341, 0.00207795,
    0.0055127, 0.15928651, 0.01157818, 0.04018982, 0.01218957, 0.00135122, 0.06994545,
    0.00267456, 0.00235192, 0.00232904, 0.00098658, 0.00413907,
)  # fmt: skip


def class_weights(std: float = 0.05, mean: float = 1.0) -> Tensor:
    """Return DANNet's class weights, float [19] (its equations 1 and 2).

    w_k = (mean(ln a) - ln a_k) / std(ln a) * std + mean, with the unbiased deviation.

    Args:
        std: spread; the paper trains with 0.05 and tests with 0.16. 0 weighs all alike.
        mean: avg of the paper.
    """
    logs = torch.log(torch.tensor(CLASS_SHARES))
    return (logs.mean() - logs) / logs.std() * std + mean


Reduction = Literal['weighted_mean', 'pixel_class_mean', 'position_sum']
"""How the cross entropy of labelled pixels becomes one number: the mean weighted by class weights
(the official codes), the sum over N pixels and C classes divided by both (DANNet, equation 7;
Bi-Mix, 13), or that mean times the positions of the network's output map: the sum over it, which is
what EGNet's learning rate of 1e-5 needs."""


def segmentation_loss(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    reduction: Reduction = 'weighted_mean',
    positions: int = 1,
) -> Tensor:
    """Return cross entropy over the labelled pixels; 0 where there are none.

    Args:
        logits: [N, K, h, w].
        labels: int64 [N, h, w], 255 = ignore.
        weights: class weights [K], or None for ones.
        reduction: see :data:`Reduction`.
        positions: of the network's output map, for ``position_sum``.
    """
    loss = F.cross_entropy(logits, labels, weight=weights, ignore_index=UNLABELLED, reduction='sum')
    valid = labels != UNLABELLED
    if reduction == 'pixel_class_mean':
        return loss / (valid.sum() * logits.shape[1]).clamp(min=1)
    if reduction == 'position_sum':
        loss = loss * positions
    if weights is None:
        return loss / valid.sum().clamp(min=1)
    total = (weights[labels.where(valid, 0)] * valid).sum()
    return loss / total.where(total > 0, 1.0)


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return soft Dice over the batch, mean over the classes in its labels; 0 without labels.

    Every class counts alike, however few its pixels are, as in the mean IoU (Milletari et al.,
    "V-Net", 2016, equation 3, without squares).

    Args:
        logits: [N, K, h, w].
        labels: int64 [N, h, w], 255 = ignore.
    """
    valid = labels != UNLABELLED
    likelihood = logits.softmax(dim=1) * valid.unsqueeze(1)
    truth = labels.where(valid, 0)
    present = torch.bincount(labels[valid], minlength=logits.shape[1]).float()
    hit = likelihood.gather(1, truth.unsqueeze(1)).squeeze(1)
    both = torch.zeros_like(present).index_add(0, truth.flatten(), hit.flatten())
    dice = 2 * both / (likelihood.sum(dim=(0, 2, 3)) + present).clamp(min=1)
    seen = present > 0
    return ((1 - dice) * seen).sum() / seen.sum().clamp(min=1)


def pixel_weighted_loss(logits: Tensor, labels: Tensor, pixel_weights: Tensor) -> Tensor:
    """Return cross entropy weighted pixel by pixel, mean over all pixels (DACS; Bi-Mix's code).

    Args:
        logits: [N, K, h, w].
        labels: int64 [N, h, w], 255 = ignore.
        pixel_weights: [N, h, w], 0 or more.
    """
    loss = F.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction='none')
    return (loss * pixel_weights).mean()


def label_boundaries(labels: Tensor, width: int = 3) -> Tensor:
    """Return where classes meet, float [N, 1, h, w] of 0 and 1, from int64 [N, h, w].

    A pixel is boundary when its ``width`` x ``width`` neighbourhood holds two labels; borders of
    ignored regions count too (PIDNet draws its edges the same way).
    """
    x = labels.float().unsqueeze(1)
    padding = width // 2
    largest = F.max_pool2d(x, width, stride=1, padding=padding)
    smallest = -F.max_pool2d(-x, width, stride=1, padding=padding)
    return (largest != smallest).float()


def boundary_loss(logits: Tensor, boundaries: Tensor) -> Tensor:
    """Return balanced binary cross entropy of the boundary branch (PIDNet, its loss l1).

    Args:
        logits: [N, 1, h, w].
        boundaries: 0 or 1, [N, 1, h, w].
    """
    share = boundaries.mean()
    weight = torch.where(boundaries > 0.5, 1 - share, share)
    return F.binary_cross_entropy_with_logits(logits, boundaries, weight=weight)


def exposure_target(image: Tensor) -> Tensor:
    """Return V = max(R, G, B), [N, 1, H, W], of RGB in [0, 1] [N, 3, H, W] (NightCity, 4.1)."""
    return image.amax(dim=1, keepdim=True)


def exposure_loss(predicted: Tensor, image: Tensor) -> Tensor:
    """Return EGNet's L1 between predicted exposure and V (NightCity, section 4.1, L_e).

    Args:
        predicted: [N, 1, h, w] in [0, 1].
        image: RGB in [0, 1], [N, 3, H, W]; V is averaged down to h x w.
    """
    target = F.adaptive_avg_pool2d(exposure_target(image), predicted.shape[-2:])
    return F.l1_loss(predicted, target)
