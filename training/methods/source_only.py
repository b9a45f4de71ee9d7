"""Source only: the labelled set alone. Every table's first row, and the papers' pre-training."""

from __future__ import annotations

from collections.abc import Iterator

from training.data.driving_data import Batch
from training.methods.method import Method
from training.methods.method import Terms


class SourceOnly(Method):
    """Weighted cross entropy on labelled images (DANNet, equation 7)."""

    def terms(self, batch: Batch) -> Iterator[Terms]:
        """Yield the segmentation loss."""
        image, labels = batch['source']
        logits = self.generator(image).segmentation.logits
        yield {'segmentation': self.segmentation_loss(logits, labels)}
