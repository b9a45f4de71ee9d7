"""Several cameras on one model."""

from __future__ import annotations

import time

import numpy as np

CAMERAS = ('front', 'left', 'right', 'rear')

SLOW = """
import time
from nightseg_ros.core.backends.onnx_runtime import OnnxRuntimeBackend
infer = OnnxRuntimeBackend.infer
def slowly(self, image):
    time.sleep(0.03)
    return infer(self, image)
OnnxRuntimeBackend.infer = slowly
"""


def picture(index: int, turn: int = 0) -> np.ndarray:
    """Return a frame of its own for each camera, in a size of its own."""
    content = np.full((32 + 8 * index, 48, 3), 4 * index + turn, np.uint8)
    content[: 4 + index] = 255
    return content


def test_each_camera_gets_its_own_masks_and_diagnostics(start, make_image) -> None:
    rig = start({'cameras': f'[{", ".join(CAMERAS)}]', 'stale_after_ms': 800.0})
    for name in CAMERAS:
        rig.listen(f'{name}/semantic/mask')
        rig.listen(f'{name}/exposure/map')
    cameras = {name: rig.camera(f'/{name}/image') for name in CAMERAS}
    for turn in range(3):
        sent = {}
        for index, name in enumerate(CAMERAS):
            sent[name] = make_image(rig.node, picture(index, turn))
            sent[name].header.frame_id = f'{name}_optical'
            cameras[name].publish(sent[name])
        for index, name in enumerate(CAMERAS):
            mask = rig.next(f'{name}/semantic/mask')
            exposure = rig.next(f'{name}/exposure/map')
            assert mask.header == exposure.header == sent[name].header
            assert mask.height == 32 + 8 * index
            assert set(mask.data) == {255, 4 * index + turn}
    for name in CAMERAS:
        status = rig.wait_for_status(f'{name}: input', received='3', published='3')
        assert 'infer_ms/p99' in rig.diagnostics[f'{name}: processing time'], status
        assert rig.diagnostics[f'{name}: qos']['level'] == 'OK'
    assert 'input' not in rig.diagnostics

    # One stalls: it alone is stale.
    for index, name in enumerate(CAMERAS[1:], start=1):
        rig.feed(cameras[name], lambda i=index: make_image(rig.node, picture(i)), 20)
    for name in CAMERAS[1:]:
        rig.wait_for_status(f'{name}: input', level='OK', message='active')
    rig.wait_for_status('front: input', level='ERROR', message='stale')
    rig.next_report()
    for name in CAMERAS[1:]:
        assert rig.diagnostics[f'{name}: input']['message'] == 'active'


def test_a_fast_camera_does_not_starve_a_slow_one(start, make_image) -> None:
    rig = start({'cameras': '[fast, slow]'}, SLOW)
    rig.listen('slow/semantic/mask')
    rig.listen('fast/semantic/mask')
    fast, slow = rig.camera('/fast/image'), rig.camera('/slow/image')
    rig.feed(fast, lambda: make_image(rig.node, picture(0)), 100)
    rig.spin(0.5)
    waits = []
    for turn in range(8):
        image = make_image(rig.node, picture(1, turn))
        sent = time.monotonic()
        slow.publish(image)
        assert rig.next('slow/semantic/mask').header == image.header
        waits.append(rig.arrivals['slow/semantic/mask'][-1] - sent)
    # At most the frame at hand and its own, 30 ms each, and what DDS and a busy machine add.
    assert np.median(waits) < 0.2
    rig.wait_for_status('slow: input', published='8')
    assert 'dropped/replaced_by_newer' not in rig.diagnostics['slow: input']
    assert int(rig.diagnostics['fast: input']['dropped/replaced_by_newer']) > 0
    assert len(rig.heard['fast/semantic/mask']) > 8


def test_rubbish_of_one_camera_is_its_own_affair(start, make_image) -> None:
    rig = start({'cameras': '[front, rear]'})
    rig.listen('rear/semantic/mask')
    front, rear = rig.camera('/front/image'), rig.camera('/rear/image')
    rig.feed(front, lambda: make_image(rig.node, picture(0), 'thermal'), 20)
    rig.feed(rear, lambda: make_image(rig.node, picture(1)), 20)
    rig.wait_for_status('front: input', level='ERROR', message='rejected')
    rig.next_report()
    assert rig.diagnostics['rear: input']['message'] == 'active'
    assert set(rig.next('rear/semantic/mask').data) == {4, 255}
