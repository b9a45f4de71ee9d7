"""Every parameter of the node: default, meaning, range, whether it can change while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange
from rcl_interfaces.msg import IntegerRange
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from nightseg_ros.core.backends import AUTO
from nightseg_ros.core.backends import BACKENDS
from nightseg_ros.core.exposure import ExposureThresholds

TRANSPORTS = ('raw', 'compressed')


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


DECLARATIONS = (
    Declaration(
        'model_path',
        '',
        'Exported ONNX model; empty takes the released one that is installed.',
        read_only=True,
    ),
    Declaration(
        'backend',
        AUTO,
        'Inference backend; auto times each installed one and takes the fastest.',
        choices=(AUTO, *BACKENDS),
        read_only=True,
    ),
    Declaration(
        'threads',
        0,
        'Threads of the backend; 0 leaves the choice to it.',
        bounds=(0, 256),
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
        'max_image_age_ms',
        1000.0,
        'Frames whose stamp is older than this on the node clock are dropped and counted; 0 keeps '
        'all. Bags: set use_sim_time and play with --clock, or set 0.',
        bounds=(0.0, 3.6e6),
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
)

_CHOICES = {d.name: d.choices for d in DECLARATIONS if d.choices}


@dataclass(frozen=True)
class Settings:
    """The parameters that may change while the node runs."""

    max_image_age_ms: float
    thresholds: ExposureThresholds
    overlay_opacity: float


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
    except ParameterException as error:  # out of range or of another type
        raise InvalidParameterError(str(error)) from error
    for name, choices in _CHOICES.items():
        check_choice(name, node.get_parameter(name).value, choices)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise InvalidParameterError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise InvalidParameterError(f"{name}: '{value}' is not one of {', '.join(choices)}")


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
    return Settings(value('max_image_age_ms'), thresholds, value('overlay_opacity'))
