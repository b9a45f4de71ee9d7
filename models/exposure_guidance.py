"""Ways to guide segmentation features by exposure (NightCity paper, section 4.2, tables 4, 5)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import nn

from models.segmentation_output import resize


class ExposureGuidance(nn.Module):
    """Exposure guidance layer (equation 1): f^ = w1 f + w2 f sigmoid(conv(f_E)).

    Args:
        exposure_channels: channels E of the exposure features.
        w1: weight of the features themselves; 1 in the paper.
        w2: weight of the attended features; 0.3 in the paper.
        attention_channels: 1, the paper's spatial map, or C for a map per channel.
    """

    def __init__(
        self,
        exposure_channels: int,
        w1: float = 1.0,
        w2: float = 0.3,
        attention_channels: int = 1,
    ):
        super().__init__()
        self.attention = nn.Conv2d(exposure_channels, attention_channels, 1)
        self.w1 = w1
        self.w2 = w2

    def forward(self, features: Tensor, exposure_features: Tensor) -> Tensor:
        """Gate [N, C, h, w] by [N, E, h, w]."""
        return features * (self.w1 + self.w2 * torch.sigmoid(self.attention(exposure_features)))


class ExposureMapGuidance(nn.Module):
    """Equation 1 with the exposure map itself as the attention W_r (table 5, "as attention map").

    Args:
        w1: weight of the features themselves.
        w2: weight of the attended features.
    """

    def __init__(self, w1: float = 1.0, w2: float = 0.3):
        super().__init__()
        self.w1 = w1
        self.w2 = w2

    def forward(self, features: Tensor, exposure_map: Tensor) -> Tensor:
        """Gate [N, C, h, w] by [N, 1, H, W] in [0, 1], resized."""
        return features * (self.w1 + self.w2 * resize(exposure_map, features.shape[-2:]))


class ExposureConcatenation(nn.Module):
    """Both features side by side, reduced to C channels by a 1x1 convolution (table 4, Concat).

    Args:
        channels: channels C of the features.
        exposure_channels: channels E of the exposure features.
    """

    def __init__(self, channels: int, exposure_channels: int):
        super().__init__()
        self.reduce = nn.Conv2d(channels + exposure_channels, channels, 1)

    def forward(self, features: Tensor, exposure_features: Tensor) -> Tensor:
        """Fuse [N, C, h, w] with [N, E, h, w]; returns [N, C, h, w]."""
        return self.reduce(torch.cat([features, exposure_features], dim=1))


class ExposureSum(nn.Module):
    """Sum of both features (table 4, Sum)."""

    def forward(self, features: Tensor, exposure_features: Tensor) -> Tensor:
        """Add two [N, C, h, w]."""
        return features + exposure_features
