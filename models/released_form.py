"""The released form of a network: uint8 frame in, uint8 masks out, everything between inside."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import nn

from models.lite_student import LiteStudent
from models.segmentation_output import resize
from models.several_sizes import SeveralSizes
from models.student import Student
from models.temperature import Temperature

Onboard = LiteStudent | Student
"""Networks that are fast enough for a vehicle."""

MASK_STRIDE = 2
"""Pixels per decision: argmax and softmax over 19 classes cost more than half of the network.

On the first released student in OpenVINO stride 2 takes 0.63 of the time of stride 1 and costs
0.0006 of mIoU by day (0.4854 to 0.4848), 0.0004 at dusk; stride 4 takes 0.58 and costs 0.002.
"""


class ReleasedForm(nn.Module):
    """A student with normalisation, upsampling and argmax inside the graph.

    Args:
        net: the trained network, in eval mode.
        mean: RGB mean that training subtracted, in [0, 1].
        std: RGB deviation that training divided by.
        temperature: that makes the confidence true; labels stay as they are.

    Shape:
        - Input: uint8 [1, H, W, 3] RGB; H and W even.
        - Output: labels, confidence and (with an exposure stream) exposure, uint8 [1, H, W].
    """

    def __init__(
        self,
        net: Onboard | SeveralSizes,
        mean: Tensor,
        std: Tensor,
        temperature: Temperature = Temperature(),  # noqa: B008 - a tuple
    ) -> None:
        super().__init__()
        self.net = net
        self.temperature = temperature
        self.register_buffer('scale', (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer('offset', (-mean / std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Segment one frame."""
        x = image.permute(0, 3, 1, 2).float() * self.scale + self.offset
        output = self.net(x)
        logits = output.logits
        if self.temperature != Temperature():
            logits = logits / self.temperature.at(output.exposure)
        # Plain numbers, so that the exported graph computes no shapes.
        return to_masks(logits, output.exposure, int(image.shape[1]), int(image.shape[2]))

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return ['labels', 'confidence', 'exposure'][: 3 if self.net.has_exposure else 2]


def to_masks(
    logits: Tensor, exposure: Tensor | None, height: int, width: int
) -> tuple[Tensor, ...]:
    """Return labels, confidence and exposure, uint8 [1, H, W], decided once per MASK_STRIDE.

    Args:
        logits: [1, K, h, w].
        exposure: [1, 1, h, w] in [0, 1], or None.
        height: of the masks.
        width: of the masks.
    """
    size = (height // MASK_STRIDE, width // MASK_STRIDE)
    logits = resize(logits, size)
    masks = [
        logits.argmax(dim=1, keepdim=True).float(),
        to_steps(logits.softmax(dim=1).amax(dim=1, keepdim=True)),
    ]
    if exposure is not None:
        masks.append(to_steps(resize(exposure, size)))
    x = repeat_pixels(torch.cat(masks, dim=1))
    # To uint8 at the very end: TensorRT has it at the borders of a network only.
    return tuple(x[:, channel].to(torch.uint8) for channel in range(len(masks)))


def to_steps(x: Tensor) -> Tensor:
    """Return [0, 1] as [0.5, 255.5], of which the whole part is the rounded byte."""
    return x * 255 + 0.5


def repeat_pixels(x: Tensor) -> Tensor:
    """Return [N, C, h, w] with every pixel MASK_STRIDE times in both directions.

    By stacking: of the ways to say it, every runtime knows this one as a plain copy.
    """
    n, c, h, w = x.shape
    x = torch.stack([x] * MASK_STRIDE, dim=4).reshape(n, c, h, w * MASK_STRIDE)
    return torch.stack([x] * MASK_STRIDE, dim=3).reshape(n, c, h * MASK_STRIDE, w * MASK_STRIDE)
