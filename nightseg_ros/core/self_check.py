"""Before a backend may drive: does it compute what the network computed when it was exported?

Beside ``<model>.onnx`` lies ``<model>.check.npz`` with a few frames and the masks that the FP32
network makes of them. FP16 and INT8 engines do collapse to one class in the field; a backend that
disagrees with the reference is refused.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.backends.base import Backend
from nightseg_ros.core.backends.base import BackendError
from nightseg_ros.core.model import BF16
from nightseg_ros.core.model import FP16
from nightseg_ros.core.model import FP32
from nightseg_ros.core.model import INT8
from nightseg_ros.core.model import Model
from nightseg_ros.core.model import ModelError

MIN_AGREEMENT = {FP32: 0.99, FP16: 0.99, BF16: 0.96, INT8: 0.95}
"""Share of pixels whose label must equal the reference's, by precision."""

MAX_CONFIDENCE_DIFFERENCE = {FP32: 2.0, FP16: 2.0, BF16: 5.0, INT8: 6.0}
"""Mean absolute difference of the confidence (0..255) that is still allowed, by precision.

On the first released model: FP32 in bfloat16 0.3 % and 0.5, FP16 0.1 % and 0.1, INT8 1.3 % and 2.7;
broken preprocessing 9 to 65 % and 13 to 52 (docs/quantization.md).
"""


@dataclass(frozen=True)
class Reference:
    """Frames and the masks that the exported network makes of them.

    Attributes:
        images: RGB uint8 [N, H, W, 3], of the model's input size.
        labels: trainIds, uint8 [N, H, W].
        confidence: uint8 [N, H, W].
        sha256: of the FP32 ONNX file.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    sha256: str

    def save(self, path: Path) -> None:
        """Write it to a file."""
        np.savez_compressed(
            path,
            images=self.images,
            labels=self.labels,
            confidence=self.confidence,
            sha256=np.array(self.sha256),
        )


def reference_path(model_path: Path) -> Path:
    """Return where the reference of an FP32 model lies."""
    return model_path.with_suffix('.check.npz')


def load_reference(model: Model) -> Reference | None:
    """Return the reference beside a model, None where there is none.

    A variant (``<model>_fp16.onnx``) has that of the FP32 model that it was made from.

    Raises:
        ModelError: the reference is corrupt or of other weights.
    """
    origin = model.path
    if model.precision != FP32:
        origin = origin.with_name(f'{origin.stem.removesuffix(f"_{model.precision}")}.onnx')
    path = reference_path(origin)
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            reference = Reference(
                file['images'], file['labels'], file['confidence'], str(file['sha256'])
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(
            f'{path} is no reference of a model ({error}): copy it again, or remove it to go '
            'without a self-check'
        ) from error
    expected = (model.height, model.width)
    masks = {reference.labels.shape[1:], reference.confidence.shape[1:]}
    fits = {reference.images.shape[1:3], *masks} == {expected}
    sha256 = model.card.get('quantized_from', model.sha256)
    if not fits or reference.sha256 != sha256 or len(reference.images) == 0:
        raise ModelError(
            f'{path} belongs to another model than {model.path}: copy both files again, or remove '
            'it to go without a self-check'
        )
    return reference


def check(backend: Backend, reference: Reference) -> str:
    """Run a backend on the reference's frames; returns the result for people.

    Raises:
        BackendError: its masks are not the reference's.
    """
    equal, difference = [], []
    for image, labels, confidence in zip(
        reference.images, reference.labels, reference.confidence, strict=True
    ):
        result = backend.infer(np.ascontiguousarray(image[None]))
        equal.append(np.mean(result.labels == labels))
        difference.append(np.mean(np.abs(result.confidence.astype(int) - confidence.astype(int))))
    agreement, confidence_difference = float(np.mean(equal)), float(np.mean(difference))
    needed = MIN_AGREEMENT[backend.precision]
    allowed = MAX_CONFIDENCE_DIFFERENCE[backend.precision]
    summary = (
        f'{agreement:.2%} of the labels agree with the reference, confidence differs by '
        f'{confidence_difference:.1f} of 255'
    )
    if agreement < needed or confidence_difference > allowed:
        raise BackendError(
            f'{backend.name} in {backend.precision} fails the self-check of {backend.model.name}: '
            f'{summary} ({needed:.0%} and {allowed:.0f} are the limits). It computes wrong masks '
            'and must not drive: use another precision or backend'
        )
    return f'passed: {summary}'
