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
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: source a ROS 2')

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

TIMEOUT_S = 40.0


class Rig:
    """One night_seg node under test."""

    def __init__(self, model: Path, parameters: dict[str, object], log: Path) -> None:
        self.log = log
        command = [sys.executable, '-m', 'nightseg_ros.ros.night_seg_node', '--ros-args']
        defaults = {'model_path': model, 'backend': 'onnxruntime', 'threads': 1}
        for name, value in {**defaults, **parameters}.items():
            command += ['-p', f'{name}:={value}']
        with log.open('wb') as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        self.node = rclpy.create_node('test_client')
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.heard: dict[str, list] = defaultdict(list)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self.diagnostics: dict[str, dict[str, str]] = {}

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {v.key: v.value for v in status.values}
            name = status.name.partition(': ')[2]
            self.diagnostics[name] = {**values, 'message': status.message}

    def listen(self, topic: str, best_effort: bool = False) -> None:
        """Collect what the node publishes on a topic below its name."""
        reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
        self.node.create_subscription(
            Image,
            f'/night_seg/{topic}',
            self.heard[topic].append,
            QoSProfile(depth=20, reliability=reliability),
        )

    def camera(self, topic: str = '/image', kind: type = Image):
        """Return a camera that the node is listening to."""
        publisher = self.node.create_publisher(kind, topic, 10)
        self.wait_for(lambda: publisher.get_subscription_count() > 0, f'subscription to {topic}')
        for name in self.heard:
            self.wait_for(
                lambda name=name: self.node.count_publishers(f'/night_seg/{name}') > 0, name
            )
        self.spin(0.5)  # the node must learn of our subscriptions too
        return publisher

    def spin(self, seconds: float) -> None:
        """Let messages come in for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Spin until a condition holds.

        Raises:
            AssertionError: when it does not, or the node dies.
        """
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            assert self.process.poll() is None, f'the node died:\n{self.log.read_text()}'
            assert time.monotonic() < end, f'no {what} in time:\n{self.log.read_text()}'
            self.executor.spin_once(timeout_sec=0.05)

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
        return future.result()

    def interrupt(self) -> int:
        """End the node as Ctrl-C does; returns its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=20)

    def close(self) -> None:
        """End the node and the client."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def start(ros_context: None, channel_model: Path, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Return what starts a node with parameters; nodes end with the test."""
    rigs = []

    def start_node(parameters: dict[str, object] | None = None) -> Rig:
        rigs.append(Rig(channel_model, parameters or {}, tmp_path / f'node{len(rigs)}.log'))
        return rigs[-1]

    yield start_node
    for rig in rigs:
        rig.close()


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
