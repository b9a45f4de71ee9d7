"""How a frame is predicted: by whom, at what size, and how logits become labels.

The defaults are the protocol of DANNet's code: resize to 540x960, predict, multiply the logits by
class weights at std 0.16, upsample bilinearly, argmax. No flip, no scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from typing import NamedTuple
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from nightseg_ros.core.labels import NUM_CLASSES
from training.checkpoint import load_method
from training.data.frames import DataError
from training.losses.segmentation import class_weights

Accelerator = Literal['auto', 'cpu', 'gpu']
Reweight = Literal['logits', 'probabilities']


class Predictor(Protocol):
    """What is evaluated: a `training.methods.method.Method`, or anything that predicts like one."""

    device: torch.device

    def predict_logits(self, image: Tensor) -> Tensor:
        """Return float [N, 19, h, w] at the network's stride, of uint8 RGB [N, 3, H, W]."""

    def relight(self, image: Tensor) -> Tensor | None:
        """Return the relit picture, uint8 [N, 3, H, W], or None without relighting network."""


def load_predictor(checkpoint: Path, accelerator: Accelerator) -> Predictor:
    """Return the method of a checkpoint in eval mode on its device.

    Raises:
        DataError: when a GPU is wanted and there is none.
    """
    available = torch.cuda.is_available()
    if accelerator == 'gpu' and not available:
        raise DataError('no GPU was found: use --accelerator cpu, or install torch with CUDA')
    device = 'cuda' if available and accelerator != 'cpu' else 'cpu'
    return load_method(checkpoint).eval().to(device)


@dataclass(frozen=True)
class EvaluationProtocol:
    """How logits become labels.

    Attributes:
        predict_size: height and width that the network sees; None is the frame's own.
        class_weight_std: spread of DANNet's class weights (its equation 8); None: no weights.
        reweight: what they multiply: logits (DANNet's code) or probabilities (its words).
        align_corners: of the upsampling of the logits (True in DANNet's code).
    """

    predict_size: tuple[int, int] | None = (540, 960)
    class_weight_std: float | None = 0.16
    reweight: Reweight = 'logits'
    align_corners: bool = False

    def __str__(self) -> str:
        size = self.predict_size
        frames = 'at their own size' if size is None else f'resized to {in_words(size)} (bilinear)'
        weights = (
            'no class weights'
            if self.class_weight_std is None
            else f'{self.reweight} times class weights (std {self.class_weight_std:g})'
        )
        corners = 'with' if self.align_corners else 'without'
        return (
            f'frames {frames}, one prediction, {weights}, upsampled bilinearly ({corners} aligned '
            'corners) to the size of the label, argmax'
        )


def in_words(size: Sequence[int]) -> str:
    """Return height and width as text, ``540x960``."""
    return f'{size[0]}x{size[1]}'


class Prediction(NamedTuple):
    """One predicted frame: trainIds uint8 [H, W], their probability float32 [H, W] in [0, 1]."""

    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32]


@torch.inference_mode()
def predict_frame(
    image: NDArray[np.uint8],
    method: Predictor,
    protocol: EvaluationProtocol,
    size: tuple[int, int] | None = None,
) -> Prediction:
    """Predict one frame.

    Args:
        image: RGB uint8 [H, W, 3].
        method: in eval mode.
        protocol: how to predict.
        size: height and width of the prediction; the frame's own when not given.

    Raises:
        DataError: when the method cannot predict at this size, or predicts other classes.
    """
    frame = network_input(image, method, protocol.predict_size)
    try:
        logits = method.predict_logits(frame)
    except ValueError as error:
        taken = in_words(frame.shape[-2:])
        raise DataError(f'cannot predict at {taken} (set --predict_size): {error}') from error
    if logits.ndim != 4 or logits.shape[:2] != (1, NUM_CLASSES):
        raise DataError(
            f'the method predicts {tuple(logits.shape)}, expected [1, {NUM_CLASSES}, h, w]'
        )
    return decide(class_scores(logits, protocol), size or image.shape[:2], protocol)


def network_input(
    image: NDArray[np.uint8], method: Predictor, size: tuple[int, int] | None
) -> Tensor:
    """Return a frame as the network sees it: uint8 [1, 3, h, w] on its device.

    Args:
        image: RGB uint8 [H, W, 3].
        method: whose device.
        size: height and width, bilinear; None leaves the frame as it is.
    """
    frame = torch.from_numpy(image).permute(2, 0, 1)[None].to(method.device)
    if size is None or size == image.shape[:2]:
        return frame
    # Antialiased, as PIL's bilinear is, with which DANNet's code resizes.
    resized = F.interpolate(frame.float(), size, mode='bilinear', antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def class_scores(logits: Tensor, protocol: EvaluationProtocol) -> Tensor:
    """Return logits, or probabilities, times the class weights, [N, 19, h, w] as given."""
    scores = logits.float()
    if protocol.reweight == 'probabilities':
        scores = scores.softmax(dim=1)
    if protocol.class_weight_std is None:
        return scores
    return scores * class_weights(protocol.class_weight_std).to(scores.device)[:, None, None]


def decide(scores: Tensor, size: tuple[int, int], protocol: EvaluationProtocol) -> Prediction:
    """Return labels and confidence of one frame's `class_scores` at a size.

    Confidence is the softmax of the upsampled logits, or the share of the upsampled weighted
    probabilities.

    Args:
        scores: [1, 19, h, w].
        size: height and width.
        protocol: how they were made.
    """
    align = protocol.align_corners
    scores = F.interpolate(scores, size, mode='bilinear', align_corners=align)[0]
    if protocol.reweight == 'probabilities':
        shares = scores / scores.sum(dim=0, keepdim=True)
    else:
        shares = scores.softmax(dim=0)
    labels = scores.argmax(dim=0)
    confidence = shares.gather(0, labels[None])[0]
    return Prediction(labels.to(torch.uint8).cpu().numpy(), confidence.cpu().numpy())
