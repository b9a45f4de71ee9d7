from __future__ import annotations

from array import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightseg_ros.core import image_codec
from nightseg_ros.core.image_codec import CHANNELS
from nightseg_ros.core.image_codec import ImageError


def image_message(pixels: np.ndarray, encoding: str, padding: int = 0) -> SimpleNamespace:
    """Return what a camera would send: rows of ``pixels``, each followed by junk."""
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    junk = np.full((height, padding), 77, np.uint8)
    data = np.hstack([rows, junk])
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        step=data.shape[1],
        is_bigendian=0,
        data=array('B', data.tobytes()),
    )


def encode(rgb: np.ndarray, encoding: str) -> np.ndarray:
    """Return the pixels that ``encoding`` stores for an RGB frame."""
    alpha = np.full((*rgb.shape[:2], 1), 13, np.uint8)
    return {
        'rgb8': rgb,
        'bgr8': rgb[..., ::-1],
        'rgba8': np.concatenate([rgb, alpha], axis=2),
        'bgra8': np.concatenate([rgb[..., ::-1], alpha], axis=2),
        'mono8': rgb[..., 0],
    }[encoding]


@given(
    encoding=st.sampled_from(sorted(CHANNELS)),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    padding=st.integers(0, 9),
    seed=st.integers(0, 2**16),
)
def test_every_encoding_comes_out_as_rgb_whatever_the_padding(
    encoding: str, height: int, width: int, padding: int, seed: int
) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if encoding == 'mono8':
        rgb[...] = rgb[..., :1]
    message = image_message(np.ascontiguousarray(encode(rgb, encoding)), encoding, padding)
    out = np.empty_like(rgb)
    result = image_codec.resize_to_rgb(image_codec.view(message), encoding, out)
    assert result is out
    assert (out == rgb).all()


@pytest.mark.parametrize('encoding', sorted(CHANNELS))
def test_the_view_shares_the_messages_memory(encoding: str, frame: np.ndarray) -> None:
    message = image_message(np.ascontiguousarray(encode(frame, encoding)), encoding, padding=3)
    view = image_codec.view(message)
    assert np.shares_memory(view, np.frombuffer(message.data, np.uint8))
    assert not view.flags.writeable


def test_a_last_row_without_padding_is_read(frame: np.ndarray) -> None:
    message = image_message(frame, 'rgb8', padding=5)
    message.data = message.data[:-5]
    assert (image_codec.view(message) == frame).all()


@pytest.mark.parametrize(
    ('change', 'reason', 'message'),
    [
        ({'encoding': 'yuv422_yuy2'}, 'unknown_encoding', 'rgb8, bgr8'),
        ({'encoding': ''}, 'unknown_encoding', "''"),
        ({'height': 0}, 'empty_image', '48x0'),
        ({'width': 0}, 'empty_image', '0x32'),
        ({'step': 143}, 'bad_step', '144 bytes'),
        ({'data': array('B')}, 'short_data', 'holds 0 bytes'),
        ({'height': 33}, 'short_data', 'needs 4752'),
    ],
)
def test_bad_images_are_refused_with_a_reason(
    change: dict, reason: str, message: str, frame: np.ndarray
) -> None:
    bad = image_message(frame, 'rgb8')
    vars(bad).update(change)
    with pytest.raises(ImageError, match=message) as caught:
        image_codec.view(bad)
    assert caught.value.reason == reason


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_compressed_images_decode(suffix: str) -> None:
    bgr = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), (0, 0), 6
    )
    decoded = image_codec.decode_compressed(cv2.imencode(suffix, bgr)[1].tobytes())
    assert np.abs(decoded.astype(int) - bgr).max() <= (0 if suffix == '.png' else 12)


@pytest.mark.parametrize('data', [b'', b'\xff\xd8\xff garbage', bytes(100)])
def test_garbage_does_not_decode(data: bytes) -> None:
    with pytest.raises(ImageError, match='do not decode') as caught:
        image_codec.decode_compressed(data)
    assert caught.value.reason == 'bad_compressed_image'


@pytest.mark.parametrize('encoding', sorted(CHANNELS))
def test_resizing_scales_into_the_given_memory(encoding: str) -> None:
    rgb = np.zeros((90, 120, 3), np.uint8)
    rgb[:, 60:] = 200
    out = np.empty((30, 40, 3), np.uint8)
    image_codec.resize_to_rgb(np.ascontiguousarray(encode(rgb, encoding)), encoding, out)
    assert (out[:, :18] == 0).all()
    assert (out[:, 22:] == 200).all()


@pytest.mark.parametrize('channels', [1, 3])
def test_writing_pixels_writes_the_messages_memory(channels: int) -> None:
    data = array('B', bytes(4 * 5 * channels))
    pixels = image_codec.writable_pixels(data, 4, 5, channels)
    pixels[2, 3] = 9
    assert data[(2 * 5 + 3) * channels] == 9
    assert sum(data) == 9 * channels
