"""The temperature of a released network's confidence, higher where a frame is badly exposed."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

DARK, BRIGHT = 0.16, 0.84
"""V at which bad exposure begins; half way to 0 and 1 the node calls it under- or over-exposed."""


class Temperature(NamedTuple):
    """Divides logits, so that confidence says how often labels are right (Guo et al., 2017).

    One number is not enough at night: a network is as sure of black as of asphalt.

    Attributes:
        base: of normally exposed pixels, above 0.
        under: added at V = 0, 0 or more; linearly less up to :data:`DARK`.
        over: added at V = 1, 0 or more; linearly less down to :data:`BRIGHT`.
    """

    base: float = 1.0
    under: float = 0.0
    over: float = 0.0

    def at(self, exposure: Tensor | None) -> Tensor | float:
        """Return the temperature of each pixel, of exposure V [N, 1, h, w] in [0, 1] or None."""
        if exposure is None or not (self.under or self.over):
            return self.base
        dark, bright = badness(exposure)
        return self.base + self.under * dark + self.over * bright


def badness(exposure: Tensor) -> tuple[Tensor, Tensor]:
    """Return how much V is too dark and too bright, 0 to 1 each, of the shape of V."""
    dark = (1 - exposure / DARK).clamp(min=0)
    bright = ((exposure - BRIGHT) / (1 - BRIGHT)).clamp(min=0)
    return dark, bright
