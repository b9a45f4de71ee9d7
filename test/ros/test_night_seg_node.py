"""The node's life over real DDS: start, lifecycle, end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

MASK = 'semantic/mask'


def pixels(message) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)


def test_the_lifecycle_can_be_walked_twice(start, make_image, frame) -> None:
    rig = start({'autostart': 'false'})
    rig.listen(MASK)
    assert rig.state() == 'unconfigured'
    for _ in range(2):
        assert rig.change('configure')
        assert rig.state() == 'inactive'
        assert rig.change('activate')
        camera = rig.camera()
        camera.publish(make_image(rig.node, frame))
        assert (pixels(rig.next(MASK)) == frame[..., 0]).all()
        assert rig.change('deactivate')
        camera.publish(make_image(rig.node, frame))
        rig.spin(0.5)
        assert not rig.heard[MASK]
        assert rig.change('cleanup')
        rig.wait_for(lambda: rig.node.count_publishers(f'/night_seg/{MASK}') == 0, 'end of masks')
        rig.node.destroy_publisher(camera)
    assert rig.state() == 'unconfigured'


def test_a_transition_that_is_not_possible_is_refused_and_the_node_lives_on(start) -> None:
    rig = start({'autostart': 'false'})
    assert not rig.change('activate')
    assert not rig.change('cleanup')
    assert rig.state() == 'unconfigured'
    assert rig.change('configure')
    assert not rig.change('configure')
    assert rig.state() == 'inactive'


@pytest.mark.parametrize('before', [[], ['deactivate'], ['deactivate', 'cleanup']])
def test_shutdown_frees_everything_from_any_state(
    start, make_image, frame, before: list[str]
) -> None:
    rig = start()
    camera = rig.camera()
    rig.feed(camera, lambda: make_image(rig.node, frame), 100)
    state = ['active', 'inactive', 'unconfigured'][len(before)]
    for transition in before:
        assert rig.change(transition)
    assert rig.change(f'{state}_shutdown')
    assert rig.state() == 'finalized'
    rig.wait_for(lambda: camera.get_subscription_count() == 0, 'end of the subscription')
    rig.next_report()
    assert 'model' not in rig.diagnostics['engine']


def test_all_statuses_of_an_idle_node(start) -> None:
    rig = start()
    rig.camera()
    rig.next_report()
    names = {'engine', 'memory', 'input', 'processing time', 'output', 'qos'}
    assert set(rig.diagnostics) == names
    assert rig.diagnostics['engine']['level'] == 'OK'
    assert rig.diagnostics['input']['message'] == 'waiting for the first image'
    assert float(rig.diagnostics['memory']['resident_mib']) > 10


def test_walking_the_lifecycle_under_load_loses_no_thread(start, make_image, frame) -> None:
    rig = start({'cameras': '[front, rear]'})
    rig.listen(f'rear/{MASK}')
    for name in ('front', 'rear'):
        rig.feed(rig.camera(f'/{name}/image'), lambda: make_image(rig.node, frame), 100)
    status = Path(f'/proc/{rig.process.pid}/status')

    def threads() -> int:
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith('Threads:'))

    rig.next(f'rear/{MASK}')
    before = threads()
    for _ in range(4):
        for transition in ('deactivate', 'cleanup', 'configure', 'activate'):
            assert rig.change(transition)
    rig.heard[f'rear/{MASK}'].clear()
    assert (pixels(rig.next(f'rear/{MASK}')) == frame[..., 0]).all()
    assert threads() <= before + 2


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_under_load_ends_the_node_cleanly(start, make_image, frame, number: int) -> None:
    rig = start({'cameras': '[front, rear]'})
    for name in ('front', 'rear'):
        rig.feed(rig.camera(f'/{name}/image'), lambda: make_image(rig.node, frame), 200)
    rig.listen(f'front/{MASK}')
    rig.next(f'front/{MASK}')
    rig.process.send_signal(number)
    assert rig.process.wait(timeout=20) == 0
    printed = rig.log.read_text()
    assert 'Traceback' not in printed, printed


@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM'])
@pytest.mark.parametrize('function', ['load_model', 'NightSegNode'])
def test_a_signal_during_the_start_ends_the_node_cleanly(start, function: str, name: str) -> None:
    prelude = f"""
import os, signal, time
original = night_seg_node.{function}
def interrupted(*args):
    os.kill(os.getpid(), signal.{name})
    time.sleep(0.3)
    return original(*args)
night_seg_node.{function} = interrupted
"""
    rig = start(prelude=prelude)
    assert rig.process.wait(timeout=20) == 0, rig.log.read_text()
    assert 'Traceback' not in rig.log.read_text()


def test_names_follow_namespace_and_remapping(start, make_image, frame) -> None:
    rig = start(remap=('__ns:=/vehicle', 'image:=/camera/image_raw'))
    masks: list[Image] = []
    topic = f'/vehicle/night_seg/{MASK}'
    rig.node.create_subscription(Image, topic, masks.append, 10)
    profile = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    rig.node.create_subscription(Image, topic, masks.append, profile)
    camera = rig.camera('/camera/image_raw')
    camera.publish(make_image(rig.node, frame))
    rig.wait_for(lambda: bool(masks), 'mask')
    assert (pixels(masks[0]) == frame[..., 0]).all()
    rig.wait_for_status('vehicle/night_seg: qos', **{'level': 'ERROR', topic: 'durability'})
    rig.wait_for_status('vehicle/night_seg: input', level='OK', published='1')


def test_the_module_runs_as_a_script(ros_context: None) -> None:
    command = [sys.executable, '-m', 'nightseg_ros.ros.night_seg_node', '--ros-args', '-p']
    done = subprocess.run(
        [*command, 'model_path:=/nowhere.onnx'], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert '/nowhere.onnx' in done.stdout + done.stderr
    assert 'Traceback' not in done.stdout + done.stderr
