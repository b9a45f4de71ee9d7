"""The onboard student: a three-branch real-time segmenter guided by a light exposure stream.

Detail, context and boundary branches follow PIDNet (Xu et al., CVPR 2023); the exposure stream
and its guidance layers follow EGNet (Tan et al., "Night-time Scene Parsing with a Large Real
Dataset", sections 4.1-4.2), reduced to one narrow stream at stride 8 so that it costs little.
Dense 3x3 convolutions only: what TensorRT, OpenVINO and ONNX Runtime run at full speed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from models.configured import Configured
from models.exposure_guidance import ExposureGuidance
from models.segmentation_output import SegmentationOutput
from models.segmentation_output import resize
from nightseg_ros.core.labels import NUM_CLASSES

STRIDE = 64
"""Input height and width must be multiples of this: the context branch ends at stride 64."""


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution and batch norm, padded to keep the size at stride 1."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


def conv_bn_relu(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch norm and ReLU."""
    return nn.Sequential(*conv_bn(inputs, outputs, kernel, stride), nn.ReLU(inplace=True))


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, *, last_relu: bool = True):
        super().__init__()
        self.body = nn.Sequential(
            conv_bn_relu(inputs, outputs, stride=stride), conv_bn(outputs, outputs)
        )
        same = inputs == outputs and stride == 1
        self.skip = nn.Identity() if same else conv_bn(inputs, outputs, kernel=1, stride=stride)
        self.last = nn.ReLU(inplace=True) if last_relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""
        return self.last(self.body(x) + self.skip(x))


def stage(inputs: int, outputs: int, blocks: int, stride: int = 1) -> nn.Sequential:
    """Return residual blocks, the first strided, the last without ReLU (the fusion adds it)."""
    layers = [BasicBlock(inputs, outputs, stride, last_relu=blocks > 1)]
    for index in range(1, blocks):
        layers.append(BasicBlock(outputs, outputs, last_relu=index < blocks - 1))
    return nn.Sequential(*layers)


class PyramidPooling(nn.Module):
    """Parallel aggregation pyramid pooling (PIDNet, figure 6) on the context branch."""

    def __init__(self, inputs: int, width: int, outputs: int):
        super().__init__()
        self.local = conv_bn_relu(inputs, width, kernel=1)
        self.pools = nn.ModuleList(
            nn.Sequential(
                nn.AvgPool2d(kernel, stride=kernel // 2, padding=kernel // 2),
                conv_bn_relu(inputs, width, kernel=1),
            )
            for kernel in (5, 9)
        )
        # No batch norm behind the global pool: its 1x1 maps have no statistics at batch size 1.
        self.whole = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, width, 1), nn.ReLU(inplace=True)
        )
        self.fuse = conv_bn_relu(4 * width, outputs)
        self.skip = conv_bn(inputs, outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, h, w] to [N, outputs, h, w]."""
        size = x.shape[-2:]
        local = self.local(x)
        levels = [local]
        for pool in self.pools:
            levels.append(local + resize(pool(x), size))
        levels.append(local + self.whole(x).expand_as(local))
        return self.fuse(torch.cat(levels, dim=1)) + self.skip(x)


class PixelAttention(nn.Module):
    """Pixel-attention-guided fusion (PIDNet, figure 4): detail learns from context, selectively."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.detail = conv_bn(channels, width, kernel=1)
        self.context = conv_bn(channels, width, kernel=1)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """Fuse [N, C, h, w] with the coarser [N, C, h', w']; returns [N, C, h, w]."""
        size = detail.shape[-2:]
        key = resize(self.context(context), size)
        weight = torch.sigmoid((self.detail(detail) * key).sum(dim=1, keepdim=True))
        return (1 - weight) * detail + weight * resize(context, size)


class BoundaryFusion(nn.Module):
    """Light boundary-attention-guided fusion (PIDNet, figure 7)."""

    def __init__(self, channels: int):
        super().__init__()
        self.detail = conv_bn(channels, channels, kernel=1)
        self.context = conv_bn(channels, channels, kernel=1)

    def forward(self, detail: Tensor, context: Tensor, boundary: Tensor) -> Tensor:
        """Fuse three [N, C, h, w] maps: detail where there is a boundary, context elsewhere."""
        edge = torch.sigmoid(boundary)
        return self.detail((1 - edge) * context + detail) + self.context(context + edge * detail)


