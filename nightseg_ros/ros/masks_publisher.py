"""What the node publishes: every topic in one table, messages and memory kept between frames."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy
from rclpy.qos import HistoryPolicy
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from nightseg_ros.core.image_codec import resize_to_rgb
from nightseg_ros.core.image_codec import writable_pixels
from nightseg_ros.core.overlay import overlay
from nightseg_ros.core.segmenter import MaskMemory
from nightseg_ros.core.segmenter import Segmentation


def _qos(reliability: ReliabilityPolicy) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=reliability,
        durability=DurabilityPolicy.VOLATILE,
    )


RELIABLE = _qos(ReliabilityPolicy.RELIABLE)
BEST_EFFORT = _qos(ReliabilityPolicy.BEST_EFFORT)


@dataclass(frozen=True, eq=False)
class Topic:
    """One published image topic."""

    name: str
    encoding: str
    qos: QoSProfile


MASK = Topic('~/semantic/mask', 'mono8', RELIABLE)
CONFIDENCE = Topic('~/semantic/confidence', 'mono8', RELIABLE)
EXPOSURE = Topic('~/exposure/mask', 'mono8', RELIABLE)
OVERLAY = Topic('~/semantic/overlay', 'rgb8', BEST_EFFORT)

TOPICS = (MASK, CONFIDENCE, EXPOSURE, OVERLAY)


class _ImageOut:
    """A publisher with the one message that it sends again and again."""

    def __init__(self, node: LifecycleNode, topic: Topic) -> None:
        self.channels = 1 if topic.encoding == 'mono8' else 3
        self.message = Image(encoding=topic.encoding, is_bigendian=0)
        self.pixels: NDArray[np.uint8] = np.empty((0, 0), np.uint8)
        self.publisher = node.create_lifecycle_publisher(
            Image, topic.name, topic.qos,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )  # fmt: skip

    def fit(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return the message's pixels, reallocated when the camera's resolution changed."""
        if self.pixels.shape[:2] != (height, width):
            self.message.height = height
            self.message.width = width
            self.message.step = width * self.channels
            self.message.data = array('B', bytes(height * width * self.channels))
            self.pixels = writable_pixels(self.message.data, height, width, self.channels)
        return self.pixels

    @property
    def wanted(self) -> bool:
        return self.publisher.get_subscription_count() > 0

    def publish(self, header: Header) -> None:
        self.message.header = header
        self.publisher.publish(self.message)


class MasksPublisher:
    """Publishes the masks of frames under exactly their headers."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._out = {topic: _ImageOut(node, topic) for topic in TOPICS}

    def memory(self, height: int, width: int) -> MaskMemory:
        """Return the outgoing messages' memory, for the segmenter to write into."""
        return MaskMemory(
            *(self._out[topic].fit(height, width) for topic in (MASK, CONFIDENCE, EXPOSURE))
        )

    def publish(
        self,
        header: Header,
        frame: NDArray[np.uint8],
        encoding: str,
        masks: Segmentation,
        overlay_opacity: float,
    ) -> None:
        """Publish the mask always, everything else while somebody listens.

        Args:
            header: of the frame; goes out unchanged.
            frame: uint8 [H, W, C] or [H, W] in ``encoding``.
            encoding: a key of ``image_codec.CHANNELS``.
            masks: in the memory of :meth:`memory`.
            overlay_opacity: 0..1.
        """
        self._out[MASK].publish(header)
        for topic in (CONFIDENCE, EXPOSURE):
            if self._out[topic].wanted:
                self._out[topic].publish(header)
        picture = self._out[OVERLAY]
        if picture.wanted:
            pixels = picture.fit(*frame.shape[:2])
            resize_to_rgb(frame, encoding, pixels)
            overlay(pixels, masks.labels, overlay_opacity, out=pixels)
            picture.publish(header)

    def destroy(self) -> None:
        """Take all publishers down."""
        for out in self._out.values():
            self._node.destroy_lifecycle_publisher(out.publisher)
