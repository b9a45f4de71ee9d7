"""RefineNet on ResNet-101 (Lin et al., "RefineNet: Multi-Path Refinement Networks", CVPR 2017)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from models.configured import Configured
from models.resnet import CHANNELS
from models.resnet import RESNET101
from models.resnet import ResNetStages
from models.segmentation_output import SegmentationOutput
from models.segmentation_output import resize
from nightseg_ros.core.labels import NUM_CLASSES

WIDTHS = (256, 256, 256, 512)
"""Channels of RefineNet-1 to RefineNet-4, finest first (section 3.2)."""


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class ResidualConvUnit(nn.Module):
    """ReLU, 3x3, ReLU, 3x3 and skip: the unit of ResNet without batch norm (figure 3b)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, h, w] to the same shape."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class ChainedResidualPooling(nn.Module):
    """Ever wider 5x5 max pooling, each followed by a convolution, all summed (figure 3d)."""

    def __init__(self, channels: int, blocks: int):
        super().__init__()
        self.convs = nn.ModuleList(conv3x3(channels, channels) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, h, w] to the same shape."""
        x = total = F.relu(x)
        for conv in self.convs:
            x = conv(F.max_pool2d(x, kernel_size=5, stride=1, padding=2))
            total = total + x
        return total


class InputPath(nn.Sequential):
    """What a block does to one input: two residual units, then the convolution of the fusion."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(
            ResidualConvUnit(inputs), ResidualConvUnit(inputs), conv3x3(inputs, outputs)
        )


class RefineBlock(nn.Module):
    """Fuse a stage of the backbone with the coarser block, if any (section 3.2, figure 3a).

    Args:
        channels: channels C of the stage of the backbone.
        width: channels of the block.
        coarser: channels D of the coarser block, 0 for the deepest, which has nothing to fuse.
        pooling_blocks: length of the chained residual pooling.
        align_corners: how the coarser path is upsampled.
    """

    def __init__(
        self, channels: int, width: int, coarser: int, pooling_blocks: int, *, align_corners: bool
    ):
        super().__init__()
        self.align_corners = align_corners
        self.reduce = conv3x3(channels, width)
        if coarser:
            self.fine_path = InputPath(width, width)
            self.coarse_path = InputPath(coarser, width)
        else:
            self.fine_path = nn.Sequential(ResidualConvUnit(width), ResidualConvUnit(width))
        self.pooling = ChainedResidualPooling(width, pooling_blocks)
        self.output = ResidualConvUnit(width)

    def forward(self, features: Tensor, coarse: Tensor | None = None) -> Tensor:
        """Refine [N, C, h, w] with [N, D, h', w']; returns [N, width, h, w]."""
        x = self.fine_path(self.reduce(features))
        if coarse is not None:
            coarse = self.coarse_path(coarse)
            x = x + resize(coarse, x.shape[-2:], align_corners=self.align_corners)
        return self.output(self.pooling(x))


class RefineNet(Configured, nn.Module):
    """ResNet-101 and four cascaded refine blocks, from stride 32 to stride 4 (figure 2c).

    Args:
        num_classes: number of classes K.
        weights: of the backbone; see :func:`models.resnet.load_backbone`.
        blocks: of the backbone.
        dropout: share dropped of the two deepest stages and before the classifier.
        pooling_blocks: 4 as in the networks the adaptation papers build on; the figure has 2.
        align_corners: how coarse paths are upsampled; True is what the published weights expect.

    Shape:
        - Input: [N, 3, H, W] float, ImageNet-normalised RGB.
        - Output: :class:`SegmentationOutput` at stride 4.
    """

    def __init__(
        self,
        num_classes: int = NUM_CLASSES,
        weights: str | None = None,
        blocks: Sequence[int] = RESNET101,
        dropout: float = 0.5,
        pooling_blocks: int = 4,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = ResNetStages(weights, blocks, output_stride=32)
        self.refine = nn.ModuleList(
            RefineBlock(channels, width, coarser, pooling_blocks, align_corners=align_corners)
            for channels, width, coarser in zip(CHANNELS, WIDTHS, (*WIDTHS[1:], 0), strict=True)
        )
        # Two more units where no further block brings its own (section 3.2, output convolutions).
        self.last = nn.Sequential(ResidualConvUnit(WIDTHS[0]), ResidualConvUnit(WIDTHS[0]))
        self.dropout = nn.Dropout(dropout)
        self.classifier = conv3x3(WIDTHS[0], num_classes)

    def forward(self, image: Tensor) -> SegmentationOutput:
        """Segment a batch of normalised images; see the class for shapes."""
        stage1, stage2, stage3, stage4 = self.backbone(image)
        refine1, refine2, refine3, refine4 = self.refine
        x = refine4(self.dropout(stage4))
        x = refine3(self.dropout(stage3), x)
        x = refine2(stage2, x)
        x = refine1(stage1, x)
        return SegmentationOutput(self.classifier(self.dropout(self.last(x))))
