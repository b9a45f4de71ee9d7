"""The self-check reference beside a model: procedural frames and the masks that FP32 makes of them.

What a vehicle compares with is said in ``nightseg_ros.core.self_check``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.backends import load_backend_class
from nightseg_ros.core.model import FP32
from nightseg_ros.core.model import ModelError
from nightseg_ros.core.model import load_model
from nightseg_ros.core.self_check import Reference
from nightseg_ros.core.self_check import reference_path
from nightseg_ros.simulation.night_drive import SMALLEST
from nightseg_ros.simulation.night_drive import NightDrive

FRAMES = ((18, 0), (4, 120), (14, 90))
"""Seed and index of the frames: of 120, those whose masks suffer most from broken preprocessing.

Swapped colours, another offset or half the scale change more than a tenth of their labels.
"""

LEVELS = 64
"""Of each channel: the noise of a camera in 256 levels does not compress."""

COARSENESS = 2
"""Pixels of the input for each of the frame, in both directions, for the same reason."""


def write_reference(model_path: Path) -> Path:
    """Write the self-check reference of an FP32 model beside it; returns its path.

    Raises:
        ModelError: the model is missing, corrupt, or FP16 or INT8.
    """
    model = load_model(model_path)
    if model.precision != FP32:
        raise ModelError(
            f'{model_path} is in {model.precision}: its reference is that of the FP32 model'
        )
    backend = load_backend_class('onnxruntime')(model, BackendOptions(precision=FP32), _ignore)
    small = min(model.height, model.width) < COARSENESS * SMALLEST
    repeats = 1 if small else COARSENESS
    height, width = model.height // repeats, model.width // repeats
    images, labels, confidence = [], [], []
    for seed, index in FRAMES:
        image = NightDrive(width, height, seed=seed).frame(index).night
        image = image // (256 // LEVELS) * (256 // LEVELS)
        image = image.repeat(repeats, axis=0).repeat(repeats, axis=1)
        result = backend.infer(image[None])
        images.append(image)
        labels.append(result.labels.copy())
        confidence.append(result.confidence.copy())
    backend.close()
    reference = Reference(np.stack(images), np.stack(labels), np.stack(confidence), model.sha256)
    path = reference_path(model.path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='.reference-') as folder:
        draft = Path(folder) / path.name
        reference.save(draft)
        draft.replace(path)
    return path


def _ignore(_: str) -> None:
    pass
