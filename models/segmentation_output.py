"""What every segmentation network here returns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it


class SegmentationOutput(NamedTuple):
    """What one forward pass yields; the last two only train the student, and are never exported.

    Attributes:
        logits: [N, K, h, w] class scores at the network's stride.
        exposure: [N, 1, h, w] predicted exposure in [0, 1] (EGNet's M_E), or None without stream.
        detail_logits: [N, K, h, w] from the student's detail branch, or None.
        boundary_logits: [N, 1, h, w] from the student's boundary branch, or None.
    """

    logits: Tensor
    exposure: Tensor | None = None
    detail_logits: Tensor | None = None
    boundary_logits: Tensor | None = None


def resize(x: Tensor, size: tuple[int, int] | torch.Size, *, align_corners: bool = False) -> Tensor:
    """Resize [N, C, h, w] bilinearly.

    ``align_corners=False`` is what every runtime agrees on; the papers' code uses True.
    """
    return F.interpolate(x, size=tuple(size), mode='bilinear', align_corners=align_corners)
