"""Publish a bag over real ROS, at its own pace, faster or slower."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock

from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.bags import open_bag

LONGEST_WAIT_S = 0.1
"""Sleep in slices, so that Ctrl-C and a shutdown are noticed."""


class BagPlayer:
    """Publishes the messages of a bag as they are: nothing is decoded on the way.

    Args:
        node: publishes.
        bag: rosbag2 folder.
        rate: of time; 2.0 plays twice as fast.
        clock: publish /clock before each message.

    Raises:
        BagError: the bag cannot be read, or ROS knows none of its message types.
    """

    def __init__(self, node: Node, bag: Path, rate: float = 1.0, clock: bool = False) -> None:
        if rate <= 0:
            raise BagError(f'the rate must be above 0, got {rate}')
        self._node = node
        self._bag = bag
        self._rate = rate
        self._clock = node.create_publisher(Clock, '/clock', 1) if clock else None
        self.publishers: dict[str, Publisher] = {}
        with open_bag(bag) as reader:
            for connection in reader.connections:
                kind = message_class(connection.msgtype)
                if kind is None:
                    node.get_logger().warning(
                        f'{connection.topic} is not played: {connection.msgtype} is not installed'
                    )
                elif connection.topic not in self.publishers:
                    self.publishers[connection.topic] = node.create_publisher(
                        kind, connection.topic, QoSProfile(depth=10)
                    )
        if not self.publishers:
            raise BagError(f'{bag} has no topic that can be played')

    def play(self, on_publish: Callable[[str, int, bytes], None] | None = None) -> int:
        """Publish everything once and return how many messages.

        Args:
            on_publish: called with topic, bag time in ns and content just before each publication.
        """
        count = 0
        with open_bag(self._bag) as reader:
            started = time.monotonic()
            first: int | None = None
            for connection, timestamp, raw in reader.messages():
                publisher = self.publishers.get(connection.topic)
                if publisher is None:
                    continue
                first = timestamp if first is None else first
                self._wait_until(started + (timestamp - first) / 1e9 / self._rate)
                if not self._node.context.ok():
                    break
                if self._clock is not None:
                    message = Clock()
                    message.clock.sec, message.clock.nanosec = divmod(timestamp, 1_000_000_000)
                    self._clock.publish(message)
                content = bytes(raw)
                if on_publish is not None:
                    on_publish(connection.topic, timestamp, content)
                publisher.publish(content)
                count += 1
        return count

    def wait_for_subscriber(self, seconds: float) -> bool:
        """Wait until somebody listens to one of the topics; returns whether somebody does.

        Discovery takes a moment: without waiting, the first frames would reach nobody.
        """
        deadline = time.monotonic() + seconds
        while self._node.context.ok():
            if any(p.get_subscription_count() for p in self.publishers.values()):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return False

    def _wait_until(self, moment: float) -> None:
        while (left := moment - time.monotonic()) > 0 and self._node.context.ok():
            time.sleep(min(left, LONGEST_WAIT_S))


def message_class(name: str) -> type | None:
    """Return the class of 'package/msg/Type', None where the package is not installed."""
    package, _, kind = name.partition('/msg/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), kind)
    except (ImportError, AttributeError):
        return None
