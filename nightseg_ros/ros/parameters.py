"""Every parameter of the node: default, meaning, range, whether it can change while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import FloatingPointRange
from rcl_interfaces.msg import IntegerRange
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import InvalidTopicNameException
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.validate_full_topic_name import validate_full_topic_name

from nightseg_ros.core.backends import AUTO
from nightseg_ros.core.backends import BACKENDS
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.exposure import ExposureThresholds
from nightseg_ros.core.model import PRECISIONS

TRANSPORTS = ('raw', 'compressed')
MASK_SIZES = ('source', 'model')


@dataclass(frozen=True)
class Declaration:
    """One parameter; ``bounds`` makes its range, ``choices`` its allowed strings."""

    name: str
    default: Any
    description: str
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Return what ``ros2 param describe`` shows."""
        descriptor = ParameterDescriptor(
            description=self.description,
            read_only=self.read_only,
            additional_constraints=f'one of {", ".join(self.choices)}' if self.choices else '',
        )
        if self.bounds and isinstance(self.default, float):
            low, high = self.bounds
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        elif self.bounds:
            low, high = (int(bound) for bound in self.bounds)
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
        return descriptor


_AT_LOADING = 'Takes effect when the model is loaded: at configuration and by ~/reload_model.'

DECLARATIONS = (
    Declaration(
        'model_path',
        '',
        f'Exported ONNX model; empty takes the released one that is installed. {_AT_LOADING}',
    ),
    Declaration(
        'backend',
        AUTO,
        'Inference backend; auto takes TensorRT where it runs, else the fastest of those '
        f'installed, timed. {_AT_LOADING}',
        choices=(AUTO, *BACKENDS),
    ),
    Declaration(
        'precision',
        AUTO,
        'Of the network; auto takes fp16 on TensorRT and fp32 on a CPU, or what else passes the '
        'self-check where that does not. bf16 is for OpenVINO, on processors that know it: twice '
        f'as fast, one label in fifty another. {_AT_LOADING}',
        choices=(AUTO, *PRECISIONS),
    ),
    Declaration(
        'threads',
        0,
        f'Threads of a CPU backend; 0 leaves the choice to it. {_AT_LOADING}',
        bounds=(0, 256),
    ),
    Declaration(
        'engine_cache_dir',
        '',
        'Where TensorRT engines are kept; nobody else may be able to write there. Empty takes '
        f'~/.cache/nightseg_ros/engines. {_AT_LOADING}',
    ),
    Declaration('device', 0, f'CUDA device. {_AT_LOADING}', bounds=(0, 64)),
    Declaration(
        'dla_core',
        -1,
        f'Deep learning accelerator of a Jetson that runs the engine; -1: the GPU. {_AT_LOADING}',
        bounds=(-1, 3),
    ),
    Declaration(
        'gpu_fallback',
        True,
        f'Whether the GPU runs the layers that a DLA cannot. {_AT_LOADING}',
    ),
    Declaration(
        'cameras',
        [''],
        'Names of cameras that share the model: NAME/image in, ~/NAME/semantic/mask out. One '
        'empty name: image in, ~/semantic/mask out.',
        read_only=True,
    ),
    Declaration(
        'image_transport',
        'raw',
        'raw subscribes to sensor_msgs/Image on image, compressed to sensor_msgs/CompressedImage '
        '(JPEG, PNG) on image/compressed.',
        choices=TRANSPORTS,
        read_only=True,
    ),
    Declaration(
        'autostart',
        True,
        'Configure and activate at start; false waits for lifecycle transitions.',
        read_only=True,
    ),
    Declaration(
        'build_only',
        False,
        'Load the model (with TensorRT: build its engine), check it, and exit: 0 when it passed.',
        read_only=True,
    ),
    Declaration(
        'mask_size',
        'source',
        'Size of the published masks: that of the image (source), or of the network (model; less '
        'to send, with ~/semantic/camera_info scaled to it).',
        choices=MASK_SIZES,
    ),
    Declaration(
        'max_image_age_ms',
        1000.0,
        'Frames whose stamp is older than this on the node clock are dropped and counted; 0 keeps '
        'all. Bags: set use_sim_time and play with --clock, or set 0.',
        bounds=(0.0, 3.6e6),
    ),
    Declaration(
        'stale_after_ms',
        1000.0,
        'A camera that sent nothing for so long is reported as stale.',
        bounds=(1.0, 3.6e6),
    ),
    Declaration(
        'latency_warn_ms',
        100.0,
        'Diagnostics warn when the p99 of the time from callback to published mask is above this.',
        bounds=(0.0, 3.6e6),
    ),
    Declaration(
        'latency_error_ms',
        300.0,
        'Diagnostics report an error when that p99 is above this.',
        bounds=(0.0, 3.6e6),
    ),
    Declaration(
        'max_class_share',
        0.98,
        'Diagnostics report an error when one class fills more than this share of the last masks: '
        'the network has collapsed, or the camera is covered.',
        bounds=(0.0, 1.0),
    ),
    Declaration(
        'exposure.under_threshold',
        ExposureThresholds().under,
        'V in [0,1] below which a pixel is under-exposed.',
        bounds=(0.0, 1.0),
    ),
    Declaration(
        'exposure.over_threshold',
        ExposureThresholds().over,
        'V in [0,1] above which a pixel is over-exposed.',
        bounds=(0.0, 1.0),
    ),
    Declaration(
        'overlay_opacity',
        0.5,
        'Opacity of the class colours in the overlay.',
        bounds=(0.0, 1.0),
    ),
    Declaration(
        'png_level',
        1,
        'Compression of ~/semantic/mask/compressed: 1 is fastest, 9 smallest.',
        bounds=(0, 9),
    ),
    Declaration(
        'debug_dir',
        '~/.ros/nightseg',
        'Where ~/save_debug_frame writes.',
    ),
)

