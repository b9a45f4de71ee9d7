"""The generator G of DANNet: a relighting network before a segmentation network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch import nn

from models.segmentation_output import SegmentationOutput

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class GeneratorOutput(NamedTuple):
    """What G makes of one batch.

    Attributes:
        image: I, the normalised input, [N, 3, H, W].
        residual: r of the relighting network, [N, 3, H, W]; None without one.
        segmentation: of the relit image R = I + r.
    """

    image: Tensor
    residual: Tensor | None
    segmentation: SegmentationOutput


class Generator(nn.Module):
    """Relights and segments.

    Args:
        net: the segmentation network M, returning :class:`SegmentationOutput`.
        relighting: the relighting network f, returning a residual; None segments images as they
            are (Bi-Mix calls f(I) + I the enhancement F).
    """

    def __init__(self, net: nn.Module, relighting: nn.Module | None = None) -> None:
        super().__init__()
        self.net = net
        self.relighting = relighting
        self.arrange(torch.channels_last)
        self.register_buffer('mean', torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer('std', torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def arrange(self, memory_format: torch.memory_format) -> Generator:
        """Lay out weights and images: channels last is faster wherever it was measured."""
        self.memory_format = memory_format
        return self.to(memory_format=memory_format)

    def normalise(self, image: Tensor) -> Tensor:
        """Return ImageNet-normalised float of RGB uint8 (0..255) or float (0..1) [N, 3, H, W]."""
        if image.dtype == torch.uint8:
            image = image.float() / 255
        return ((image - self.mean) / self.std).contiguous(memory_format=self.memory_format)

    def relit(self, image: Tensor) -> Tensor:
        """Return R as RGB in [0, 1] for people to look at, of uint8 or float RGB."""
        image = self.normalise(image)
        if self.relighting is not None:
            image = image + self.relighting(image).float()
        return (image * self.std + self.mean).clamp(0, 1)

    def forward(self, image: Tensor) -> GeneratorOutput:
        """Relight and segment RGB uint8 (0..255) or float (0..1) [N, 3, H, W]."""
        image = self.normalise(image)
        if self.relighting is None:
            return GeneratorOutput(image, None, self.net(image))
        residual = self.relighting(image).float()
        return GeneratorOutput(image, residual, self.net(image + residual))
