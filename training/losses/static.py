"""What the day teaches the night: DANNet's static loss, Bi-Mix's self-supervised loss."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.configured import Configured
from nightseg_ros.core.labels import STATIC_TRAIN_IDS
from nightseg_ros.core.labels import UNLABELLED
from training.losses.segmentation import class_weights

STATIC = len(STATIC_TRAIN_IDS)
"""Static classes are trainIds 0..10: the first channels."""

SMALLEST = 1e-7
"""Likelihoods are kept this far from 0 and 1."""


def reweighted(scores: Tensor, weights: Tensor | None) -> Tensor:
    """Return scores [N, K, h, w] with each class multiplied by its weight (DANNet, section 3.3)."""
    return scores if weights is None else scores * weights[: scores.shape[1], None, None]


def without_dynamic(labels: Tensor) -> Tensor:
    """Return trainIds with the dynamic classes ignored (255)."""
    return labels.where(labels < STATIC, UNLABELLED)


def day_pseudo_label(day_logits: Tensor, weights: Tensor | None) -> Tensor:
    """Return F_td, the argmax of w P_td, int64 [N, h, w]; dynamic classes 255 (DANNet, 3.4)."""
    return without_dynamic(reweighted(day_logits.softmax(dim=1), weights).argmax(dim=1))


def fused_pseudo_label(day_logits: Tensor, night_logits: Tensor, weights: Tensor | None) -> Tensor:
    """Return the pseudo label of DANNet's code, int64 [N, h, w]; dynamic classes 255.

    Static logits are m day + (1 - m) night, with m = 0.8 where the day logit is above 0.4 and 0.2
    elsewhere; dynamic logits are those of the night; then weights and argmax.
    """
    day, night = day_logits[:, :STATIC], night_logits[:, :STATIC]
    share = 0.2 + 0.6 * (day > 0.4)
    fused = torch.cat([share * day + (1 - share) * night, night_logits[:, STATIC:]], dim=1)
    return without_dynamic(reweighted(fused, weights).argmax(dim=1))


def neighbour_classes(labels: Tensor, neighbourhood: int = 3) -> Tensor:
    """Return which static classes lie around each labelled pixel, 0 or 1, [N, 11, h, w].

    max over the neighbourhood of the one-hot pseudo label (DANNet, equation 9). Ignored neighbours
    count for no class; ignored pixels have none themselves.
    """
    classes = torch.arange(STATIC, device=labels.device).view(1, -1, 1, 1)
    one_hot = (labels.unsqueeze(1) == classes).float()
    near = F.max_pool2d(one_hot, neighbourhood, stride=1, padding=neighbourhood // 2)
    return near * (labels != UNLABELLED).unsqueeze(1)


def focal_static_loss(
    likelihood: Tensor, labels: Tensor, gamma: float = 1.0, neighbourhood: int = 3
) -> Tensor:
    """Return L_static, the mean over valid pixels of (1 - P)^gamma (-log p) (DANNet, equation 8).

    Args:
        likelihood: of the static classes at night, [N, 11, h, w].
        labels: pseudo label, trainIds 0..10 and 255, int64 [N, h, w].
        gamma: focusing parameter; 0 is cross entropy.
        neighbourhood: side of the region whose labels count as correct; 1 is the pixel itself.
    """
    p = likelihood.clamp(SMALLEST, 1 - SMALLEST)
    loss = (1 - p) ** gamma * -p.log() * neighbour_classes(labels, neighbourhood)
    return loss.sum() / (labels != UNLABELLED).sum().clamp(min=1)


def self_supervised_loss(day_logits: Tensor, night_logits: Tensor, gamma: float = 1.0) -> Tensor:
    """Return L_ssl, the mean of (1 - p_d)^gamma (-log p_n) (Bi-Mix, equation 5).

    p_d and p_n are the likelihoods, by day and by night, of the class that is likeliest by day.
    No gradient goes through the day.
    """
    likelihood, label = day_logits.detach().softmax(dim=1).max(dim=1, keepdim=True)
    night = night_logits.log_softmax(dim=1).gather(1, label)
    return ((1 - likelihood) ** gamma * -night).mean()


class StaticLoss(Configured):
    """The static loss with the choices on which DANNet's paper and code differ.

    Args:
        gamma: focusing parameter; 0 is the row "w/ Cross Entropy Loss" of DANNet's table 4.
        neighbourhood: 3 in the paper; 1 in the code, and in the row "w/ Focal Loss".
        pseudo_label: ``day``, argmax of the weighted day likelihood (paper), or ``fused`` with the
            night's own logits (code).
        likelihood: of the night: ``all``, the static channels of the softmax over all classes
            (paper), or ``static``, the softmax over the static logits alone (code).
        label_weight_std: spread of the class weights on the pseudo label; None is the row
            "w/o re-weighting on pseudo labels".
        prediction_weight_std: spread of the weights on the night's likelihood; None is the row
            "w/o re-weighting on prediction".
    """

    def __init__(
        self,
        gamma: float = 1.0,
        neighbourhood: int = 3,
        pseudo_label: Literal['day', 'fused'] = 'day',
        likelihood: Literal['all', 'static'] = 'all',
        label_weight_std: float | None = 0.05,
        prediction_weight_std: float | None = 0.05,
    ) -> None:
        self.gamma = gamma
        self.neighbourhood = neighbourhood
        self.pseudo_label = pseudo_label
        self.likelihood = likelihood
        self.label_weight_std = label_weight_std
        self.prediction_weight_std = prediction_weight_std

    def label(self, day_logits: Tensor, night_logits: Tensor) -> Tensor:
        """Return the pseudo label, int64 [N, h, w]; nothing flows back through it."""
        weights = _weights(self.label_weight_std, day_logits)
        if self.pseudo_label == 'day':
            return day_pseudo_label(day_logits.detach(), weights)
        return fused_pseudo_label(day_logits.detach(), night_logits.detach(), weights)

    def __call__(self, night_logits: Tensor, label: Tensor) -> Tensor:
        """Return L_static of night logits [N, 19, h, w] against a pseudo label of :meth:`label`."""
        if self.likelihood == 'all':
            likelihood = night_logits.softmax(dim=1)[:, :STATIC]
        else:
            likelihood = night_logits[:, :STATIC].softmax(dim=1)
        likelihood = reweighted(likelihood, _weights(self.prediction_weight_std, night_logits))
        return focal_static_loss(likelihood, label, self.gamma, self.neighbourhood)


def _weights(std: float | None, like: Tensor) -> Tensor | None:
    return None if std is None else class_weights(std).to(like)