_CHOICES = {d.name: d.choices for d in DECLARATIONS if d.choices}


@dataclass(frozen=True)
class Settings:
    """What may change from one frame to the next."""

    mask_at_source_size: bool
    max_image_age_ms: float
    stale_after_ms: float
    latency_warn_ms: float
    latency_error_ms: float
    max_class_share: float
    thresholds: ExposureThresholds
    overlay_opacity: float
    png_level: int
    debug_dir: Path


@dataclass(frozen=True)
class EngineRequest:
    """What is loaded at the next loading."""

    model_path: str
    backend: str
    options: BackendOptions


class InvalidParameterError(ValueError):
    """A parameter has a value that cannot be used; the message names both."""


def declare(node: Node) -> None:
    """Declare all parameters on a node.

    Raises:
        InvalidParameterError: an override (file, command line) is of another type, out of range or
            not one of the choices.
    """
    try:
        for d in DECLARATIONS:
            node.declare_parameter(d.name, d.default, d.descriptor())
        check(node)
        check_cameras(node.get_parameter('cameras').value)
    except ParameterException as error:  # out of range, of another type, or an empty list
        raise InvalidParameterError(str(error)) from error


def check_cameras(names: list[str]) -> None:
    """Raise InvalidParameterError unless each camera can have topics of its own."""
    if len(set(names)) != len(names) or not names:
        raise InvalidParameterError(f'cameras: {list(names)} must be different names')
    if names == ['']:
        return
    for name in names:
        try:
            validate_full_topic_name(f'/{name}')
        except InvalidTopicNameException as error:
            raise InvalidParameterError(
                f"cameras: '{name}' cannot be part of a topic's name: use letters, digits and _"
            ) from error


def check(node: Node, changes: list[Parameter] | None = None) -> None:
    """Raise InvalidParameterError when values are, or after ``changes`` would be, of no use."""
    changed = {parameter.name: parameter.value for parameter in changes or []}
    for name, choices in _CHOICES.items():
        value = changed.get(name, node.get_parameter(name).value)
        if value not in choices:
            raise InvalidParameterError(f"{name}: '{value}' is not one of {', '.join(choices)}")
    settings(node, changes)
    _folder(
        'engine_cache_dir',
        changed.get('engine_cache_dir', node.get_parameter('engine_cache_dir').value),
    )


def settings(node: Node, changes: list[Parameter] | None = None) -> Settings:
    """Return the settings as they are, or as they would be after ``changes``.

    Raises:
        InvalidParameterError: the values contradict each other.
    """
    changed = {parameter.name: parameter.value for parameter in changes or []}

    def value(name: str) -> Any:
        return changed.get(name, node.get_parameter(name).value)

    try:
        thresholds = ExposureThresholds(
            value('exposure.under_threshold'), value('exposure.over_threshold')
        )
    except ValueError as error:
        raise InvalidParameterError(str(error)) from error
    return Settings(
        mask_at_source_size=value('mask_size') == 'source',
        max_image_age_ms=value('max_image_age_ms'),
        stale_after_ms=value('stale_after_ms'),
        latency_warn_ms=value('latency_warn_ms'),
        latency_error_ms=value('latency_error_ms'),
        max_class_share=value('max_class_share'),
        thresholds=thresholds,
        overlay_opacity=value('overlay_opacity'),
        png_level=value('png_level'),
        debug_dir=_folder('debug_dir', value('debug_dir')),
    )


def _folder(name: str, path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # ~ of a user that there is not
        raise InvalidParameterError(f"{name}: '{path}': {error}") from error


def engine_request(node: Node) -> EngineRequest:
    """Return what the parameters ask to be loaded."""

    def value(name: str) -> Any:
        return node.get_parameter(name).value

    cache = value('engine_cache_dir')
    options = BackendOptions(
        threads=value('threads'),
        precision=value('precision'),
        engine_cache_dir=Path(cache).expanduser() if cache else None,
        device=value('device'),
        dla_core=value('dla_core'),
        gpu_fallback=value('gpu_fallback'),
    )
    return EngineRequest(value('model_path'), value('backend'), options)
