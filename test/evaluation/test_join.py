"""Which mask belongs to which image, when a node was not fast or stamps are strange."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nightseg_ros.evaluation import bags
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.frames import MeasuredFrame
from nightseg_ros.evaluation.frames import bag_frames
from nightseg_ros.evaluation.mask_bag import MaskTopics

pytest.importorskip('rclpy', reason='rclpy is not installed: source a ROS 2')

from nightseg_ros.evaluation.join import WINDOW  # noqa: E402
from nightseg_ros.evaluation.join import measure_replay  # noqa: E402
from nightseg_ros.evaluation.replay import CameraReplay  # noqa: E402

TOPICS = MaskTopics.of('')


def message(stamp_ns: int, pixels: np.ndarray) -> bytes:
    image = bags.image_message(bags.header_message(stamp_ns), pixels)
    return bags.TYPESTORE.serialize_cdr(image, bags.IMAGE)


def joined(folder: Path, stamps: list[int], lost: set[int] = frozenset()) -> list[MeasuredFrame]:
    """Play images whose grey is their number; masks with that number come back, but for some."""
    with bags.new_bag(folder / 'drive') as writer:
        images = writer.add_connection(bags.IMAGE_TOPIC, bags.IMAGE, typestore=bags.TYPESTORE)
        for index, stamp in enumerate(stamps):
            pixels = np.full((8, 8, 3), index, np.uint8)
            writer.write(images, 1000 + index, message(stamp, pixels))
    camera = CameraReplay()
    with bags.new_bag(folder / 'masks') as writer:
        topics = [
            writer.add_connection(topic, bags.IMAGE, typestore=bags.TYPESTORE)
            for topic in TOPICS.masks
        ]
        for index, stamp in enumerate(stamps):
            if stamp == 0 or stamp in camera.published_ns:
                camera.untold.add(stamp)
            camera.published_ns[stamp], camera.recorded_ns[stamp] = index * 10**6, stamp
            if index in lost:
                continue
            camera.received_ns[stamp] = index * 10**6 + 5 * 10**6
            for topic in topics:
                content = message(stamp, np.full((8, 8), index % 19, np.uint8))
                writer.write(topic, 5000 + index, content)
    with open_bag(folder / 'drive') as bag:
        frames = bag_frames(bag, bags.IMAGE_TOPIC)
        return list(measure_replay(frames, folder / 'masks', TOPICS, camera))


def own_mask(frame: MeasuredFrame, index: int) -> bool:
    """Return whether a frame has its own mask."""
    if frame.counts is None:
        return False
    assert frame.counts.predicted.argmax() == index % 19
    return True


def test_each_image_gets_its_own_mask_or_none(tmp_path: Path) -> None:
    lost = {0, 3, 4, 9}
    frames = joined(tmp_path, [10**9 + i for i in range(10)], lost)
    assert [own_mask(frame, i) for i, frame in enumerate(frames)] == [
        i not in lost for i in range(10)
    ]
    assert frames[1].times_ms['latency_ms'] == 5.0
    assert frames[2].times_ms['gap_ms'] == 1.0
    assert 'latency_ms' not in frames[3].times_ms


def test_images_with_one_stamp_get_no_mask_and_cost_nobody_else_theirs(tmp_path: Path) -> None:
    stamps = [10**9 + i for i in range(40)]
    stamps[5] = stamps[4]
    frames = joined(tmp_path, stamps)
    assert [frame.problem for frame in frames[4:6]] == ['repeated_stamp'] * 2
    rest = [i for i in range(40) if i not in (4, 5)]
    assert all(own_mask(frames[i], i) for i in rest)


def test_images_without_a_stamp_are_said_to_have_none(tmp_path: Path) -> None:
    frames = joined(tmp_path, [0, 0, 10**9])
    assert [frame.problem for frame in frames] == ['no_stamp', 'no_stamp', None]
    assert own_mask(frames[2], 2)


def test_stamps_may_jump_back_far(tmp_path: Path) -> None:
    late = [2 * 10**9 + i for i in range(30)]
    early = [10**9 + i for i in range(WINDOW * 3)]
    frames = joined(tmp_path, late + early)
    assert all(own_mask(frame, i) for i, frame in enumerate(frames))
