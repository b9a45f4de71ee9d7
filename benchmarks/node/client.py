"""The camera and the listener: publishes images, notes when the masks arrive.

A message's stamp is the wall time just before its publication, and the wall clock is one for all
processes of a machine: the age of a mask is the time at which its callback began, minus its stamp.
The listener receives whole ``sensor_msgs/Image`` messages, as its users do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image

from benchmarks.node.processes import serve
from nightseg_ros.core.memory import keep_memory

CAMERA = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""Offers what best effort and reliable subscriptions ask for, so every node gets the same images.
To best effort ones, night_seg's and the floor's, nothing is sent twice."""

MASKS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
PICTURES = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)

DIAGNOSTICS_LIMIT_S = 3.0

FEWEST = 3
"""Timed images of a burst, however short it is or slow the node."""


@dataclass
class Link:
    """A node under test: the camera that it has, and what came back."""

    camera: Publisher | None
    masks: Subscription | None
    mask_topic: str
    arrivals: list[tuple[int, int]] = field(default_factory=list)
    """Stamp and wall time of arrival, ns, of each mask."""
    listening: list[Subscription] = field(default_factory=list)


class Client:
    """Publishes and listens; every method is a question that :func:`serve` may be asked."""

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        self._node = Node('benchmark_client')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._images = [as_message(frame) for frame in frames]
        self._links: dict[str, Link] = {}
        self._diagnostics: dict[str, dict[str, str]] = {}
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def connect(self, target: str, image: str | None, mask: str | None) -> None:
        """Publish to and listen to a node under test; None leaves one of the two out."""
        camera = self._node.create_publisher(Image, image, CAMERA) if image else None
        link = Link(camera, None, mask or '')
        if mask:
            link.masks = self._node.create_subscription(
                Image, mask, lambda message: self._on_mask(link, message), MASKS
            )
        self._links[target] = link

    def connected(self, target: str) -> bool:
        """Tell whether the node listens to its camera and is heard."""
        link = self._links[target]
        seen = link.camera is None or link.camera.get_subscription_count() > 0
        heard = link.masks is None or self._node.count_publishers(link.mask_topic) > 0
        return seen and heard

    def listen(self, target: str, topics: list[str], pictures: list[str]) -> None:
        """Listen to more of a node's topics, masks and best effort ones, instead of before."""
        link = self._links[target]
        for subscription in link.listening:
            self._node.destroy_subscription(subscription)
        link.listening = [
            self._node.create_subscription(Image, topic, lambda message: None, qos)
            for names, qos in ((topics, MASKS), (pictures, PICTURES))
            for topic in names
        ]
        self._spin(0.7)  # for the node to learn of it

    def burst(
        self, target: str, seconds: float, hz: float, warm_up: int, patience: float
    ) -> dict[str, Any]:
        """Publish images at a pace, one at a time; return latencies in ms and what got lost.

        The next image waits for the mask of the last one (or ``patience`` seconds): a node slower
        than the pace shows its latency, not that of a queue. The first images are not timed.
        """
        link = self._links[target]
        times: list[float] = []
        count = lost = 0
        start = due = time.perf_counter()
        while due < start + seconds or count < warm_up + FEWEST:
            self._spin(due - time.perf_counter())
            stamp = self._publish(link, count)
            age_ms = self._await_mask(link, stamp, patience)
            if age_ms is None:
                lost += 1
            elif count >= warm_up:
                times.append(age_ms)
            count += 1
            due = max(due + 1 / hz, time.perf_counter())
        return {'ms': times, 'lost': lost}

    def drive(self, targets: list[str], seconds: float, hz: float) -> dict[str, int]:
        """Publish images of several cameras, each at so many Hz, whatever comes back.

        Cameras take turns within a period, as cameras without a common trigger do. An image that
        is a whole period late is left out; returns how many each camera sent.
        """
        sent = dict.fromkeys(targets, 0)
        start = time.perf_counter()
        for index in range(round(seconds * hz) * len(targets)):
            due = start + index / (hz * len(targets))
            wait = due - time.perf_counter()
            if wait < -1 / hz:
                continue
            time.sleep(max(wait, 0))
            target = targets[index % len(targets)]
            self._publish(self._links[target], index)
            sent[target] += 1
        return sent

    def hear(self, targets: list[str], seconds: float) -> dict[str, list[tuple[int, int]]]:
        """Return stamps and arrivals, ns, of the masks that come in the next seconds."""
        for target in targets:
            self._links[target].arrivals.clear()
        self._spin(seconds)
        return {target: self._links[target].arrivals for target in targets}

    def diagnostics(self, status: str) -> dict[str, str]:
        """Return the values of a diagnostic status, as the node publishes it next."""
        self._diagnostics.pop(status, None)
        self._spin(DIAGNOSTICS_LIMIT_S, until=lambda: status in self._diagnostics)
        return self._diagnostics.get(status, {})

    def _publish(self, link: Link, index: int) -> int:
        image = self._images[index % len(self._images)]
        stamp = time.time_ns()
        image.header.stamp.sec, image.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        link.camera.publish(image)
        return stamp

    def _await_mask(self, link: Link, stamp: int, patience: float) -> float | None:
        """Return the age in ms of an image's mask at its arrival; None when it does not come."""

        def came() -> bool:
            return bool(link.arrivals) and link.arrivals[-1][0] == stamp

        link.arrivals.clear()
        return (link.arrivals[-1][1] - stamp) / 1e6 if self._spin(patience, until=came) else None

    def _on_mask(self, link: Link, message: Image) -> None:
        now = time.time_ns()
        stamp = message.header.stamp
        link.arrivals.append((stamp.sec * 1_000_000_000 + stamp.nanosec, now))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._diagnostics[status.name] = {value.key: value.value for value in status.values}

    def _spin(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Handle what comes in until a condition holds; returns whether it did in time."""
        end = time.perf_counter() + seconds
        while not until():
            left = end - time.perf_counter()
            if left <= 0:
                return False
            self._executor.spin_once(timeout_sec=left)
        return True


def as_message(frame: NDArray[np.uint8]) -> Image:
    """Return an RGB frame as a message without a stamp."""
    height, width = frame.shape[:2]
    message = Image(height=height, width=width, encoding='rgb8', step=3 * width)
    message.header.frame_id = 'camera'
    message.data.frombytes(frame.tobytes())
    return message


def main() -> None:
    """Answer questions from stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('frames', type=Path, help='uint8 [N, H, W, 3], .npy')
    arguments = parser.parse_args()
    keep_memory()
    rclpy.init()
    try:
        serve(Client(np.load(arguments.frames)))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
