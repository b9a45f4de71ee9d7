"""A node in a process of its own, and what a test says to it and hears of it over DDS."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip('rclpy', reason='rclpy is not installed: source a ROS 2')

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool
from std_srvs.srv import Trigger

TIMEOUT_S = 40.0

MAIN = """
import sys
from nightseg_ros.ros import night_seg_node
{prelude}
sys.exit(night_seg_node.main())
"""

LEVELS = {b'\x00': 'OK', b'\x01': 'WARN', b'\x02': 'ERROR', b'\x03': 'STALE'}


def command(parameters: dict[str, object], prelude: str = '', remap: tuple[str, ...] = ()) -> list:
    """Return the command line of a node; ``prelude`` is run before it starts."""
    result = [sys.executable, '-c', MAIN.format(prelude=prelude), '--ros-args']
    for name, value in parameters.items():
        result += ['-p', f'{name}:={value}']
    for rule in remap:
        result += ['-r', rule]
    return result


class Rig:
    """One night_seg node under test."""

    def __init__(
        self,
        parameters: dict[str, object],
        log: Path,
        prelude: str = '',
        remap: tuple[str, ...] = (),
    ) -> None:
        self.log = log
        with log.open('wb') as output:
            self.process = subprocess.Popen(
                command(parameters, prelude, remap), stdout=output, stderr=subprocess.STDOUT
            )
        self.node = rclpy.create_node('test_client')
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.heard: dict[str, list] = defaultdict(list)
        self.arrivals: dict[str, list[float]] = defaultdict(list)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.reports = 0

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.reports += 1
        for status in message.status:
            values = {v.key: v.value for v in status.values}
            name = status.name.removeprefix('/night_seg').removeprefix(': ').removeprefix('/')
            self.diagnostics[name] = {
                **values, 'message': status.message, 'level': LEVELS[status.level]
            }  # fmt: skip

    def listen(
        self,
        topic: str,
        best_effort: bool = False,
        kind: type = Image,
        durability: DurabilityPolicy = DurabilityPolicy.VOLATILE,
    ) -> None:
        """Collect what the node publishes on a topic below its name."""

        def on_message(message) -> None:
            self.heard[topic].append(message)
            self.arrivals[topic].append(time.monotonic())

        reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
        profile = QoSProfile(depth=20, reliability=reliability, durability=durability)
        self.heard[topic] = []
        self.node.create_subscription(kind, f'/night_seg/{topic}', on_message, profile)

    def camera(self, topic: str = '/image', kind: type = Image, profile=10) -> Publisher:
        """Return a camera that the node is listening to."""
        publisher = self.node.create_publisher(kind, topic, profile)
        self.wait_for(lambda: publisher.get_subscription_count() > 0, f'subscription to {topic}')
        for name in list(self.heard):
            self.wait_for(
                lambda name=name: self.node.count_publishers(f'/night_seg/{name}') > 0, name
            )
        self.spin(0.5)  # the node must learn of our subscriptions too
        return publisher

    def feed(self, camera: Publisher, make: Callable[[], object], hertz: float) -> Timer:
        """Publish what ``make`` returns again and again until the timer is cancelled."""
        return self.node.create_timer(1 / hertz, lambda: camera.publish(make()))

    def spin(self, seconds: float) -> None:
        """Let messages come in for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Spin until a condition holds.

        Raises:
            AssertionError: when it does not, or the node dies.
        """
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            assert self.process.poll() is None, f'the node died:\n{self.log.read_text()}'
            assert time.monotonic() < end, (
                f'no {what} in time:\n{self.diagnostics}\n{self.log.read_text()}'
            )
            self.executor.spin_once(timeout_sec=0.05)

    def wait_for_status(self, name: str, **wanted: str) -> dict[str, str]:
        """Spin until the diagnostics show values, of which the wanted ones are a part."""

        def shown() -> bool:
            status = self.diagnostics.get(name, {})
            return all(text in status.get(key, '') for key, text in wanted.items())

        self.wait_for(shown, f'{wanted} in the diagnostics of {name}')
        return self.diagnostics[name]

    def next_report(self) -> None:
        """Wait for diagnostics that were made from now on."""
        count = self.reports
        self.wait_for(lambda: self.reports >= count + 2, 'diagnostics')

    def next(self, topic: str):
        """Return the next message of a topic."""
        self.wait_for(lambda: bool(self.heard[topic]), topic)
        return self.heard[topic].pop(0)

    def call(self, kind: type, service: str, request):
        """Return the answer of one of the node's services."""
        client = self.node.create_client(kind, f'/night_seg/{service}')
        self.wait_for(client.service_is_ready, service)
        future = client.call_async(request)
        self.wait_for(future.done, f'answer of {service}')
        self.node.destroy_client(client)
        return future.result()

    def trigger(self, service: str) -> Trigger.Response:
        """Call one of the node's services without arguments."""
        return self.call(Trigger, service, Trigger.Request())

    def enable(self, data: bool) -> SetBool.Response:
        """Call ~/enable."""
        return self.call(SetBool, 'enable', SetBool.Request(data=data))

    def set_parameter(self, name: str, value):
        """Set a parameter of the node; returns the result."""
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        return self.call(SetParameters, 'set_parameters', request).results[0]

    def change(self, transition: str) -> bool:
        """Walk the lifecycle; returns whether that was possible."""
        number = getattr(Transition, f'TRANSITION_{transition.upper()}')
        request = ChangeState.Request(transition=Transition(id=number))
        return self.call(ChangeState, 'change_state', request).success

    def state(self) -> str:
        """Return the state of the lifecycle."""
        return self.call(GetState, 'get_state', GetState.Request()).current_state.label

    def interrupt(self) -> int:
        """End the node as Ctrl-C does; returns its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=20)

    def close(self) -> None:
        """End the client, and the node too if it is still there."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def start(ros_context: None, channel_model: Path, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Return what starts a node with parameters; it must end well with the test, as by Ctrl-C."""
    rigs: list[Rig] = []
    defaults = {'model_path': channel_model, 'backend': 'onnxruntime', 'threads': 1}

    def start_node(
        parameters: dict[str, object] | None = None,
        prelude: str = '',
        remap: tuple[str, ...] = (),
    ) -> Rig:
        log = tmp_path / f'node{len(rigs)}.log'
        rigs.append(Rig({**defaults, **(parameters or {})}, log, prelude, remap))
        return rigs[-1]

    yield start_node
    try:
        for rig in rigs:
            if rig.process.poll() is None:
                code = rig.interrupt()
                printed = rig.log.read_text()
                assert code == 0, printed
                assert 'Traceback' not in printed, printed
    finally:
        for rig in rigs:
            rig.close()


