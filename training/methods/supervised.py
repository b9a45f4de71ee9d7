"""The student's recipe: labelled day frames, relit to night by the data module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch import nn
from torch.nn import functional as F  # noqa: N812

from models.segmentation_output import SegmentationOutput
from training.data.driving_data import Batch
from training.losses import segmentation as losses
from training.methods.method import Method
from training.methods.method import Terms
from training.optimisation import PolyAdamW
from training.optimisation import PolySGD


class Supervised(Method):
    """Cross entropy, PIDNet's branch losses and EGNet's exposure loss on the student.

    Args:
        net: the student.
        optimizer: None is AdamW with warm-up.
        class_weight_std: spread of DANNet's class weights in the cross entropy.
        detail_weight: weight of the detail branch's cross entropy.
        boundary_weight: weight of the boundary loss.
        exposure_weight: weight of the exposure loss.
        dice_weight: weight of the Dice loss beside the cross entropy; 0 leaves it out.
        loss_stride: the loss is taken on every n-th pixel of labels and upsampled logits.
        gradient_clip: largest norm of the gradient.
        measure_size: height and width at which frames are measured, that of the released model.
        measure_weight_std: the released model has no class weights, hence none are measured.
        common: see :class:`Method`.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: PolySGD | PolyAdamW | None = None,
        class_weight_std: float | None = 0.16,
        detail_weight: float = 0.4,
        boundary_weight: float = 5.0,
        exposure_weight: float = 0.5,
        dice_weight: float = 0.0,
        loss_stride: int = 2,
        gradient_clip: float | None = 1.0,
        measure_size: tuple[int, int] | None = (384, 640),
        measure_weight_std: float | None = None,
        **common: Any,
    ) -> None:
        super().__init__(
            net,
            optimizer=optimizer or PolyAdamW(),
            class_weight_std=class_weight_std,
            gradient_clip=gradient_clip,
            measure_size=measure_size,
            measure_weight_std=measure_weight_std,
            **common,
        )
        self.detail_weight = detail_weight
        self.boundary_weight = boundary_weight
        self.exposure_weight = exposure_weight
        self.dice_weight = dice_weight
        self.loss_stride = loss_stride

    def terms(self, batch: Batch) -> Iterator[Terms]:
        """Yield the losses of all branches."""
        image, labels = batch['source']
        output = self.generator(image).segmentation
        terms = self.branch_terms(output, labels)
        if output.exposure is not None:
            loss = losses.exposure_loss(output.exposure.float(), image.float() / 255)
            terms['exposure'] = self.exposure_weight * loss
        yield terms

    def branch_terms(self, output: SegmentationOutput, labels: Tensor) -> Terms:
        """Return the losses of the three branches against trainIds int64 [N, H, W]."""
        stride = self.loss_stride
        targets = labels[:, stride // 2 :: stride, stride // 2 :: stride]
        terms = {
            'segmentation': self.segmentation_loss(output.logits, targets),
            'detail': self.detail_weight * self.segmentation_loss(output.detail_logits, targets),
            'boundary': self.boundary_weight * boundary_term(output.boundary_logits, labels),
        }
        if self.dice_weight:
            logits = self.upsample(output.logits, targets.shape[-2:])
            terms['dice'] = self.dice_weight * losses.dice_loss(logits, targets)
        return terms


def boundary_term(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the boundary branch's loss; boundaries are kept when labels shrink to the logits."""
    boundaries = F.adaptive_max_pool2d(losses.label_boundaries(labels), logits.shape[-2:])
    return losses.boundary_loss(logits.float(), boundaries)
