"""The released form of a network: uint8 frame in, uint8 masks out, everything between inside."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import nn

from models.segmentation_output import resize
from models.student import Student


class ReleasedForm(nn.Module):
    """A student with normalisation, upsampling and argmax inside the graph.

    Args:
        net: the trained network, in eval mode.
        mean: RGB mean that training subtracted, in [0, 1].
        std: RGB deviation that training divided by.

    Shape:
        - Input: uint8 [1, H, W, 3] RGB.
        - Output: labels, confidence and (with an exposure stream) exposure, uint8 [1, H, W].
    """

    def __init__(self, net: Student, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer('scale', (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer('offset', (-mean / std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Segment one frame."""
        size = image.shape[1:3]
        x = image.permute(0, 3, 1, 2).float() * self.scale + self.offset
        output = self.net(x)
        logits = resize(output.logits, size)
        labels = logits.argmax(dim=1).to(torch.uint8)
        confidence = to_byte(logits.softmax(dim=1).amax(dim=1))
        if output.exposure is None:
            return labels, confidence
        return labels, confidence, to_byte(resize(output.exposure, size)[:, 0])

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return ['labels', 'confidence', 'exposure'][: 3 if self.net.has_exposure else 2]


def to_byte(x: Tensor) -> Tensor:
    """Return [0, 1] as uint8 0..255, rounded."""
    return (x * 255 + 0.5).to(torch.uint8)
