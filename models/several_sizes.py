"""One network that looks at a frame in several sizes: close for thin things, from afar for all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch import nn

from models.lite_student import LiteStudent
from models.segmentation_output import SegmentationOutput
from models.segmentation_output import resize
from models.student import Student

LEAST_PROBABILITY = 1e-4
"""Below it a class is out of the question; half precision still holds its logarithm."""


class SeveralSizes(nn.Module):
    """Mean of what one network makes of a frame in several sizes (Chen et al., DeepLab, 2018).

    The same weights see the frame as it is and at other sizes; the probabilities are averaged.
    Nothing is trained anew, and the file does not grow; the time of each size adds up.

    Args:
        net: in eval mode.
        sizes: further heights and widths, multiples of its stride.

    Shape:
        - Input: [N, 3, H, W] float, ImageNet-normalised RGB.
        - Output: :class:`SegmentationOutput` at the net's stride; its logits are logarithms of
          probabilities, its exposure that of the frame as it is.

    Raises:
        ValueError: in ``forward``, when a size is no multiple of the net's stride.
    """

    def __init__(self, net: LiteStudent | Student, sizes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.net = net
        self.sizes = [(int(height), int(width)) for height, width in sizes]
        self.has_exposure = net.has_exposure
        self.stride = net.stride

    def forward(self, image: Tensor) -> SegmentationOutput:
        """Segment a batch of normalised images; see the class for shapes."""
        output = self.net(image)
        shape = output.logits.shape[-2:]
        seen = [output.logits.softmax(dim=1)]
        for size in self.sizes:
            logits = self.net(resize(image, size)).logits
            seen.append(resize(logits.softmax(dim=1), shape))
        mean = torch.stack(seen).mean(dim=0)
        return SegmentationOutput(mean.clamp(min=LEAST_PROBABILITY).log(), output.exposure)


def in_sizes(
    net: LiteStudent | Student, sizes: Sequence[tuple[int, int]]
) -> LiteStudent | Student | SeveralSizes:
    """Return the network itself where there are no further sizes."""
    return SeveralSizes(net, sizes) if sizes else net
