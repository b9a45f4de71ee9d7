"""A discriminator with its two losses: tells source from target by the segmentation alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch import nn

from models.configured import Configured
from models.discriminator import Discriminator
from training.losses import adversarial


class Adversary(Configured, nn.Module):
    """Output-space adversary of one target domain.

    Args:
        discriminator: D; None is DANNet's.
        loss: least squares (DANNet, Bi-Mix) or binary cross entropy (AdaptSegNet, ADVENT).
        weight: of the generator's loss.
        source_label: label of the source, that of the target being 1 minus it (DANNet's code: 0;
            Bi-Mix, equation 14: 1).
        sees: probabilities, or ADVENT's weighted self-information.
    """

    def __init__(
        self,
        discriminator: Discriminator | None = None,
        loss: Literal['least_squares', 'cross_entropy'] = 'least_squares',
        weight: float = 0.01,
        source_label: float = 1.0,
        sees: Literal['probabilities', 'self_information'] = 'probabilities',
    ) -> None:
        super().__init__()
        self.discriminator = discriminator or Discriminator()
        self.loss = getattr(adversarial, loss)
        self.weight = weight
        self.source_label = source_label
        self.sees = sees

    def generator_loss(self, target_logits: Tensor) -> Tensor:
        """Return the weighted loss that makes target logits [N, K, h, w] look like source.

        No gradient reaches the discriminator.
        """
        self.discriminator.requires_grad_(False)
        scores = self.discriminator(self._seen(target_logits))
        self.discriminator.requires_grad_(True)
        return self.weight * self.loss(scores.float(), self.source_label)

    def discriminator_loss(self, source_logits: Tensor, target_logits: Tensor) -> Tensor:
        """Return half the loss on source plus half on target (DANNet, equations 12 and 13).

        No gradient reaches the generator.
        """
        logits = [source_logits.detach(), target_logits.detach()]
        if logits[0].shape == logits[1].shape:
            # D has no batch norm: one forward of both is the same, and faster.
            scores = self.discriminator(self._seen(torch.cat(logits))).chunk(2)
        else:
            scores = [self.discriminator(self._seen(x)) for x in logits]
        source, target = (x.float() for x in scores)
        return (self.loss(source, self.source_label) + self.loss(target, 1 - self.source_label)) / 2

    def _seen(self, logits: Tensor) -> Tensor:
        probabilities = logits.softmax(dim=1)
        if self.sees == 'self_information':
            return adversarial.self_information(probabilities)
        return probabilities
