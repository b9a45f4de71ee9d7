"""One camera of the node: what it subscribes to, what it publishes, what was counted."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from nightseg_ros.core.image_codec import CameraFrame
from nightseg_ros.core.segmenter import Segmentation
from nightseg_ros.ros import qos
from nightseg_ros.ros.masks_publisher import MasksPublisher
from nightseg_ros.ros.statistics import Statistics

CameraImage: TypeAlias = Image | CompressedImage


@dataclass(frozen=True)
class SegmentedFrame:
    """A frame with its masks, which are copies: they stay as they are."""

    header: Header
    frame: CameraFrame
    masks: Segmentation


class Camera:
    """One camera.

    Args:
        node: that it belongs to.
        name: '' for the only camera.
    """

    def __init__(self, node: LifecycleNode, name: str) -> None:
        self.name = name
        self.prefix = f'{name}/' if name else ''
        self.statistics = Statistics()
        self.events = qos.QosEvents()
        self.masks = MasksPublisher(node, self.prefix, self.events)
        self.info: CameraInfo | None = None
        self.last: SegmentedFrame | None = None
        self._node = node
        self._subscriptions: list[Subscription] = []

    def listen(self, compressed: bool, on_image: Callable[[Camera, CameraImage], None]) -> str:
        """Subscribe to images and calibration; returns the topic of the images."""
        kind, topic = (CompressedImage, 'image/compressed') if compressed else (Image, 'image')

        def on_info(info: CameraInfo) -> None:
            self.info = info

        self.statistics.listening(time.monotonic())
        self._subscribe(kind, topic, lambda message: on_image(self, message))
        self._subscribe(CameraInfo, 'camera_info', on_info)
        return self._subscriptions[0].topic_name

    def _subscribe(self, kind: type, topic: str, callback: Callable) -> None:
        name = f'{self.prefix}{topic}'
        self._subscriptions.append(
            self._node.create_subscription(
                kind,
                name,
                callback,
                copy.copy(qos.SENSOR_DATA),  # overrides are written into the profile
                event_callbacks=self.events.subscription_callbacks(
                    self._node.resolve_topic_name(name)
                ),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        )

    def stop_listening(self) -> None:
        """Take the subscriptions down."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def reset(self) -> None:
        """Begin counting again."""
        self.statistics.reset()
        self.events.reset()

    def destroy(self) -> None:
        """Take everything down."""
        self.stop_listening()
        self.masks.destroy()