@pytest.fixture
def swapped_model(channel_model: Path) -> Path:
    """Return another model: labels and confidence are G and R."""
    proto = onnx.load(channel_model)
    for constant in proto.graph.initializer:
        channel = {'labels_channel': 1, 'confidence_channel': 0}.get(constant.name)
        if channel is not None:
            tensor = numpy_helper.from_array(np.array(channel, np.int64), constant.name)
            constant.CopyFrom(tensor)
    path = channel_model.with_name('swapped.onnx')
    onnx.save(proto, str(path))
    return path


class Gate:
    """Holds back the loading of models in a node until it is opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.prelude = f"""
import pathlib, time
from nightseg_ros.ros import engine_loader
create = engine_loader.create_backend
def create_when_open(*args):
    while not pathlib.Path({str(path)!r}).exists():
        time.sleep(0.01)
    return create(*args)
engine_loader.create_backend = create_when_open
"""

    def open(self) -> None:
        """Let models be loaded."""
        self._path.touch()

    def close(self) -> None:
        """Hold models back again."""
        self._path.unlink()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Return a closed gate before the loading of models."""
    return Gate(tmp_path / 'gate')


@pytest.fixture
def make_image() -> Callable[..., Image]:
    """Return what makes an Image of pixels, its rows padded."""

    def image(
        node, pixels: np.ndarray, encoding: str = 'rgb8', padding: int = 0, age_s: float = 0.0
    ) -> Image:
        height, width = pixels.shape[:2]
        rows = np.ascontiguousarray(pixels).reshape(height, -1)
        data = np.hstack([rows, np.full((height, padding), 7, np.uint8)])
        message = Image(height=height, width=width, encoding=encoding, step=data.shape[1])
        stamp = node.get_clock().now().nanoseconds - round(age_s * 1e9)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        message.header.frame_id = 'front_camera'
        message.data.frombytes(data.tobytes())
        return message

    return image


@pytest.fixture
def make_compressed() -> Callable[..., CompressedImage]:
    """Return what makes a CompressedImage of bytes."""

    def compressed(node, content: bytes, kind: str) -> CompressedImage:
        message = CompressedImage(format=kind)
        message.header.stamp = node.get_clock().now().to_msg()
        message.header.frame_id = 'front_camera'
        message.data.frombytes(content)
        return message

    return compressed
