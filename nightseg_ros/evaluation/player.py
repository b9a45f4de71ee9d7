"""Publish a bag over real ROS, at its own pace, faster or slower."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from collections.abc import Collection
from pathlib import Path

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock

from nightseg_ros.evaluation.bag_reader import BagMessage
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.bags import BagError

LONGEST_WAIT_S = 0.1
"""Sleep in slices, so that Ctrl-C and a shutdown are noticed."""


class BagPlayer:
    """Publishes the messages of a bag as they are: nothing is decoded on the way.

    Those of a ROS 1 bag are published as ROS 2 has them.

    Args:
        node: publishes.
        bag: as `open_bag` takes it.
        rate: of time; 2.0 plays twice as fast.
        clock: publish /clock before each message.
        topics: that are played; none are all.

    Raises:
        BagError: the bag cannot be read, or ROS knows none of its message types.
    """

    def __init__(
        self,
        node: Node,
        bag: Path,
        rate: float = 1.0,
        clock: bool = False,
        topics: Collection[str] = (),
    ) -> None:
        if rate <= 0:
            raise BagError(f'the rate must be above 0, got {rate}')
        self._node = node
        self._bag = bag
        self._rate = rate
        self._clock = node.create_publisher(Clock, '/clock', 1) if clock else None
        self.publishers: dict[str, Publisher] = {}
        self._types: dict[str, str] = {}
        with open_bag(bag) as opened:
            for problem in opened.problems:
                node.get_logger().warning(problem)
            for topic in opened.topics:
                if topics and topic.name not in topics:
                    continue
                kind = message_class(topic.type)
                if kind is None:
                    node.get_logger().warning(
                        f'{topic.name} is not played: {topic.type} is not installed'
                    )
                elif topic.name not in self.publishers:
                    self._types[topic.name] = topic.type
                    self.publishers[topic.name] = node.create_publisher(
                        kind, topic.name, QoSProfile(depth=10)
                    )
        if not self.publishers:
            raise BagError(f'{bag} has no topic that can be played')

    def play(self, on_publish: Callable[[BagMessage], None] | None = None) -> int:
        """Publish everything once and return how many messages.

        Args:
            on_publish: called with each message just before its publication.
        """
        count = 0
        with open_bag(self._bag) as bag:
            started = time.monotonic()
            first: int | None = None
            for message in bag.messages(self.publishers):
                if message.type != self._types[message.topic] or not message.content:
                    continue
                first = message.time_ns if first is None else first
                self._wait_until(started + (message.time_ns - first) / 1e9 / self._rate)
                if not self._node.context.ok():
                    break
                if self._clock is not None:
                    clock = Clock()
                    clock.clock.sec, clock.clock.nanosec = divmod(message.time_ns, 1_000_000_000)
                    self._clock.publish(clock)
                content = bytes(message.content)
                if on_publish is not None:
                    on_publish(message)
                self.publishers[message.topic].publish(content)
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
