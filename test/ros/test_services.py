"""The node's services, over real DDS and under load."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

MASK = 'semantic/mask'


def test_disabling_takes_the_subscription_down_and_enabling_brings_it_back(
    start, make_image, frame
) -> None:
    rig = start()
    rig.listen(MASK)
    camera = rig.camera()
    for _ in range(2):
        answer = rig.enable(False)
        assert (answer.success, answer.message) == (
            True,
            'disabled: nothing is subscribed to',
        )
        rig.wait_for(lambda: camera.get_subscription_count() == 0, 'end of the subscription')
        assert not rig.node.get_subscriptions_info_by_topic('/camera_info')
        camera.publish(make_image(rig.node, frame))
        assert rig.state() == 'active'
        rig.wait_for_status('input', level='OK', message='disabled')
        assert not rig.heard[MASK]
        assert rig.enable(True).success
        rig.wait_for(lambda: camera.get_subscription_count() > 0, 'new subscription')
        rig.spin(0.3)
        camera.publish(make_image(rig.node, frame))
        rig.next(MASK)


def test_enabling_is_remembered_while_inactive(start) -> None:
    rig = start()
    camera = rig.camera()
    assert rig.change('deactivate')
    assert rig.enable(False).success
    assert rig.change('activate')
    rig.spin(0.5)
    assert camera.get_subscription_count() == 0
    assert rig.enable(True).success
    rig.wait_for(lambda: camera.get_subscription_count() > 0, 'subscription')


def test_silence_counts_from_the_moment_of_listening(start, make_image, frame) -> None:
    rig = start({'stale_after_ms': 2500.0})
    camera = rig.camera()
    camera.publish(make_image(rig.node, frame))
    rig.wait_for_status('input', published='1')
    assert rig.enable(False).success
    rig.spin(2.6)
    assert rig.enable(True).success
    rig.next_report()
    assert 'stale' not in rig.diagnostics['input']['message']


def test_switching_on_and_off_under_load_does_no_harm(start, make_image, frame) -> None:
    rig = start({'cameras': '[front, rear]'})
    for name in ('front', 'rear'):
        rig.listen(f'{name}/{MASK}')
    cameras = [rig.camera(f'/{name}/image') for name in ('front', 'rear')]
    for camera in cameras:
        rig.feed(camera, lambda: make_image(rig.node, frame), 100)
    for turn in range(30):
        assert rig.enable(turn % 2 == 1).success
    for _ in range(4):
        assert rig.change('deactivate')
        assert rig.change('activate')
    for name in ('front', 'rear'):
        rig.heard[f'{name}/{MASK}'].clear()
        rig.next(f'{name}/{MASK}')


def test_statistics_begin_again(start, make_image, frame) -> None:
    rig = start()
    camera = rig.camera()
    camera.publish(make_image(rig.node, frame))
    bad = make_image(rig.node, frame, 'thermal')
    rig.wait_for_status('input', published='1')
    camera.publish(bad)
    rig.wait_for_status('input', **{'dropped/unknown_encoding': '1'})
    assert rig.trigger('reset_statistics').success
    status = rig.wait_for_status('input', received='0', published='0')
    assert 'last_error' not in status
    assert 'dropped/unknown_encoding' not in status
    assert 'infer_ms/p50' not in rig.diagnostics['processing time']
    camera.publish(make_image(rig.node, frame))
    rig.wait_for_status('input', received='1', published='1')


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_a_debug_frame_is_the_last_frame_of_each_camera(
    start, make_image, frame, tmp_path: Path
) -> None:
    rig = start({'cameras': '[front, rear]', 'debug_dir': tmp_path / 'debug'})
    answer = rig.trigger('save_debug_frame')
    assert (answer.success, answer.message) == (False, 'no frame was segmented yet')
    rig.listen(f'front/{MASK}')
    rig.listen(f'rear/{MASK}')
    cameras = {name: rig.camera(f'/{name}/image') for name in ('front', 'rear')}
    masks = {}
    for turn, (name, camera) in enumerate(cameras.items()):
        camera.publish(make_image(rig.node, np.roll(frame, turn, axis=0), padding=4))
        masks[name] = rig.next(f'{name}/{MASK}')
    rig.wait_for_status('rear: input', published='1')
    answer = rig.trigger('save_debug_frame')
    assert answer.success, answer.message
    folders = [Path(folder) for folder in answer.message.split(', ')]
    assert [folder.parent for folder in folders] == [tmp_path / 'debug'] * 2
    for turn, (name, folder) in enumerate(zip(cameras, folders, strict=True)):
        assert folder.name.startswith(f'{name}_')
        assert read(folder / 'mask.png').tobytes() == bytes(masks[name].data)
        assert (read(folder / 'image.png')[..., ::-1] == np.roll(frame, turn, axis=0)).all()
        described = json.loads((folder / 'frame.json').read_text())
        assert described['frame_id'] == 'front_camera'
        assert described['engine']['sha256'] == rig.diagnostics['engine']['sha256']


def test_a_debug_frame_that_cannot_be_written_says_why(
    start, make_image, frame, tmp_path: Path
) -> None:
    (tmp_path / 'taken').write_text('a file')
    rig = start({'debug_dir': tmp_path / 'taken'})
    rig.listen(MASK)
    camera = rig.camera()
    camera.publish(make_image(rig.node, frame))
    rig.next(MASK)
    rig.wait_for_status('input', published='1')
    answer = rig.trigger('save_debug_frame')
    assert not answer.success
    assert 'taken' in answer.message
    assert 'debug_dir' in answer.message
    assert rig.set_parameter('debug_dir', str(tmp_path / 'free')).successful
    assert rig.trigger('save_debug_frame').success
    assert list((tmp_path / 'free').iterdir())


def test_services_answer_whatever_the_state(start) -> None:
    rig = start({'autostart': 'false'})
    assert not rig.trigger('reload_model').success
    assert 'not configured' in rig.trigger('reload_model').message
    assert rig.trigger('reset_statistics').success
    assert not rig.trigger('save_debug_frame').success
    assert rig.enable(False).success
    assert rig.enable(True).success
    assert rig.state() == 'unconfigured'
