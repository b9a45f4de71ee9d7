from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from types import SimpleNamespace

import pytest
from builtin_interfaces.msg import Time
from rclpy.qos import DurabilityPolicy
from std_msgs.msg import Header

from nightseg_ros.ros import label_info


@dataclass
class VisionClass:
    """As in vision_msgs."""

    class_id: int
    class_name: str


@dataclass
class LabelInfo:
    """As in vision_msgs."""

    class_map: list[VisionClass]
    header: Header = field(default_factory=Header)


class Node:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.published: dict[str, list[LabelInfo]] = {}
        self.profiles = []

    def create_publisher(self, kind: type, topic: str, profile) -> SimpleNamespace:
        assert kind is LabelInfo
        self.profiles.append(profile)
        return SimpleNamespace(publish=self.published.setdefault(topic, []).append)

    def get_clock(self) -> SimpleNamespace:
        return SimpleNamespace(now=lambda: SimpleNamespace(to_msg=lambda: Time(sec=7)))


def test_both_tables_are_published_once_for_whoever_comes_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(label_info, 'LabelInfo', LabelInfo)
    monkeypatch.setattr(label_info, 'VisionClass', VisionClass)
    node = Node()
    assert len(label_info.publish(node, 'front/')) == 2
    assert set(node.published) == {'~/front/semantic/label_info', '~/front/exposure/label_info'}
    semantic, exposure = (
        {c.class_id: c.class_name for c in messages[0].class_map}
        for messages in node.published.values()
    )
    assert len(semantic) == 20
    assert (semantic[0], semantic[18], semantic[255]) == ('road', 'bicycle', 'unlabelled')
    assert set(exposure) == {0, 1, 2, 255}
    assert exposure[1] == 'under-exposed'
    assert all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in node.profiles)


def test_without_vision_msgs_nothing_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_info, 'LabelInfo', None)
    node = Node()
    assert label_info.publish(node, '') == []
    assert not node.published
