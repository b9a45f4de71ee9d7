"""Released models: where they are, what they must look like, what their card says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from nightseg_ros.core.resources import find_resource

DEFAULT_MODEL = 'student_384x640.onnx'

IMAGE = 'image'
LABELS = 'labels'
CONFIDENCE = 'confidence'
EXPOSURE = 'exposure'


FP32 = 'fp32'
FP16 = 'fp16'
BF16 = 'bf16'
INT8 = 'int8'
PRECISIONS = (FP32, FP16, BF16, INT8)
"""What a network may be computed in. BF16 has no file of its own: a processor that knows bfloat16
computes the FP32 file in it."""


class ModelError(ValueError):
    """A model is missing or not a released model; the message says what to do."""


@dataclass(frozen=True)
class Model:
    """A released model that was read and checked.

    Attributes:
        path: its file.
        content: the ONNX file's bytes.
        height, width: fixed size of its input.
        has_exposure: whether it has an ``exposure`` output.
        card: what its metadata says: classes, data, licence, metrics.
        sha256: of the file, hexadecimal.
    """

    path: Path
    content: bytes
    height: int
    width: int
    has_exposure: bool
    card: Mapping[str, str]
    sha256: str

    @property
    def name(self) -> str:
        """File name without suffix."""
        return self.path.stem

    @property
    def precision(self) -> str:
        """What its weights and activations are: a member of :data:`PRECISIONS`."""
        return self.card.get('precision', FP32)


def released_model(name: str = DEFAULT_MODEL) -> Path:
    """Return the path of a released model, installed or in a checkout.

    Raises:
        ModelError: when there is none.
    """
    path = find_resource('models', name)
    if path is None:
        raise ModelError(
            f"the released model '{name}' is not installed: reinstall nightseg_ros, "
            'or give the path of an exported ONNX file (parameter model_path)'
        )
    return path


def load_model(path: str | Path | None = None) -> Model:
    """Read and check a released model.

    Args:
        path: an ONNX file; None or '' takes the released one.

    Raises:
        ModelError: when the file is missing, corrupt, or has other inputs and outputs.
    """
    try:
        path = Path(path).expanduser() if path else released_model()
        content = path.read_bytes()
    except RuntimeError as error:  # ~ of a user that there is not
        raise ModelError(f'cannot find the model {path}: {error}') from error
    except OSError as error:
        raise ModelError(
            f'cannot read the model {path}: {error.strerror}; '
            'leave model_path empty for the released model'
        ) from error
    try:
        proto = onnx.load_model_from_string(content)
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf's and the checker's errors share no base class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f'{path} is no valid ONNX file ({reason}): it may be truncated; copy it again'
        ) from error
    height, width, outputs = _signature(proto, path)
    return Model(
        path=path,
        content=content,
        height=height,
        width=width,
        has_exposure=EXPOSURE in outputs,
        card={entry.key: entry.value for entry in proto.metadata_props},
        sha256=hashlib.sha256(content).hexdigest(),
    )


def variant(model: Model, precision: str) -> Model | None:
    """Return the file that a precision runs: FP16 and INT8 have one of their own beside the model.

    ``python -m training quantize`` writes these; BF16 runs the FP32 file.

    Args:
        model: an FP32 model, or already one of this precision.
        precision: a member of :data:`PRECISIONS`.

    Returns:
        The model itself where it has this precision; None where there is no such file.

    Raises:
        ModelError: the file is corrupt or was made from other weights.
    """
    if model.precision == (FP32 if precision == BF16 else precision):
        return model
    path = model.path.with_name(f'{model.name}_{precision}.onnx')
    if model.precision != FP32 or not path.is_file():
        return None
    found = load_model(path)
    if found.card.get('quantized_from') != model.sha256 or found.precision != precision:
        raise ModelError(
            f'{path} was not made from {model.path}: run python -m training quantize again'
        )
    return found


def _signature(proto: onnx.ModelProto, path: Path) -> tuple[int, int, set[str]]:
    """Return input height and width and the names of the outputs, all checked."""
    remedy = 'export it with: python -m training export'
    if [value.name for value in proto.graph.input] != [IMAGE]:
        raise ModelError(f"{path} does not take one input named '{IMAGE}': {remedy}")
    shape, kind = _shape_and_type(proto.graph.input[0])
    if kind != onnx.TensorProto.UINT8 or len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        raise ModelError(f"{path}: '{IMAGE}' must be uint8 [1,H,W,3], it is {shape}: {remedy}")
    height, width = shape[1], shape[2]
    if height < 1 or width < 1:
        raise ModelError(f"{path}: '{IMAGE}' must have a fixed size, it is {shape}: {remedy}")
    outputs = set()
    for value in proto.graph.output:
        outputs.add(value.name)
        shape, kind = _shape_and_type(value)
        if kind != onnx.TensorProto.UINT8 or shape != [1, height, width]:
            raise ModelError(
                f"{path}: '{value.name}' must be uint8 [1,{height},{width}], "
                f'it is {shape}: {remedy}'
            )
    missing = {LABELS, CONFIDENCE} - outputs
    if missing:
        raise ModelError(f'{path} has no output {", ".join(sorted(missing))}: {remedy}')
    return height, width, outputs


def _shape_and_type(value: onnx.ValueInfoProto) -> tuple[list[int], int]:
    tensor = value.type.tensor_type
    return [d.dim_value for d in tensor.shape.dim], tensor.elem_type
