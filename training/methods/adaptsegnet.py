"""AdaptSegNet and ADVENT: adversarial adaptation of source to night in the output space."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from models.discriminator import Discriminator
from training.adversary import Adversary
from training.data.driving_data import Batch
from training.methods.method import Method
from training.methods.method import Terms
from training.optimisation import PolyAdam

STRIDES = (2, 2, 2, 2, 2)
CHANNELS = (64, 128, 256, 512)
"""The discriminator of both papers' codes: five 4x4 convolutions, all with stride 2."""


class AdaptSegNet(Method):
    """AdaptSegNet (Tsai et al., CVPR 2018), single level: the baseline of DANNet's tables 2 to 4.

    Args:
        net: the segmentation network.
        adversary: of the night; None is the paper's (cross entropy, weight 0.001).
        discriminator_optimizer: None is Adam at 1e-4, betas (0.9, 0.99).
        common: see :class:`Method`.
    """

    def __init__(
        self,
        net: nn.Module,
        adversary: Adversary | None = None,
        discriminator_optimizer: PolyAdam | None = None,
        **common: Any,
    ) -> None:
        super().__init__(net, **common)
        self.adversary = adversary or self.default_adversary()
        self.discriminator_optimizer = discriminator_optimizer or PolyAdam(1e-4)

    @staticmethod
    def default_adversary() -> Adversary:
        """Return the paper's."""
        return Adversary(Discriminator(channels=CHANNELS, strides=STRIDES), 'cross_entropy', 0.001)

    def adversaries(self) -> nn.ModuleList:
        """Return the one of the night."""
        return nn.ModuleList([self.adversary])

    def terms(self, batch: Batch) -> Iterator[Terms]:
        """Yield the source's segmentation loss, the night's adversarial loss, D's loss."""
        source, labels = batch['source']
        _, night = batch['target']

        source_logits = self.generator(source).segmentation.logits
        yield {'segmentation': self.segmentation_loss(source_logits, labels)}
        source_logits = self.upsample(source_logits.detach(), source.shape[-2:])

        night_logits = self.generator(night).segmentation.logits
        night_logits = self.upsample(night_logits, night.shape[-2:])
        yield {'adversarial/night': self.adversary.generator_loss(night_logits)}
        night_logits = night_logits.detach()

        yield {
            'discriminator/night': self.adversary.discriminator_loss(source_logits, night_logits)
        }


class Advent(AdaptSegNet):
    """ADVENT (Vu et al., CVPR 2019), AdvEnt: the discriminator sees weighted self-information."""

    @staticmethod
    def default_adversary() -> Adversary:
        """Return the paper's."""
        discriminator = Discriminator(channels=CHANNELS, strides=STRIDES)
        return Adversary(discriminator, 'cross_entropy', 0.001, sees='self_information')
