"""Adversarial losses in the output space: AdaptSegNet, ADVENT, DANNet, Bi-Mix."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def least_squares(scores: Tensor, label: float) -> Tensor:
    """Return the mean of (D(P) - label)^2 (Mao et al., 2017; DANNet, equations 10, 12 and 13)."""
    return (scores - label).square().mean()


def cross_entropy(scores: Tensor, label: float) -> Tensor:
    """Return binary cross entropy of logits against one label (AdaptSegNet, equations 1 and 4)."""
    return F.binary_cross_entropy_with_logits(scores, scores.new_full(scores.shape, label))


def self_information(probabilities: Tensor) -> Tensor:
    """Return -p log p / log K, [N, K, h, w] in [0, 1] (ADVENT, section 3.2)."""
    p = probabilities
    return -p * p.clamp(min=1e-30).log() / math.log(p.shape[1])
