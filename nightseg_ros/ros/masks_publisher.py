"""What the node publishes for one camera: every topic in one table, memory kept between frames."""

from __future__ import annotations

import copy
from array import array
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from nightseg_ros.core.exposure import exposure_mask
from nightseg_ros.core.image_codec import CameraFrame
from nightseg_ros.core.image_codec import resize_to_rgb
from nightseg_ros.core.image_codec import writable_pixels
from nightseg_ros.core.labels import colorize
from nightseg_ros.core.overlay import overlay
from nightseg_ros.core.segmenter import Segmentation
from nightseg_ros.core.segmenter import resize_labels
from nightseg_ros.core.segmenter import resize_values
from nightseg_ros.ros import label_info
from nightseg_ros.ros import qos
from nightseg_ros.ros.camera_info import scaled
from nightseg_ros.ros.parameters import Settings


@dataclass(frozen=True, eq=False)
class Topic:
    """One published topic; ``encoding`` is that of images."""

    name: str
    message: type
    profile: QoSProfile
    encoding: str = ''


MASK = Topic('semantic/mask', Image, qos.MASK, 'mono8')
CONFIDENCE = Topic('semantic/confidence', Image, qos.MASK, 'mono8')
EXPOSURE = Topic('exposure/mask', Image, qos.MASK, 'mono8')
EXPOSURE_MAP = Topic('exposure/map', Image, qos.MASK, 'mono8')
COLOR = Topic('semantic/color', Image, qos.PICTURE, 'rgb8')
OVERLAY = Topic('semantic/overlay', Image, qos.PICTURE, 'rgb8')
COMPRESSED_MASK = Topic('semantic/mask/compressed', CompressedImage, qos.MASK)
MASK_CAMERA_INFO = Topic('semantic/camera_info', CameraInfo, qos.MASK)

IMAGES = (MASK, CONFIDENCE, EXPOSURE, EXPOSURE_MAP, COLOR, OVERLAY)

_PNG = 'mono8; png compressed mono8'
"""Format as image_transport writes it, so that its subscribers restore the encoding."""


class _Output:
    """A publisher of one topic."""

    def __init__(self, node: LifecycleNode, prefix: str, topic: Topic, events: qos.QosEvents):
        name = f'~/{prefix}{topic.name}'
        self.publisher = node.create_lifecycle_publisher(
            topic.message,
            name,
            copy.copy(topic.profile),  # overrides are written into the profile
            event_callbacks=events.publisher_callbacks(node.resolve_topic_name(name)),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    @property
    def wanted(self) -> bool:
        return self.publisher.get_subscription_count() > 0


class _ImageOutput(_Output):
    """A publisher with the one image that it sends again and again."""

    def __init__(self, node: LifecycleNode, prefix: str, topic: Topic, events: qos.QosEvents):
        super().__init__(node, prefix, topic, events)
        self.channels = 1 if topic.encoding == 'mono8' else 3
        self.message = Image(encoding=topic.encoding, is_bigendian=0)
        self.pixels: NDArray[np.uint8] = np.empty((0, 0), np.uint8)

    def fit(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return the message's pixels, reallocated when the size changed."""
        if self.pixels.shape[:2] != (height, width):
            self.message.height = height
            self.message.width = width
            self.message.step = width * self.channels
            self.message.data = array('B', bytes(height * width * self.channels))
            self.pixels = writable_pixels(self.message.data, height, width, self.channels)
        return self.pixels

    def publish(self, header: Header) -> None:
        self.message.header = header
        self.publisher.publish(self.message)


class MasksPublisher:
    """Publishes the masks of one camera's frames under exactly their headers.

    Args:
        node: that publishes.
        prefix: '' or 'front/': between the node's name and the topic.
        events: where mismatched QoS is reported.
    """

    def __init__(self, node: LifecycleNode, prefix: str, events: qos.QosEvents) -> None:
        self._node = node
        self._images = {topic: _ImageOutput(node, prefix, topic, events) for topic in IMAGES}
        self._compressed = _Output(node, prefix, COMPRESSED_MASK, events)
        self._camera_info = _Output(node, prefix, MASK_CAMERA_INFO, events)
        self._label_infos = label_info.publish(node, prefix)

    def draw_mask(self, frame: CameraFrame, masks: Segmentation, settings: Settings) -> None:
        """Write the mask into its message, at the size that the settings ask for."""
        height, width = masks.labels.shape
        if settings.mask_at_source_size:
            height, width = frame.height, frame.width
        resize_labels(masks.labels, self._images[MASK].fit(height, width))

    def publish(
        self,
        header: Header,
        frame: CameraFrame,
        masks: Segmentation,
        camera_info: CameraInfo | None,
        settings: Settings,
    ) -> None:
        """Publish the mask that was drawn, always and first; the rest while somebody listens.

        Args:
            header: of the frame; goes out unchanged.
            frame: that was segmented.
            masks: of it, at the network's size.
            camera_info: of the camera, None when there is none.
            settings: size of the masks, thresholds, looks.
        """
        mask = self._images[MASK]
        mask.publish(header)
        height, width = mask.pixels.shape
        for topic, image in self._images.items():
            if topic is not MASK and image.wanted:
                self._draw(topic, frame, masks, settings, image.fit(height, width))
                image.publish(header)
        if camera_info is not None and self._camera_info.wanted:
            self._camera_info.publisher.publish(
                scaled(camera_info, header, width / frame.width, height / frame.height)
            )
        if self._compressed.wanted:
            self._compressed.publisher.publish(_png(header, mask.pixels, settings.png_level))

    def _draw(
        self,
        topic: Topic,
        frame: CameraFrame,
        masks: Segmentation,
        settings: Settings,
        out: NDArray[np.uint8],
    ) -> None:
        if topic is CONFIDENCE:
            resize_values(masks.confidence, out)
        elif topic is EXPOSURE:
            resize_labels(exposure_mask(masks.exposure, settings.thresholds), out)
        elif topic is EXPOSURE_MAP:
            resize_values(masks.exposure, out)
        elif topic is COLOR:
            colorize(self._images[MASK].pixels, out)
        else:
            resize_to_rgb(frame, out)
            overlay(out, self._images[MASK].pixels, settings.overlay_opacity, out=out)

    def destroy(self) -> None:
        """Take all publishers down."""
        for output in (*self._images.values(), self._compressed, self._camera_info):
            self._node.destroy_lifecycle_publisher(output.publisher)
        for publisher in self._label_infos:
            self._node.destroy_publisher(publisher)


def _png(header: Header, mask: NDArray[np.uint8], level: int) -> CompressedImage:
    """Return a mask as PNG: lossless, as ids must be."""
    _, content = cv2.imencode('.png', mask, [cv2.IMWRITE_PNG_COMPRESSION, level])
    message = CompressedImage(header=header, format=_PNG)
    message.data = array('B', content.tobytes())
    return message
