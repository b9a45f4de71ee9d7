"""The floor: a node that does nothing. An image comes in, a mask of its size goes out."""

from __future__ import annotations

from array import array

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image

from nightseg_ros.core.memory import keep_memory

NEWEST_IMAGE = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Sensor data, newest only: how night_seg subscribes to its camera."""

NEWEST_MASK = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""How night_seg publishes its masks."""


class Floor(Node):
    """Publishes a mask that it has already, in the callback of the image."""

    def __init__(self) -> None:
        super().__init__('floor')
        self._mask = Image(encoding='mono8')
        self._publisher = self.create_publisher(Image, '~/semantic/mask', NEWEST_MASK)
        self.create_subscription(Image, 'image', self._on_image, NEWEST_IMAGE)

    def _on_image(self, image: Image) -> None:
        if (self._mask.height, self._mask.width) != (image.height, image.width):
            self._mask.height = image.height
            self._mask.width = self._mask.step = image.width
            self._mask.data = array('B', bytes(image.height * image.width))
        self._mask.header = image.header
        self._publisher.publish(self._mask)


def spin(node: Node) -> None:
    """Run a node as most are run, in one thread, until it is told to stop."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    keep_memory()
    rclpy.init()
    spin(Floor())
