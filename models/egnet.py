"""EGNet (Tan et al., "Night-time Scene Parsing with a Large Real Dataset", TIP 2021, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch import nn

from models.configured import Configured
from models.exposure_guidance import ExposureConcatenation
from models.exposure_guidance import ExposureGuidance
from models.exposure_guidance import ExposureMapGuidance
from models.exposure_guidance import ExposureSum
from models.generator import IMAGENET_MEAN
from models.generator import IMAGENET_STD
from models.resnet import CHANNELS
from models.resnet import RESNET101
from models.resnet import ResNetStages
from models.segmentation_output import SegmentationOutput
from nightseg_ros.core.labels import NUM_CLASSES

Guidance = Literal[
    'attention', 'concat', 'sum', 'none', 'exposure_input', 'exposure_map', 'no_stream'
]

WITH_STREAM = ('attention', 'concat', 'sum', 'none')
"""Kinds of guidance with an exposure stream; 'none' trains it without guidance layers."""

WITHOUT_STREAM = ('exposure_input', 'exposure_map', 'no_stream')
"""Kinds that see the exposure map V itself (table 5), or no exposure at all (table 4, w/o ES)."""


class EGNet(Configured, nn.Module):
    """Two streams behind a shared first stage: segmentation, guided by exposure.

    Args:
        num_classes: number of classes K.
        weights: of the backbone, both streams alike; see :func:`models.resnet.load_backbone`.
        blocks: of the backbone.
        guidance: the network of the paper or one of its ablations (tables 4 and 5):
            'attention' (equation 1), 'concat', 'sum', 'none' (exposure stream without guidance
            layers), 'no_stream' (without exposure stream), 'exposure_input' (V as fourth channel
            of the image), 'exposure_map' (V as the attention of equation 1).
        attention_channels: 1 (a spatial map, the paper) or 'per_channel'.
        w1: weight of the features in equation 1.
        w2: weight of the attended features in equation 1.
        output_stride: 8, 16 or 32.

    Shape:
        - Input: [N, 3, H, W] float, ImageNet-normalised RGB.
        - Output: :class:`SegmentationOutput` at ``output_stride``; exposure in [0, 1], None in
          the kinds without a stream.
    """

    def __init__(
        self,
        num_classes: int = NUM_CLASSES,
        weights: str | None = None,
        blocks: Sequence[int] = RESNET101,
        guidance: Guidance = 'attention',
        attention_channels: Literal[1, 'per_channel'] = 1,
        w1: float = 1.0,
        w2: float = 0.3,
        output_stride: int = 8,
    ) -> None:
        super().__init__()
        if guidance not in WITH_STREAM + WITHOUT_STREAM:
            raise ValueError(
                f'guidance must be one of {WITH_STREAM + WITHOUT_STREAM}, got {guidance!r}'
            )
        if attention_channels not in (1, 'per_channel'):
            raise ValueError(
                f"attention_channels must be 1 or 'per_channel', got {attention_channels!r}"
            )
        self.guidance = guidance
        self.has_exposure = guidance in WITH_STREAM

        stages = ResNetStages(weights, blocks, output_stride)
        self.shared = nn.Sequential(stages.stem, stages.layer1)
        self.segmentation = nn.ModuleList([stages.layer2, stages.layer3, stages.layer4])
        self.head = nn.Conv2d(CHANNELS[-1], num_classes, 1)
        self.guides = nn.ModuleList()
        if guidance not in ('none', 'no_stream', 'exposure_input'):
            for channels in CHANNELS[1:3]:
                self.guides.append(_guide(guidance, channels, attention_channels, w1, w2))
        if self.has_exposure:
            stages = ResNetStages(weights, blocks, output_stride)
            self.exposure = nn.ModuleList([stages.layer2, stages.layer3, stages.layer4])
            self.exposure_head = nn.Conv2d(CHANNELS[-1], 1, 1)
        if guidance == 'exposure_input':
            self.shared[0].conv1 = _with_fourth_channel(self.shared[0].conv1)

    def forward(self, image: Tensor) -> SegmentationOutput:
        """Segment a batch of normalised images; see the class for shapes."""
        if self.guidance == 'exposure_input':
            image = torch.cat([image, exposure_map(image)], dim=1)
        features = exposure = self.shared(image)
        if self.guidance == 'exposure_map':
            exposure = exposure_map(image)
        for index, stage in enumerate(self.segmentation):
            features = stage(features)
            if self.has_exposure:
                exposure = self.exposure[index](exposure)
            if index < len(self.guides):
                features = self.guides[index](features, exposure)
        logits = self.head(features)
        if not self.has_exposure:
            return SegmentationOutput(logits)
        return SegmentationOutput(logits, torch.sigmoid(self.exposure_head(exposure)))


def exposure_map(image: Tensor) -> Tensor:
    """Return V = max(R, G, B) in [0, 1], [N, 1, H, W], of ImageNet-normalised [N, 3, H, W]."""
    mean = image.new_tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = image.new_tensor(IMAGENET_STD).view(3, 1, 1)
    return (image * std + mean).amax(dim=1, keepdim=True)


def _guide(
    guidance: str, channels: int, attention_channels: int | str, w1: float, w2: float
) -> nn.Module:
    if guidance == 'concat':
        return ExposureConcatenation(channels, channels)
    if guidance == 'sum':
        return ExposureSum()
    if guidance == 'exposure_map':
        return ExposureMapGuidance(w1, w2)
    maps = channels if attention_channels == 'per_channel' else 1
    return ExposureGuidance(channels, w1, w2, maps)


def _with_fourth_channel(conv: nn.Conv2d) -> nn.Conv2d:
    """Return the convolution with one more input, ignored until training weighs it."""
    wider = nn.Conv2d(
        conv.in_channels + 1,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        bias=False,
    )
    with torch.no_grad():
        wider.weight.zero_()
        wider.weight[:, :-1] = conv.weight
    return wider