class Student(Configured, nn.Module):
    """Exposure-guided three-branch student.

    Args:
        width: channels of the stem; the whole net scales with it (PIDNet-S has 32).
        exposure_width: channels of the exposure stream; 0 leaves the stream and its guidance out.
        num_classes: number of classes K.

    Shape:
        - Input: [N, 3, H, W] float, ImageNet-normalised RGB; H and W multiples of 64.
        - Output: :class:`SegmentationOutput` at stride 8.
    """

    stride = STRIDE

    def __init__(
        self, width: int = 24, exposure_width: int = 16, num_classes: int = NUM_CLASSES
    ) -> None:
        super().__init__()
        c = width
        self.stem = nn.Sequential(
            conv_bn_relu(3, c, stride=2),
            conv_bn_relu(c, c, stride=2),
            stage(c, c, blocks=2),
            nn.ReLU(inplace=True),
        )
        self.stage2 = nn.Sequential(stage(c, 2 * c, blocks=2, stride=2), nn.ReLU(inplace=True))

        self.context3 = stage(2 * c, 4 * c, blocks=2, stride=2)
        self.context4 = stage(4 * c, 8 * c, blocks=2, stride=2)
        self.context5 = stage(8 * c, 8 * c, blocks=1, stride=2)
        self.pyramid = PyramidPooling(8 * c, 2 * c, 4 * c)

        self.detail3 = stage(2 * c, 2 * c, blocks=2)
        self.detail4 = stage(2 * c, 2 * c, blocks=2)
        self.detail5 = stage(2 * c, 4 * c, blocks=1)
        self.compress3 = conv_bn(4 * c, 2 * c, kernel=1)
        self.compress4 = conv_bn(8 * c, 2 * c, kernel=1)
        self.attend3 = PixelAttention(2 * c, c)
        self.attend4 = PixelAttention(2 * c, c)

        self.boundary3 = stage(2 * c, c, blocks=1)
        self.boundary4 = stage(c, c, blocks=1)
        self.boundary5 = conv_bn(c, 4 * c, kernel=1)
        self.difference3 = conv_bn(4 * c, c, kernel=1)
        self.difference4 = conv_bn(8 * c, c, kernel=1)
        self.fusion = BoundaryFusion(4 * c)

        self.head = nn.Sequential(conv_bn_relu(4 * c, 2 * c), nn.Conv2d(2 * c, num_classes, 1))
        self.detail_head = nn.Sequential(
            conv_bn_relu(2 * c, 2 * c), nn.Conv2d(2 * c, num_classes, 1)
        )
        self.boundary_head = nn.Sequential(conv_bn_relu(c, c), nn.Conv2d(c, 1, 1))

        self.has_exposure = exposure_width > 0
        if self.has_exposure:
            e = exposure_width
            self.exposure2 = nn.Sequential(conv_bn_relu(c, e, stride=2), conv_bn_relu(e, e))
            self.exposure3 = conv_bn_relu(e, e)
            self.exposure_head = nn.Sequential(conv_bn_relu(e, e), nn.Conv2d(e, 1, 1))
            self.guide2 = ExposureGuidance(e)
            self.guide3 = ExposureGuidance(e)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> SegmentationOutput:
        """Segment a batch of normalised images; see the class for shapes.

        Raises:
            ValueError: when height or width is not a multiple of 64.
        """
        height, width = image.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise ValueError(
                f'the student needs sides that are multiples of {STRIDE}, got {height}x{width}: '
                f'resize or pad to {-(-height // STRIDE) * STRIDE}x{-(-width // STRIDE) * STRIDE}'
            )
        shared = self.stem(image)
        features = self.stage2(shared)
        exposure = None
        if self.has_exposure:
            exposure_features = self.exposure2(shared)
            features = self.guide2(features, exposure_features)

        context = F.relu(self.context3(features))
        detail = self.attend3(self.detail3(features), self.compress3(context))
        boundary = self.boundary3(features)
        boundary = F.relu(boundary + resize(self.difference3(context), boundary.shape[-2:]))
        if self.has_exposure:
            exposure_features = self.exposure3(exposure_features)
            detail = self.guide3(detail, exposure_features)
            exposure = torch.sigmoid(self.exposure_head(exposure_features))

        context = F.relu(self.context4(context))
        guided_detail = detail
        detail = self.attend4(self.detail4(F.relu(detail)), self.compress4(context))
        boundary = self.boundary4(boundary)
        boundary = F.relu(boundary + resize(self.difference4(context), boundary.shape[-2:]))

        detail_last = self.detail5(F.relu(detail))
        context_last = resize(self.pyramid(F.relu(self.context5(context))), detail_last.shape[-2:])
        fused = self.fusion(detail_last, context_last, self.boundary5(boundary))
        logits = self.head(F.relu(fused))
        if not self.training:
            return SegmentationOutput(logits, exposure, None, None)
        return SegmentationOutput(
            logits,
            exposure,
            self.detail_head(F.relu(guided_detail)),
            self.boundary_head(boundary),
        )
