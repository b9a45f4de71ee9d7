"""PSPNet on ResNet-101 (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch import nn

from models.configured import Configured
from models.resnet import CHANNELS
from models.resnet import RESNET101
from models.resnet import ResNetStages
from models.segmentation_output import SegmentationOutput
from models.segmentation_output import resize
from nightseg_ros.core.labels import NUM_CLASSES

BINS = (1, 2, 3, 6)
"""Sides of the pooled maps of the pyramid (section 3.2)."""

WIDTH = 512
"""Channels of each level of the pyramid and of the layer that fuses them."""


def conv_bn_relu(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Return convolution without bias, batch norm and ReLU; the size is kept."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class PyramidPoolingModule(nn.Module):
    """Context of four region sizes beside the features themselves (section 3.2, figure 3c).

    Args:
        channels: channels C of the features.
        width: channels of each level.
        align_corners: how the levels are upsampled.
    """

    def __init__(self, channels: int, width: int, *, align_corners: bool):
        super().__init__()
        self.align_corners = align_corners
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), conv_bn_relu(channels, width, kernel=1))
            for side in BINS
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C, h, w] to [N, C + 4 * width, h, w]."""
        size = features.shape[-2:]
        pooled = [
            resize(level(features), size, align_corners=self.align_corners) for level in self.levels
        ]
        return torch.cat([features, *pooled], dim=1)


class PSPNet(Configured, nn.Module):
    """ResNet-101 with deep stem at stride 8, pyramid pooling, one fusing layer.

    The auxiliary loss of the paper's section 3.3 is left out, as DANNet does.

    Args:
        num_classes: number of classes K.
        weights: of the backbone; see :func:`models.resnet.load_backbone`.
        blocks: of the backbone.
        dropout: share of the channels dropped before the classifier.
        align_corners: how the pyramid is upsampled; True is what the published weights expect.

    Shape:
        - Input: [N, 3, H, W] float, ImageNet-normalised RGB; N of at least 2 in training.
        - Output: :class:`SegmentationOutput` at stride 8.
    """

    def __init__(
        self,
        num_classes: int = NUM_CLASSES,
        weights: str | None = None,
        blocks: Sequence[int] = RESNET101,
        dropout: float = 0.1,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = ResNetStages(weights, blocks, output_stride=8, deep_stem=True)
        self.pyramid = PyramidPoolingModule(CHANNELS[-1], WIDTH, align_corners=align_corners)
        self.head = nn.Sequential(
            conv_bn_relu(CHANNELS[-1] + len(BINS) * WIDTH, WIDTH, kernel=3),
            nn.Dropout2d(dropout),
            nn.Conv2d(WIDTH, num_classes, 1),
        )

    def forward(self, image: Tensor) -> SegmentationOutput:
        """Segment a batch of normalised images; see the class for shapes.

        Raises:
            ValueError: in training with a single image, whose 1x1 pooled map has no statistics.
        """
        if self.pyramid.training and image.shape[0] < 2:
            raise ValueError(
                'PSPNet needs a batch size of at least 2 in training, got 1: its pyramid takes '
                'batch statistics of one value per image; raise the batch size, or call eval()'
            )
        *_, features = self.backbone(image)
        return SegmentationOutput(self.head(self.pyramid(features)))
