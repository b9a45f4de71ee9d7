"""EGNet (Tan et al., "Night-time Scene Parsing with a Large Real Dataset"): labelled nights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from training.data.driving_data import Batch
from training.losses.segmentation import exposure_loss
from training.methods.method import Method
from training.methods.method import Terms


class EGNet(Method):
    """L = alpha L_c + beta L_e (section 4.1) on a network with an exposure stream.

    Tables 4 and 5 are the ``guidance`` of :class:`models.egnet.EGNet`; a network without exposure
    stream trains without L_e.

    Args:
        net: a network that predicts exposure beside its logits.
        exposure_weight: beta.
        common: see :class:`Method`. The paper's learning rate of 1e-5 wants
            ``segmentation_reduction`` position_sum.
    """

    def __init__(self, net: nn.Module, exposure_weight: float = 0.01, **common: Any) -> None:
        super().__init__(net, **common)
        self.exposure_weight = exposure_weight

    def terms(self, batch: Batch) -> Iterator[Terms]:
        """Yield both losses."""
        image, labels = batch['source']
        output = self.generator(image).segmentation
        terms = {'segmentation': self.segmentation_loss(output.logits, labels)}
        if output.exposure is not None:
            loss = exposure_loss(output.exposure.float(), image.float() / 255)
            terms['exposure'] = self.exposure_weight * loss
        yield terms
