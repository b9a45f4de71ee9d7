"""Discriminator of segmentation maps (Tsai et al., AdaptSegNet, CVPR 2018; as DANNet uses it)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch import nn

from models.configured import Configured
from nightseg_ros.core.labels import NUM_CLASSES

KERNEL = 4


class Discriminator(Configured, nn.Module):
    """Fully convolutional: one score per patch of the map, without batch norm.

    Args:
        num_classes: number of classes K of the maps.
        channels: of all layers but the last, which has one.
        strides: of all layers; one more than ``channels``.

    Shape:
        - Input: [N, K, H, W] class probabilities; sides of at least :attr:`smallest_side`, 16 as
          DANNet has it.
        - Output: [N, 1, h, w] scores without sigmoid; h = H // 4 - 3 as DANNet has it.
    """

    def __init__(
        self,
        num_classes: int = NUM_CLASSES,
        channels: Sequence[int] = (64, 128, 256, 256),
        strides: Sequence[int] = (2, 2, 1, 1, 1),
    ) -> None:
        super().__init__()
        if len(strides) != len(channels) + 1:
            raise ValueError(
                f'strides must have one entry more than channels (the last layer has 1 channel), '
                f'got {len(strides)} and {len(channels)}'
            )
        self.smallest_side = 1
        for stride in reversed(strides):
            self.smallest_side = (self.smallest_side - 1) * stride + KERNEL - 2
        layers: list[nn.Module] = []
        inputs = num_classes
        for outputs, stride in zip(channels, strides, strict=False):
            layers.append(nn.Conv2d(inputs, outputs, KERNEL, stride, padding=1))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            inputs = outputs
        layers.append(nn.Conv2d(inputs, 1, KERNEL, strides[-1], padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, probabilities: Tensor) -> Tensor:
        """Score a batch of segmentation maps; see the class for shapes.

        Raises:
            ValueError: when the maps are too small for a single score.
        """
        height, width = probabilities.shape[-2:]
        if min(height, width) < self.smallest_side:
            raise ValueError(
                f'the discriminator needs sides of at least {self.smallest_side}, got '
                f'{height}x{width}: upsample the maps to the size of the image first'
            )
        return self.layers(probabilities)
