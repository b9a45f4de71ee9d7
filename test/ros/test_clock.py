"""Simulated time: bags that begin anew, clocks that jump, stand still, or never come."""

from __future__ import annotations

import numpy as np
import pytest
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from rosgraph_msgs.msg import Clock

MASK = 'semantic/mask'


class Bag:
    """Plays a clock and frames with its stamps."""

    def __init__(self, rig, make_image, frame: np.ndarray) -> None:
        profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._rig, self._make_image, self._frame = rig, make_image, frame
        self._clock = rig.node.create_publisher(Clock, '/clock', profile)
        rig.wait_for(lambda: self._clock.get_subscription_count() > 0, 'subscription to the clock')
        rig.listen(MASK)
        self._camera = rig.camera()
        self.now = 0.0

    def tell(self, seconds: float) -> None:
        """Set the clock, and wait until the node has heard of it."""
        self.now = seconds
        message = Clock()
        message.clock.sec, message.clock.nanosec = self._split(seconds)
        self._clock.publish(message)
        self._rig.spin(0.1)

    def show(self, age_s: float = 0.0):
        """Publish a frame."""
        image = self._make_image(self._rig.node, self._frame)
        image.header.stamp.sec, image.header.stamp.nanosec = self._split(self.now - age_s)
        self._camera.publish(image)
        return image

    @staticmethod
    def _split(seconds: float) -> tuple[int, int]:
        return divmod(round(seconds * 1e9), 10**9)


@pytest.fixture
def bag(start, make_image, frame) -> Bag:
    rig = start({'use_sim_time': 'true'})
    result = Bag(rig, make_image, frame)
    result.rig = rig
    return result


def test_each_loop_of_a_bag_is_counted_by_itself(bag: Bag) -> None:
    for _ in range(3):
        for step in range(4):
            bag.tell(1000 + step * 0.1)
            image = bag.show()
            assert bag.rig.next(MASK).header == image.header
        status = bag.rig.wait_for_status('input', received='4', published='4')
        assert not [key for key in status if key.startswith('dropped')]
        bag.tell(1005.0)
    assert bag.rig.log.read_text().count('the clock jumped back by 5.000 s: counting anew') == 2


def test_age_is_that_on_the_bags_clock(bag: Bag) -> None:
    bag.tell(1000.0)
    image = bag.show(age_s=0.5)
    assert bag.rig.next(MASK).header == image.header
    bag.show(age_s=1.5)
    bag.rig.wait_for_status('input', **{'dropped/too_old': '1'})
    assert 400 < float(bag.rig.diagnostics['processing time']['age_ms/p50']) < 600
    # A frame from before a jump back has a stamp in the future: it is no reason to stop.
    bag.tell(900.0)
    image = bag.show(age_s=-100.0)
    assert bag.rig.next(MASK).header == image.header


def test_a_clock_that_stands_still_silences_nothing(bag: Bag) -> None:
    bag.tell(1000.0)
    bag.rig.next_report()
    bag.show()
    bag.rig.next(MASK)
    reports = bag.rig.reports
    bag.rig.spin(2.5)
    assert bag.rig.reports >= reports + 2
    assert bag.rig.diagnostics['input']['input_hz'] == 'the clock stands still'
    bag.rig.wait_for_status('input', level='ERROR', message='stale')
    image = bag.show()
    assert bag.rig.next(MASK).header == image.header


def test_without_any_clock_frames_are_segmented_all_the_same(bag: Bag) -> None:
    bag.now = 1000.0
    image = bag.show()
    assert bag.rig.next(MASK).header == image.header
    bag.rig.wait_for_status('input', published='1')


def test_use_sim_time_may_be_switched_while_frames_flow(bag: Bag) -> None:
    bag.tell(1000.0)
    bag.show()
    bag.rig.next(MASK)
    assert bag.rig.set_parameter('use_sim_time', False).successful
    bag.now = bag.rig.node.get_clock().now().nanoseconds / 1e9
    image = bag.show()
    assert bag.rig.next(MASK).header == image.header
    assert bag.rig.set_parameter('use_sim_time', True).successful
    bag.tell(2000.0)
    image = bag.show()
    assert bag.rig.next(MASK).header == image.header
