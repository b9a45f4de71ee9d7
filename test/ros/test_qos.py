from __future__ import annotations

from types import SimpleNamespace

from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSPolicyKind
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image

from nightseg_ros.ros import qos
from nightseg_ros.ros.diagnostics import ERROR
from nightseg_ros.ros.diagnostics import OK
from nightseg_ros.ros.diagnostics import qos_status
from nightseg_ros.ros.qos import QosEvents


def incompatible(policy: QoSPolicyKind) -> SimpleNamespace:
    return SimpleNamespace(total_count=2, total_count_change=1, last_policy_kind=int(policy))


def test_a_mismatch_names_the_topic_the_peer_and_the_policy() -> None:
    events = QosEvents()
    assert qos_status('/n', events).level == OK
    events.publisher_callbacks('/n/mask').incompatible_qos(incompatible(QoSPolicyKind.DURABILITY))
    events.subscription_callbacks('/image').incompatible_qos(
        incompatible(QoSPolicyKind.RELIABILITY)
    )
    status = qos_status('/n', events)
    assert (status.level, status.message) == (ERROR, 'mismatch on /n/mask, /image')
    found = {value.key: value.value for value in status.values}
    assert '2 subscriber(s)' in found['/n/mask']
    assert 'durability' in found['/n/mask']
    assert '2 publisher(s)' in found['/image']
    assert 'reliability' in found['/image']


def test_resetting_does_not_hide_a_peer_that_still_does_not_fit() -> None:
    events = QosEvents()
    # DDS reports a peer once, when it appears.
    events.publisher_callbacks('/n/mask').incompatible_qos(incompatible(QoSPolicyKind.DURABILITY))
    events.subscription_callbacks('/image').message_lost(SimpleNamespace(total_count_change=4))
    assert events.lost() == {'/image': 4}
    events.reset()
    assert events.lost() == {}
    assert qos_status('/n', events).level == ERROR


def test_profiles_keep_the_newest_message_only() -> None:
    for profile in (qos.SENSOR_DATA, qos.MASK, qos.PICTURE, qos.LATCHED):
        assert profile.depth == 1


BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def test_subscribers_that_do_not_fit_are_in_the_diagnostics_and_stay_there(start) -> None:
    rig = start()
    rig.camera()
    rig.wait_for_status('qos', level='OK', message='all peers fit')
    rig.listen('semantic/mask', durability=DurabilityPolicy.TRANSIENT_LOCAL)
    rig.listen('semantic/overlay')
    status = rig.wait_for_status(
        'qos',
        **{
            'level': 'ERROR',
            '/night_seg/semantic/mask': 'durability',
            '/night_seg/semantic/overlay': 'reliability',
        },
    )
    assert '1 subscriber(s)' in status['/night_seg/semantic/mask']
    assert rig.trigger('reset_statistics').success
    rig.next_report()
    assert rig.diagnostics['qos']['level'] == 'ERROR'


def test_a_camera_that_does_not_fit_is_in_the_diagnostics(start, make_image, frame) -> None:
    rig = start({'qos_overrides./image.subscription.reliability': 'reliable'})
    camera = rig.node.create_publisher(Image, '/image', BEST_EFFORT)
    status = rig.wait_for_status('qos', **{'level': 'ERROR', '/image': 'reliability'})
    assert '1 publisher(s)' in status['/image']
    camera.publish(make_image(rig.node, frame))
    rig.next_report()
    assert rig.diagnostics['input']['received'] == '0'


def test_overriding_one_topic_leaves_the_others_alone(start) -> None:
    rig = start(
        {
            'qos_overrides./image.subscription.reliability': 'reliable',
            'qos_overrides./night_seg/semantic/mask.publisher.reliability': 'best_effort',
        }
    )
    rig.camera()
    found = {
        topic: rig.node.get_publishers_info_by_topic(f'/night_seg/{topic}')[0].qos_profile
        for topic in ('semantic/mask', 'semantic/confidence', 'exposure/mask')
    }
    for topic in ('/image', '/camera_info'):
        found[topic] = rig.node.get_subscriptions_info_by_topic(topic)[0].qos_profile
    assert {topic: profile.reliability.name for topic, profile in found.items()} == {
        'semantic/mask': 'BEST_EFFORT',
        'semantic/confidence': 'RELIABLE',
        'exposure/mask': 'RELIABLE',
        '/image': 'RELIABLE',
        '/camera_info': 'BEST_EFFORT',
    }
