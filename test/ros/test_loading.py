"""Models: loaded, checked, exchanged while frames flow, and refused; over real DDS."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from nightseg_ros.core.self_check import Reference
from nightseg_ros.core.self_check import reference_path
from nightseg_ros.ros import engine_loader
from nightseg_ros.ros.night_seg_node import NightSegNode

from .conftest import command

MASK = 'semantic/mask'


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_reference(model: Path, *, right: bool) -> None:
    """Write what the self-check of a channel model compares with."""
    images = np.random.default_rng(0).integers(0, 19, (2, 32, 48, 3), dtype=np.uint8)
    labels = images[..., 0] if right else images[..., 0] + 1
    Reference(images, labels, images[..., 1], sha256(model)).save(reference_path(model))


def two_answers(node, make_image):
    """Return a frame of which the channel model says 3, and the swapped one 11."""
    return make_image(node, np.full((32, 48, 3), (3, 11, 100), np.uint8))


def run(parameters: dict[str, object]) -> tuple[int, str]:
    done = subprocess.run(command(parameters), capture_output=True, text=True, timeout=60)
    printed = done.stdout + done.stderr
    assert 'Traceback' not in printed
    return done.returncode, printed


def test_build_only_checks_the_model_and_exits(ros_context: None, channel_model: Path) -> None:
    parameters = {'model_path': channel_model, 'build_only': 'true', 'backend': 'onnxruntime'}
    code, printed = run(parameters)
    assert (code, 'no reference' in printed) == (0, True), printed
    write_reference(channel_model, right=True)
    code, printed = run(parameters)
    assert (code, '100.00% of the labels agree' in printed) == (0, True), printed
    write_reference(channel_model, right=False)
    code, printed = run(parameters)
    assert (code, 'fails the self-check' in printed) == (2, True), printed
    reference_path(channel_model).write_bytes(b'garbage')
    code, printed = run(parameters)
    assert (code, 'channels.check.npz' in printed) == (2, True), printed
    channel_model.write_bytes(channel_model.read_bytes()[:-40])
    code, printed = run(parameters)
    assert (code, 'no valid ONNX file' in printed) == (2, True), printed


@pytest.mark.parametrize('autostart', ['true', 'false'])
def test_build_only_never_listens(start, autostart: str, gate) -> None:
    rig = start({'build_only': 'true', 'autostart': autostart}, gate.prelude)
    rig.wait_for_status('engine', level='WARN', message='loading')
    assert not rig.node.get_subscriptions_info_by_topic('/image')
    gate.open()
    assert rig.process.wait(timeout=20) == 0, rig.log.read_text()


def test_a_model_that_fails_its_self_check_never_drives(
    ros_context: None, start, channel_model: Path
) -> None:
    write_reference(channel_model, right=False)
    rig = start()
    subscribed = False
    end = time.monotonic() + 20
    while rig.process.poll() is None and time.monotonic() < end:
        rig.executor.spin_once(timeout_sec=0.02)
        subscribed |= rig.node.count_subscribers('/image') > 0
    printed = rig.log.read_text()
    assert (rig.process.returncode, subscribed) == (2, False), printed
    assert 'must not drive' in printed
    assert 'Traceback' not in printed


def test_a_managed_node_whose_model_is_refused_goes_back_and_can_try_again(
    start, gate, channel_model: Path, make_image
) -> None:
    write_reference(channel_model, right=False)
    rig = start({'autostart': 'false'}, gate.prelude)
    rig.listen(MASK)
    for transitions in (['configure'], ['configure', 'activate']):
        for transition in transitions:
            assert rig.change(transition)
        gate.open()
        rig.wait_for(lambda: rig.state() == 'unconfigured', 'way back to unconfigured')
        gate.close()
        status = rig.wait_for_status('engine', level='ERROR', message='fails the self-check')
        assert 'model' not in status
        assert rig.node.count_subscribers('/image') == 0
    gate.open()
    write_reference(channel_model, right=True)
    assert rig.change('configure')
    assert rig.change('activate')
    camera = rig.camera()
    camera.publish(two_answers(rig.node, make_image))
    assert set(rig.next(MASK).data) == {3}
    status = rig.wait_for_status('engine', level='OK', message='active')
    assert status['self_check'].startswith('passed: 100.00%')


def test_a_corrupt_model_fails_the_transition_and_can_be_replaced(
    start, channel_model: Path
) -> None:
    whole = channel_model.read_bytes()
    channel_model.write_bytes(whole[:-40])
    rig = start({'autostart': 'false'})
    assert not rig.change('configure')
    assert rig.state() == 'unconfigured'
    channel_model.write_bytes(whole)
    assert rig.change('configure')
    assert rig.state() == 'inactive'


def test_nothing_is_subscribed_to_before_the_model_is_there_and_services_answer(
    start, gate, make_image
) -> None:
    rig = start(prelude=gate.prelude)
    rig.listen(MASK)
    status = rig.wait_for_status('engine', level='WARN', message='loading')
    assert float(status['loading_s']) >= 0
    assert rig.state() == 'active'
    assert rig.diagnostics['input']['message'] == 'waiting for the model'
    camera = rig.node.create_publisher(Image, '/image', 10)
    rig.feed(camera, lambda: two_answers(rig.node, make_image), 50)
    rig.spin(0.7)
    assert camera.get_subscription_count() == 0
    assert rig.diagnostics['input']['received'] == '0'
    refused = rig.trigger('reload_model')
    assert (refused.success, refused.message) == (False, 'a model is being loaded already')
    assert rig.set_parameter('overlay_opacity', 0.4).successful
    assert not rig.heard[MASK]
    gate.open()
    assert set(rig.next(MASK).data) == {3}
    rig.wait_for_status('engine', level='OK', message='active')


def test_the_lifecycle_can_be_walked_while_a_model_is_loaded(start, gate, make_image) -> None:
    rig = start({'autostart': 'false'}, gate.prelude)
    rig.listen(MASK)
    for _ in range(2):
        assert rig.change('configure')
        assert rig.change('activate')
        assert rig.change('deactivate')
        assert rig.change('cleanup')  # lets go of what is loaded
    gate.open()
    rig.spin(0.5)
    assert rig.state() == 'unconfigured'
    rig.next_report()
    assert 'model' not in rig.diagnostics['engine']
    gate.close()
    assert rig.change('configure')
    assert rig.change('activate')
    assert rig.change('deactivate')
    gate.open()
    rig.wait_for_status('engine', model='channels')
    assert rig.state() == 'inactive'
    assert rig.node.count_subscribers('/image') == 0
    assert rig.change('activate')
    camera = rig.camera()
    camera.publish(two_answers(rig.node, make_image))
    assert set(rig.next(MASK).data) == {3}


def test_another_model_takes_over_under_load(
    start, gate, make_image, channel_model: Path, swapped_model: Path
) -> None:
    gate.open()
    rig = start(prelude=gate.prelude)
    rig.listen(MASK)
    camera = rig.camera()
    rig.feed(camera, lambda: two_answers(rig.node, make_image), 30)
    rig.wait_for_status('engine', sha256=sha256(channel_model))
    for path, labels in ((swapped_model, 11), (channel_model, 3)):
        gate.close()
        assert rig.set_parameter('model_path', str(path)).successful
        answer = rig.trigger('reload_model')
        assert answer.success, answer.message
        rig.wait_for_status('engine', level='WARN', message='loading')
        assert not rig.trigger('reload_model').success
        before = len(rig.heard[MASK])
        rig.spin(0.5)
        assert len(rig.heard[MASK]) > before + 5  # the previous one drives on
        gate.open()
        rig.wait_for_status('engine', level='OK', sha256=sha256(path), model=path.stem)
        rig.heard[MASK].clear()
        assert set(rig.next(MASK).data) == {labels}
    assert max(np.diff(rig.arrivals[MASK])) < 1.0


def test_each_mask_is_of_one_model_and_none_goes_back(
    start, make_image, swapped_model: Path
) -> None:
    rig = start()
    rig.listen(MASK)
    camera = rig.camera()
    rig.feed(camera, lambda: two_answers(rig.node, make_image), 100)
    rig.next(MASK)
    assert rig.set_parameter('model_path', str(swapped_model)).successful
    assert rig.trigger('reload_model').success
    rig.wait_for_status('engine', model='swapped')
    rig.spin(0.3)
    said = [set(mask.data) for mask in rig.heard[MASK]]
    change = said.index({11})
    assert said[:change] == [{3}] * change
    assert said[change:] == [{11}] * (len(said) - change)


def test_a_model_that_is_refused_does_not_disturb_the_one_that_drives(
    start, make_image, channel_model: Path, swapped_model: Path
) -> None:
    rig = start()
    rig.listen(MASK)
    camera = rig.camera()
    rig.feed(camera, lambda: two_answers(rig.node, make_image), 30)
    assert rig.set_parameter('model_path', str(swapped_model)).successful

    write_reference(swapped_model, right=False)  # loads, but computes something else
    assert rig.trigger('reload_model').success
    status = rig.wait_for_status('engine', level='ERROR', message='the previous one drives on')
    assert 'fails the self-check' in status['message']
    assert status['sha256'] == sha256(channel_model)

    whole = swapped_model.read_bytes()
    swapped_model.write_bytes(whole[:-40])  # cannot even be read
    answer = rig.trigger('reload_model')
    assert not answer.success
    assert 'no valid ONNX file' in answer.message
    rig.heard[MASK].clear()
    assert set(rig.next(MASK).data) == {3}

    swapped_model.write_bytes(whole)
    reference_path(swapped_model).unlink()
    assert rig.trigger('reload_model').success
    status = rig.wait_for_status('engine', level='OK', sha256=sha256(swapped_model))
    assert 'failed' not in status['message']


def test_a_reload_that_ends_after_deactivation_or_cleanup_does_no_harm(
    start, gate, make_image, swapped_model: Path
) -> None:
    gate.open()
    rig = start({'autostart': 'false'}, gate.prelude)
    rig.listen(MASK)
    assert rig.change('configure')
    assert rig.change('activate')
    camera = rig.camera()
    rig.feed(camera, lambda: two_answers(rig.node, make_image), 50)
    assert set(rig.next(MASK).data) == {3}
    assert rig.set_parameter('model_path', str(swapped_model)).successful

    gate.close()
    assert rig.trigger('reload_model').success
    assert rig.change('deactivate')
    gate.open()
    rig.wait_for_status('engine', model='swapped')
    assert rig.state() == 'inactive'
    assert camera.get_subscription_count() == 0
    assert rig.change('activate')
    rig.heard[MASK].clear()
    assert set(rig.next(MASK).data) == {11}

    gate.close()
    assert rig.trigger('reload_model').success
    assert rig.change('deactivate')
    assert rig.change('cleanup')
    gate.open()
    rig.spin(0.5)
    rig.next_report()
    assert rig.diagnostics['engine']['message'] == 'unconfigured'
    assert 'model' not in rig.diagnostics['engine']
    rig.heard[MASK].clear()
    assert rig.change('configure')
    assert rig.change('activate')
    assert set(rig.next(MASK).data) == {11}


def test_a_model_of_another_size_takes_over(
    start, make_image, make_channel_model, tmp_path: Path
) -> None:
    rig = start({'mask_size': 'model'})
    rig.listen(MASK)
    camera = rig.camera()
    camera.publish(two_answers(rig.node, make_image))
    assert rig.next(MASK).width == 48
    other = make_channel_model(tmp_path / 'other.onnx', 16, 80, exposure=False)
    assert rig.set_parameter('model_path', str(other)).successful
    assert rig.trigger('reload_model').success
    rig.wait_for_status('engine', model='other', input_size='80x16')
    camera.publish(two_answers(rig.node, make_image))
    mask = rig.next(MASK)
    assert (mask.height, mask.width, set(mask.data)) == (16, 80, {3})


def test_a_reload_that_cannot_begin_says_why_and_the_node_lives_on(start) -> None:
    rig = start()
    rig.camera()
    for path in ('/nowhere/model.onnx', '/', '~nobody_of_this_name/model.onnx'):
        assert rig.set_parameter('model_path', path).successful
        answer = rig.trigger('reload_model')
        assert not answer.success
        assert path in answer.message
    assert rig.state() == 'active'


@pytest.mark.parametrize('delay_s', [0.0, 0.3])
def test_ctrl_c_while_loading_ends_the_node_cleanly(start, gate, delay_s: float) -> None:
    rig = start(prelude=gate.prelude)
    rig.wait_for_status('engine', message='loading')
    rig.process.send_signal(signal.SIGINT)
    time.sleep(delay_s)
    gate.open()  # what is loaded arrives in the middle of the shutdown
    assert rig.process.wait(timeout=20) == 0
    printed = rig.log.read_text()
    assert 'Traceback' not in printed, printed
    assert 'Exception' not in printed, printed


def test_a_model_that_nobody_waited_for_arrives_after_the_node_is_destroyed(
    ros_context: None, channel_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive = threading.Event()
    create = engine_loader.create_backend

    def create_late(*args):
        assert arrive.wait(10)
        return create(*args)

    raised = []
    monkeypatch.setattr(engine_loader, 'create_backend', create_late)
    monkeypatch.setattr(threading, 'excepthook', raised.append)
    overrides = {'model_path': str(channel_model), 'backend': 'onnxruntime'}
    node = NightSegNode(parameter_overrides=[Parameter(n, value=v) for n, v in overrides.items()])
    node.trigger_configure()
    (loader,) = (t for t in threading.enumerate() if t.name == 'engine_loader')
    node.stop()
    assert not node.stop_loading(0.0)
    node.destroy_node()
    arrive.set()
    loader.join(timeout=10)
    assert not raised, raised[0].exc_value
