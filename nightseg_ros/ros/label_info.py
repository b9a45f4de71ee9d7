"""What the ids in the masks mean, as ``vision_msgs/LabelInfo``, where vision_msgs is installed."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.publisher import Publisher

from nightseg_ros.core import exposure
from nightseg_ros.core.labels import CLASSES
from nightseg_ros.core.labels import UNLABELLED
from nightseg_ros.ros import qos

try:
    from vision_msgs.msg import LabelInfo
    from vision_msgs.msg import VisionClass
except ImportError:
    LabelInfo = VisionClass = None

SEMANTIC = {**{c.train_id: c.name for c in CLASSES}, UNLABELLED: 'unlabelled'}
EXPOSURE = {
    exposure.NORMAL: 'normal',
    exposure.UNDER_EXPOSED: 'under-exposed',
    exposure.OVER_EXPOSED: 'over-exposed',
    exposure.UNKNOWN: 'unknown',
}
"""Class id to name, of each topic."""

TOPICS = {'semantic/label_info': SEMANTIC, 'exposure/label_info': EXPOSURE}


def publish(node: Node, prefix: str) -> list[Publisher]:
    """Publish both tables once, for subscribers now and later; nothing without vision_msgs."""
    if LabelInfo is None:
        return []
    publishers = []
    for topic, names in TOPICS.items():
        publisher = node.create_publisher(LabelInfo, f'~/{prefix}{topic}', qos.LATCHED)
        message = LabelInfo(
            class_map=[VisionClass(class_id=i, class_name=name) for i, name in names.items()]
        )
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
        publishers.append(publisher)
    return publishers
