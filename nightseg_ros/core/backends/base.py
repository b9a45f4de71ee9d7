"""What an inference backend is."""

from __future__ import annotations

from typing import NamedTuple
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.model import Model


class BackendError(RuntimeError):
    """A backend is not installed, refuses the model or fails; the message says what to do."""


class Inference(NamedTuple):
    """Outputs of one inference, uint8 [H, W] each, valid until the next one.

    Attributes:
        labels: trainIds.
        confidence: 0..255.
        exposure: V * 255, or None where the model has no exposure stream.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    exposure: NDArray[np.uint8] | None


class Backend(Protocol):
    """Runs a released model. Made from a model and a thread count (0 = the library's choice)."""

    name: str
    model: Model

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """Run the model on RGB uint8 [1, H, W, 3].

        Raises:
            BackendError: when the runtime fails.
        """
        ...
