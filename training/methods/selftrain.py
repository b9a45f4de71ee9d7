"""Source only plus self-training on unlabelled night images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from training.data.driving_data import Batch
from training.methods.method import Method
from training.methods.method import Terms
from training.self_training import SelfTraining


class SelfTrain(Method):
    """DAFormer's recipe, without its feature distance: see :mod:`training.self_training`.

    DANNet and Bi-Mix take the same ``self_training`` beside their own terms.
    """

    def __init__(
        self, net: nn.Module, self_training: SelfTraining | None = None, **common: Any
    ) -> None:
        super().__init__(net, self_training=self_training or SelfTraining(), **common)

    def terms(self, batch: Batch) -> Iterator[Terms]:
        """Yield the segmentation loss on the source; what the teacher adds follows."""
        source, labels = batch['source']
        logits = self.generator(source).segmentation.logits
        yield {'segmentation': self.segmentation_loss(logits, labels)}
