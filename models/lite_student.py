"""The released student: EfficientNet-Lite, a light feature pyramid, EGNet's exposure guidance.

An ImageNet backbone sees at night what the few night frames here cannot teach. The exposure stream
and its guidance layers follow EGNet (Tan et al., "Night-time Scene Parsing with a Large Real
Dataset", sections 4.1-4.2), narrow and at strides 4 and 8, where they cost little.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from models.configured import Configured
from models.efficientnet_lite import EfficientNetLite
from models.exposure_guidance import ExposureGuidance
from models.segmentation_output import SegmentationOutput
from models.segmentation_output import resize
from models.student import PyramidPooling
from models.student import conv_bn
from models.student import conv_bn_relu
from nightseg_ros.core.labels import NUM_CLASSES


class LiteStudent(Configured, nn.Module):
    """Exposure-guided feature pyramid on EfficientNet-Lite.

    Args:
        variant: of the backbone: lite0, or lite2 for a teacher.
        weights: of the backbone; None, 'imagenet' or a path (:class:`EfficientNetLite`).
        width: channels of the pyramid at stride 4; 3/2 of it at stride 8, twice at 16 and 32.
        exposure_width: channels of the exposure stream; 0 leaves the stream and its guidance out.
        num_classes: number of classes K.
        frozen: stages of the backbone that do not train (:class:`EfficientNetLite`).

    Shape:
        - Input: [N, 3, H, W] float, ImageNet-normalised RGB; H and W multiples of 32.
        - Output: :class:`SegmentationOutput` at stride 4; detail logits at stride 8.
    """

    stride = 32

    def __init__(
        self,
        variant: str = 'lite0',
        weights: str | None = None,
        width: int = 48,
        exposure_width: int = 16,
        num_classes: int = NUM_CLASSES,
        frozen: int = 0,
    ) -> None:
        super().__init__()
        backbone = EfficientNetLite(variant, weights, frozen)
        c2, c4, c8, c16, c32 = backbone.channels
        w4, w8, w16 = width, width * 3 // 2, 2 * width
        self.context = PyramidPooling(c32, width, w16)
        self.lateral16 = conv_bn(c16, w16, kernel=1)
        self.fuse16 = conv_bn_relu(w16, w8)
        self.lateral8 = conv_bn(c8, w8, kernel=1)
        self.fuse8 = conv_bn_relu(w8, w4)
        self.lateral4 = conv_bn(c4, w4, kernel=1)
        self.fuse4 = conv_bn_relu(w4, w4)
        self.head = nn.Conv2d(w4, num_classes, 1)
        self.detail_head = nn.Conv2d(w4, num_classes, 1)
        self.boundary_head = nn.Conv2d(w4, 1, 1)
        self.has_exposure = exposure_width > 0
        if self.has_exposure:
            e = exposure_width
            self.exposure4 = nn.Sequential(conv_bn_relu(c2, e, stride=2), conv_bn_relu(e, e))
            self.exposure8 = conv_bn_relu(e, e, stride=2)
            self.exposure_head = nn.Conv2d(e, 1, 1)
            self.guide4 = ExposureGuidance(e)
            self.guide8 = ExposureGuidance(e)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # Last, for its weights are not to be drawn anew.
        self.backbone = backbone

    def forward(self, image: Tensor) -> SegmentationOutput:
        """Segment a batch of normalised images; see the class for shapes.

        Raises:
            ValueError: when height or width is not a multiple of 32.
        """
        height, width = image.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f'the student needs sides that are multiples of {self.stride}, got '
                f'{height}x{width}: resize or pad to {-(-height // self.stride) * self.stride}x'
                f'{-(-width // self.stride) * self.stride}'
            )
        x2, x4, x8, x16, x32 = self.backbone(image)
        y16 = F.relu(self.lateral16(x16) + resize(self.context(x32), x16.shape[-2:]))
        y8 = F.relu(self.lateral8(x8) + resize(self.fuse16(y16), x8.shape[-2:]))
        exposure = None
        if self.has_exposure:
            exposure4 = self.exposure4(x2)
            exposure = torch.sigmoid(self.exposure_head(exposure4))
            y8 = self.guide8(y8, self.exposure8(exposure4))
        y8 = self.fuse8(y8)
        y4 = F.relu(self.lateral4(x4) + resize(y8, x4.shape[-2:]))
        if self.has_exposure:
            y4 = self.guide4(y4, exposure4)
        logits = self.head(self.fuse4(y4))
        if not self.training:
            return SegmentationOutput(logits, exposure, None, None)
        return SegmentationOutput(logits, exposure, self.detail_head(y8), self.boundary_head(y4))
