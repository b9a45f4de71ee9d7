"""What arrives, good and bad, over real DDS: the mask that comes out, or the reason why none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

MASK, CONFIDENCE = 'semantic/mask', 'semantic/confidence'

# What every encoding holds in these tests: trainId 8 in R, and colours that a swap would show.
RED, GREEN, BLUE = 8, 200, 100

FAILING_FRAMES = """
from nightseg_ros.core.backends import BackendError
from nightseg_ros.core.backends.onnx_runtime import OnnxRuntimeBackend
infer = OnnxRuntimeBackend.infer
def fail_on_request(self, image):
    wish = image[0, 0, 0, 2]
    if wish == 91: raise BackendError('the runtime failed')
    if wish == 92: raise MemoryError('out of memory')
    return infer(self, image)
OnnxRuntimeBackend.infer = fail_on_request
"""


def pixels(message) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)


def in_encoding(node, make_image, encoding: str) -> Image:
    """Return a 32x48 picture of one colour in any encoding."""
    color = np.array([RED, GREEN, BLUE], float)
    y = round(float(16 + color @ [65.481, 128.553, 24.966] / 255))
    u = round(float(128 + color @ [-37.797, -74.203, 112.0] / 255))
    v = round(float(128 + color @ [112.0, -93.786, -18.214] / 255))
    name = encoding.removesuffix('16').removesuffix('8')
    pattern = {
        'rgb': [RED, GREEN, BLUE],
        'bgr': [BLUE, GREEN, RED],
        'rgba': [RED, GREEN, BLUE, 1],
        'bgra': [BLUE, GREEN, RED, 1],
        'mono': [RED],
    }
    if name in pattern:
        content = np.full((32, 48, len(pattern[name])), pattern[name], np.uint8)
    elif name.startswith('bayer'):
        content = np.empty((32, 48), np.uint8)
        for index, letter in enumerate(name.removeprefix('bayer_')):
            content[index // 2 :: 2, index % 2 :: 2] = color['rgb'.index(letter)]
    elif encoding in ('yuyv', 'yuv422_yuy2'):
        content = np.tile(np.array([[y, u], [y, v]], np.uint8), (32, 24, 1))
    elif encoding in ('uyvy', 'yuv422'):
        content = np.tile(np.array([[u, y], [v, y]], np.uint8), (32, 24, 1))
    else:
        pair = [u, v] if encoding == 'nv12' else [v, u]
        chroma = np.tile(np.array(pair, np.uint8), (16, 24))
        content = np.vstack([np.full((32, 48), y, np.uint8), chroma])
    if encoding.endswith('16'):
        wide = (content.astype('<u2') << 8) + 3
        content = wide.reshape(len(content), -1).view(np.uint8)
    image = make_image(node, content, encoding, padding=6)
    image.height, image.width = 32, 48
    return image


def test_all_encodings_give_the_same_mask(start, make_image) -> None:
    rig = start()
    rig.listen(MASK)
    rig.listen(CONFIDENCE)
    camera = rig.camera()
    colored = [f'{name}{bits}' for name in ('rgb', 'bgr', 'rgba', 'bgra') for bits in (8, 16)]
    bayer = [f'bayer_{p}{b}' for p in ('rggb', 'bggr', 'gbrg', 'grbg') for b in (8, 16)]
    yuv = ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', 'nv12', 'nv21']
    for encoding in (*colored, *bayer, *yuv, 'mono8', 'mono16'):
        image = in_encoding(rig.node, make_image, encoding)
        camera.publish(image)
        mask, confidence = rig.next(MASK), rig.next(CONFIDENCE)
        assert mask.header == image.header
        assert (mask.height, mask.width) == (32, 48)
        tolerance = 2 if encoding in yuv else 0
        assert np.abs(pixels(mask).astype(int) - RED).max() <= tolerance, encoding
        green = RED if encoding.startswith('mono') else GREEN
        assert np.abs(pixels(confidence).astype(int) - green).max() <= tolerance, encoding


def test_bad_images_are_counted_and_the_next_good_one_works(start, make_image, frame) -> None:
    rig = start()
    rig.listen(MASK)
    camera = rig.camera()

    spoilt = (
        ({'encoding': '32FC1'}, 'unknown_encoding'),
        ({'encoding': 'nv12', 'height': 21, 'step': 48}, 'bad_size'),
        ({'height': 33}, 'short_data'),
        ({'width': 0, 'height': 0}, 'empty_image'),
        ({'step': 10}, 'bad_step'),
    )
    for spoil, _ in spoilt:
        bad = make_image(rig.node, frame)
        for name, value in spoil.items():
            setattr(bad, name, value)
        camera.publish(bad)
        rig.spin(0.1)
    camera.publish(make_image(rig.node, frame, age_s=30))
    rig.wait_for_status('input', **{'dropped/too_old': '1'})
    for _, reason in spoilt:
        assert rig.diagnostics['input'][f'dropped/{reason}'] == '1', reason
    assert 'set use_sim_time' in rig.diagnostics['input']['last_error']
    assert not rig.heard[MASK]

    good = make_image(rig.node, frame)
    camera.publish(good)
    assert rig.next(MASK).header == good.header
    rig.wait_for_status('input', published='1')
    assert rig.diagnostics['engine']['backend'] == 'onnxruntime'
    for stage in ('decode', 'preprocess', 'infer', 'postprocess', 'publish', 'total', 'age'):
        for percentile in ('p50', 'p95', 'p99'):
            assert float(rig.diagnostics['processing time'][f'{stage}_ms/{percentile}']) >= 0


def test_a_camera_that_sends_only_rubbish_is_rejected_and_some_rubbish_is_a_warning(
    start, make_image, frame
) -> None:
    rig = start()
    camera = rig.camera()
    turns = [0]

    def some_bad() -> Image:
        turns[0] += 1
        image = make_image(rig.node, frame)
        image.step = 10 if turns[0] % 2 else image.step
        return image

    def bad() -> Image:
        return make_image(rig.node, frame, 'thermal')

    rig.wait_for_status('input', level='WARN', message='waiting for the first image')
    timer = rig.feed(camera, bad, 20)
    rejected = rig.wait_for_status('input', level='ERROR', message='rejected')
    assert 'unknown_encoding' in rejected['message']
    assert "'thermal' is not supported: publish one of rgb8" in rejected['message']
    rig.node.destroy_timer(timer)
    timer = rig.feed(camera, some_bad, 20)
    rig.wait_for_status('input', level='WARN', message='bad_step')
    rig.node.destroy_timer(timer)
    timer = rig.feed(camera, lambda: make_image(rig.node, frame), 20)
    active = rig.wait_for_status('input', level='OK', message='active')
    assert 'dropped/unknown_encoding' in active
    rig.node.destroy_timer(timer)


def test_an_image_without_stamp_is_not_too_old(start, make_image, frame) -> None:
    rig = start()
    rig.listen(MASK)
    camera = rig.camera()
    image = make_image(rig.node, frame)
    image.header.stamp.sec = image.header.stamp.nanosec = 0
    camera.publish(image)
    assert rig.next(MASK).header == image.header


def test_every_age_is_right_when_there_is_no_limit(start, make_image, frame) -> None:
    rig = start({'max_image_age_ms': 0.0})
    rig.listen(MASK)
    camera = rig.camera()
    for age_s in (3600.0, -3600.0):
        image = make_image(rig.node, frame, age_s=age_s)
        camera.publish(image)
        assert rig.next(MASK).header == image.header


@pytest.mark.parametrize('suffix', ['png', 'jpeg'])
def test_compressed_images(start, make_compressed, frame, suffix: str) -> None:
    rig = start({'image_transport': 'compressed'})
    rig.listen(MASK)
    camera = rig.camera('/image/compressed', CompressedImage)
    content = np.full((32, 48, 3), (BLUE, GREEN, RED), np.uint8)
    whole = cv2.imencode(f'.{suffix}', content)[1].tobytes()
    for garbage in (b'\xff\xd8 no jpeg', b'', b'\x89PNG' + bytes(99)):
        camera.publish(make_compressed(rig.node, garbage, suffix))
        rig.spin(0.1)
    rig.wait_for_status('input', **{'dropped/bad_compressed_image': '3'})
    assert not rig.heard[MASK]
    image = make_compressed(rig.node, whole, suffix)
    camera.publish(image)
    mask = rig.next(MASK)
    assert mask.header == image.header
    assert np.abs(pixels(mask).astype(int) - RED).max() <= 3


def test_a_backend_that_fails_costs_the_frame_and_nothing_else(start, make_image, frame) -> None:
    rig = start(prelude=FAILING_FRAMES)
    rig.listen(MASK)
    camera = rig.camera()
    for wish in (91, 92, 0):
        content = frame.copy()
        content[0, 0, 2] = wish
        camera.publish(make_image(rig.node, content))
        rig.spin(0.2)
    assert (pixels(rig.next(MASK)) == frame[..., 0]).all()
    status = rig.wait_for_status('input', **{'dropped/processing_failed': '2'})
    assert 'MemoryError: out of memory' in status['last_error']
    printed = rig.log.read_text()
    assert 'BackendError: the runtime failed' in printed


def test_a_camera_becomes_stale_and_comes_back(start, make_image, frame) -> None:
    rig = start({'stale_after_ms': 700.0})
    camera = rig.camera()
    for _ in range(2):
        timer = rig.feed(camera, lambda: make_image(rig.node, frame), 20)
        active = rig.wait_for_status('input', level='OK', message='active')
        assert float(active['age_ms']) < 700
        rig.node.destroy_timer(timer)
        rig.wait_for_status('input', level='ERROR', message='stale: no image for')


def test_rates_are_those_of_the_camera(start, make_image, frame) -> None:
    rig = start()
    camera = rig.camera()
    rig.feed(camera, lambda: make_image(rig.node, frame), 20)
    rig.spin(2.5)
    rig.next_report()
    assert 14 < float(rig.diagnostics['input']['input_hz']) < 26
    assert 14 < float(rig.diagnostics['input']['output_hz']) < 26


def test_masks_of_one_class_are_an_error_until_they_change(start, make_image, frame) -> None:
    rig = start()
    camera = rig.camera()
    sky = np.full((32, 48, 3), 10, np.uint8)
    timer = rig.feed(camera, lambda: make_image(rig.node, sky), 30)
    collapsed = rig.wait_for_status('output', level='ERROR', message='sky fills 100.0%')
    assert collapsed['dominant_class'] == 'sky'
    assert collapsed['under_exposed_share'] == '1.000'
    rig.node.destroy_timer(timer)
    rig.feed(camera, lambda: make_image(rig.node, frame), 30)
    rig.wait_for_status('output', level='OK', message='plausible')


def test_ids_that_are_no_class_are_published_as_unlabelled_and_reported(
    start, make_image, frame
) -> None:
    rig = start()
    rig.listen(MASK)
    camera = rig.camera()
    content = frame.copy()
    content[:2, :, 0] = 19
    content[2:4, :, 0] = 254
    content[4:6, :, 0] = 255
    camera.publish(make_image(rig.node, content))
    expected = frame[..., 0].copy()
    expected[:6] = 255
    assert (pixels(rig.next(MASK)) == expected).all()
    status = rig.wait_for_status('output', level='ERROR', message='192 pixels of no class')
    assert status['unknown_ids'] == '192'


def test_slow_frames_warn_and_then_are_an_error(start, make_image, frame) -> None:
    slow = """
import time
from nightseg_ros.core.backends.onnx_runtime import OnnxRuntimeBackend
infer = OnnxRuntimeBackend.infer
def slowly(self, image):
    time.sleep(0.06)
    return infer(self, image)
OnnxRuntimeBackend.infer = slowly
"""
    rig = start({'latency_warn_ms': 50.0, 'latency_error_ms': 5000.0}, slow)
    camera = rig.camera()
    rig.feed(camera, lambda: make_image(rig.node, frame), 60)
    rig.wait_for_status('processing time', level='WARN', message='above 50 ms')
    assert rig.set_parameter('latency_error_ms', 55.0).successful
    rig.wait_for_status('processing time', level='ERROR', message='above 55 ms')
    # The camera is faster than the network: frames are dropped, none queues up.
    status = rig.wait_for_status('input', level='OK', message='active')
    assert int(status['dropped/replaced_by_newer']) > 0
    assert float(rig.diagnostics['processing time']['age_ms/p99']) < 2000
