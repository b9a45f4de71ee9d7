"""Networks that relight an image before it is segmented; they train with it and stay offline.

Both return the residual r of the relit image I + r, of which losses need r itself. The caller adds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from models.configured import Configured

DARKEST = -2.1179
"""Black under ImageNet normalisation: the lowest of -mean/std, that of red."""

BRIGHTEST = 2.64
"""White under ImageNet normalisation: the highest of (1-mean)/std, that of blue."""

CURVES = 8
"""Iterations of the light enhancement curve."""

_UNCLAMPED = 4


def _initialise(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _bn_relu(channels: int) -> Sequence[nn.Module]:
    return nn.BatchNorm2d(channels), nn.ReLU(inplace=True)


def _down(inputs: int, outputs: int) -> Sequence[nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), *_bn_relu(outputs)


def _up(inputs: int, outputs: int) -> Sequence[nn.Module]:
    conv = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False)
    return conv, *_bn_relu(outputs)


class ResidualBlock(nn.Module):
    """Two reflection-padded 3x3 convolutions with batch norm, and skip; no ReLU after the sum."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            *_bn_relu(channels),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, h, w] to the same shape."""
        return x + self.body(x)


class ResidualRelighting(Configured, nn.Module):
    """DANNet's relighting network (Wu et al., CVPR 2021, section 3.2, figure 3); 4.30 M parameters.

    Args:
        width: channels of the first convolution; the paper's is 64.

    Shape:
        - Input: [N, 3, H, W] float, ImageNet-normalised RGB; H and W multiples of 4, at least 8.
        - Output: r, [N, 3, H, W] in (-1, 1); the relit image is I + r, not clamped.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, width, 7, bias=False),
            *_bn_relu(width),
            *_down(width, 2 * width),
            *_down(2 * width, 4 * width),
            *(ResidualBlock(4 * width) for _ in range(3)),
            *_up(4 * width, 2 * width),
            *_up(2 * width, width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, 3, 7),
            nn.Tanh(),
        )
        _initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the residual of a batch of normalised images.

        Raises:
            ValueError: when height or width is not a multiple of 4, or below 8.
        """
        height, width = image.shape[-2:]
        if height % 4 or width % 4 or min(height, width) < 8:
            nearest = [max(8, -(-side // 4) * 4) for side in (height, width)]
            raise ValueError(
                'the relighting network needs sides that are multiples of 4 and at least 8, got '
                f'{height}x{width}: resize, pad or crop to {nearest[0]}x{nearest[1]}'
            )
        return self.layers(image)


class CurveRelighting(Configured, nn.Module):
    """Bi-Mix's relighting network, a variant of Zero-DCE (Guo et al., CVPR 2020); 79 k parameters.

    Zero-DCE's curve x + r (x^2 - x) (its equation 3) maps [0, 1] to itself; normalised images lie
    in :data:`DARKEST` to :data:`BRIGHTEST`, where it diverges within eight steps unless clamped.

    Args:
        width: channels of the convolutions; the code's is 32.

    Shape:
        - Input: [N, 3, H, W] float, ImageNet-normalised RGB.
        - Output: the last step's residual r8 (x^2 - x), [N, 3, H, W]; the relit image is I plus it.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1)
        self.conv4 = nn.Conv2d(width, width, 3, padding=1)
        self.conv5 = nn.Conv2d(2 * width, width, 3, padding=1)
        self.conv6 = nn.Conv2d(2 * width, width, 3, padding=1)
        self.conv7 = nn.Conv2d(2 * width, 3 * CURVES, 3, padding=1)
        _initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the residual of a batch of normalised images."""
        return enhance(image, self.curves(image).chunk(CURVES, dim=1))

    def curves(self, image: Tensor) -> Tensor:
        """Return r1 to r8 in (-1, 1), [N, 24, H, W]."""
        x1 = F.relu(self.conv1(image))
        x2 = F.relu(self.conv2(x1))
        x3 = F.relu(self.conv3(x2))
        x4 = F.relu(self.conv4(x3))
        x5 = F.relu(self.conv5(torch.cat([x3, x4], dim=1)))
        x6 = F.relu(self.conv6(torch.cat([x2, x5], dim=1)))
        return torch.tanh(self.conv7(torch.cat([x1, x6], dim=1)))


def enhance(image: Tensor, curves: Sequence[Tensor]) -> Tensor:
    """Bend an image by all curves but the last, and return the residual of the last.

    All steps but the fourth are clamped, as in Bi-Mix's released code.

    Args:
        image: [N, 3, H, W], ImageNet-normalised.
        curves: r1 to r8 in (-1, 1), each [N, 3, H, W].
    """
    x = image
    *steps, last = curves
    for number, curve in enumerate(steps, start=1):
        x = x + curve * (x**2 - x)
        if number != _UNCLAMPED:
            x = x.clamp(DARKEST, BRIGHTEST)
    return last * (x**2 - x)
