"""DeepLab-v2 on ResNet-101 (Chen et al., "DeepLab", TPAMI 2018), as adaptation papers use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torch import nn

from models.configured import Configured
from models.resnet import CHANNELS
from models.resnet import RESNET101
from models.resnet import ResNetStages
from models.resnet import freeze_batch_norm_affine
from models.segmentation_output import SegmentationOutput
from nightseg_ros.core.labels import NUM_CLASSES

DILATIONS = {'all': (6, 12, 18, 24), 'official': (6, 12)}
"""Dilations of the branches that are summed.

'all' is ASPP-L of the paper (section 3.2, table 4). In the released code of AdaptSegNet and those
built on it, DANNet's among them, the loop over the branches returns in its first round, so that
only the first two take part: 'official'.
"""


class AtrousSpatialPyramidPooling(nn.Module):
    """Sum of parallel dilated 3x3 classifiers (ASPP, section 3.2, figure 4)."""

    def __init__(self, channels: int, num_classes: int, dilations: Sequence[int]):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, num_classes, 3, padding=dilation, dilation=dilation)
            for dilation in dilations
        )
        for branch in self.branches:
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.zeros_(branch.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C, h, w] to [N, K, h, w]."""
        first, *others = self.branches
        total = first(features)
        for branch in others:
            total = total + branch(features)
        return total


class DeepLabV2(Configured, nn.Module):
    """ResNet-101 at stride 8 and atrous spatial pyramid pooling; no CRF, no multi-scale input.

    Args:
        num_classes: number of classes K.
        weights: of the backbone; see :func:`models.resnet.load_backbone`.
        blocks: of the backbone.
        branches: 'all' (the paper) or 'official'; see :data:`DILATIONS`.
        freeze_batch_norm: leave weight and bias of the batch norms as they were loaded.

    Shape:
        - Input: [N, 3, H, W] float, ImageNet-normalised RGB.
        - Output: :class:`SegmentationOutput` at stride 8.
    """

    def __init__(
        self,
        num_classes: int = NUM_CLASSES,
        weights: str | None = None,
        blocks: Sequence[int] = RESNET101,
        branches: Literal['all', 'official'] = 'all',
        freeze_batch_norm: bool = True,
    ) -> None:
        super().__init__()
        if branches not in DILATIONS:
            raise ValueError(f'branches must be one of {list(DILATIONS)}, got {branches!r}')
        self.backbone = ResNetStages(weights, blocks, output_stride=8)
        self.classifier = AtrousSpatialPyramidPooling(
            CHANNELS[-1], num_classes, DILATIONS[branches]
        )
        if freeze_batch_norm:
            freeze_batch_norm_affine(self.backbone)

    def forward(self, image: Tensor) -> SegmentationOutput:
        """Segment a batch of normalised images; see the class for shapes."""
        *_, features = self.backbone(image)
        return SegmentationOutput(self.classifier(features))
