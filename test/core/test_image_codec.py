from __future__ import annotations

import struct
import zlib
from array import array
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightseg_ros.core import image_codec
from nightseg_ros.core.image_codec import ENCODINGS
from nightseg_ros.core.image_codec import ImageError

INTERLEAVED = [f'{name}{bits}' for name in ('rgb', 'bgr', 'rgba', 'bgra') for bits in (8, 16)]
MONO = ['mono8', 'mono16']
BAYER = {'rggb': 'RGGB', 'bggr': 'BGGR', 'gbrg': 'GBRG', 'grbg': 'GRBG'}
YUV422 = {'yuv422': 'UYVY', 'uyvy': 'UYVY', 'yuv422_yuy2': 'YUYV', 'yuyv': 'YUYV'}
YUV420 = {'nv12': 'UV', 'nv21': 'VU'}


def image_message(
    rows: np.ndarray, encoding: str, height: int, width: int, padding: int = 0, big: bool = False
) -> SimpleNamespace:
    """Return what a camera would send: uint8 ``rows`` of memory, each followed by junk."""
    rows = np.ascontiguousarray(rows).reshape(len(rows), -1)
    data = np.hstack([rows, np.full((len(rows), padding), 77, np.uint8)])
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        step=data.shape[1],
        is_bigendian=int(big),
        data=array('B', data.tobytes()),
    )


def in_16_bits(samples: np.ndarray, big: bool) -> np.ndarray:
    """Return the bytes of 16-bit samples whose high byte is ``samples`` and whose low is noise."""
    low = np.random.default_rng(1).integers(0, 256, samples.shape, dtype=np.uint16)
    wide = (samples.astype(np.uint16) << 8) | low
    return wide.astype('>u2' if big else '<u2').view(np.uint8).reshape(len(samples), -1)


def interleaved(rgb: np.ndarray, encoding: str, padding: int = 0, big: bool = False):
    """Return the message of an RGB frame in one of ``INTERLEAVED`` or ``MONO`` (its red)."""
    name = encoding.rstrip('0123456789')
    alpha = np.full((*rgb.shape[:2], 1), 13, np.uint8)
    bgr = rgb[..., ::-1]
    samples = {
        'rgb': rgb,
        'bgr': bgr,
        'rgba': np.concatenate([rgb, alpha], axis=2),
        'bgra': np.concatenate([bgr, alpha], axis=2),
        'mono': rgb[..., :1],
    }[name]
    if encoding.endswith('16'):
        samples = in_16_bits(samples, big)
    return image_message(samples, encoding, *rgb.shape[:2], padding, big)


def bayer(rgb: np.ndarray, encoding: str, padding: int = 0, big: bool = False) -> SimpleNamespace:
    """Return the message of an RGB frame seen through a colour filter array (REP 118)."""
    pattern = BAYER[encoding.removeprefix('bayer_').rstrip('0123456789')]
    mosaic = np.empty(rgb.shape[:2], np.uint8)
    for index, color in enumerate(pattern):
        row, column = divmod(index, 2)
        mosaic[row::2, column::2] = rgb[row::2, column::2, 'RGB'.index(color)]
    samples = in_16_bits(mosaic, big) if encoding.endswith('16') else mosaic
    return image_message(samples, encoding, *rgb.shape[:2], padding, big)


def from_yuv(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return RGB after ITU-R BT.601, limited range, in floating point."""
    luma = 255 / 219 * (y.astype(float) - 16)
    blue, red = (255 / 224 * (c.astype(float) - 128) for c in (u, v))
    rgb = np.stack(
        [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=-1
    )
    return rgb.clip(0, 255)


def random_yuv(height: int, width: int, vertical: int, seed: int = 0) -> list[np.ndarray]:
    """Return Y at full size and U, V at half the width and 1/``vertical`` of the height."""
    rng = np.random.default_rng(seed)
    chroma = (height // vertical, width // 2)
    return [
        rng.integers(16, 236, (height, width), dtype=np.uint8),
        rng.integers(16, 241, chroma, dtype=np.uint8),
        rng.integers(16, 241, chroma, dtype=np.uint8),
    ]


def yuv422(planes: list[np.ndarray], encoding: str, padding: int = 0) -> SimpleNamespace:
    y, u, v = planes
    height, width = y.shape
    rows = np.empty((height, width // 2, 4), np.uint8)
    order = YUV422[encoding]
    rows[..., order.index('U')], rows[..., order.index('V')] = u, v
    first = order.index('Y')
    rows[..., first], rows[..., first + 2] = y[:, ::2], y[:, 1::2]
    return image_message(rows, encoding, height, width, padding)


def yuv420(planes: list[np.ndarray], encoding: str, padding: int = 0) -> SimpleNamespace:
    y, u, v = planes
    height, width = y.shape
    chroma = {'U': u, 'V': v}
    pairs = np.stack([chroma[c] for c in YUV420[encoding]], axis=-1)
    rows = np.vstack([y, pairs.reshape(height // 2, width)])
    return image_message(rows, encoding, height, width, padding)


def any_message(encoding: str, height: int = 8, width: int = 12, padding: int = 0, seed: int = 0):
    """Return a message in any encoding."""
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if encoding.startswith('bayer'):
        return bayer(rgb, encoding, padding)
    if encoding in YUV422:
        return yuv422(random_yuv(height, width, 1, seed), encoding, padding)
    if encoding in YUV420:
        return yuv420(random_yuv(height, width, 2, seed), encoding, padding)
    return interleaved(rgb, encoding, padding)


def smooth_picture(height: int, width: int) -> np.ndarray:
    """Return colour ramps: what lies between two samples of a mosaic is their mean."""
    y, x = np.mgrid[:height, :width].astype(float)
    x, y = x / width, y / height
    return np.stack([30 + 180 * x, 220 - 150 * y, 60 + 90 * x + 60 * y], axis=-1).astype(np.uint8)


sizes = {
    'height': st.integers(1, 12),
    'width': st.integers(1, 12),
    'padding': st.integers(0, 9),
    'seed': st.integers(0, 2**16),
}


def test_every_encoding_is_tested_here() -> None:
    named = {f'bayer_{pattern}{bits}' for pattern in BAYER for bits in (8, 16)}
    assert set(ENCODINGS) == {*INTERLEAVED, *MONO, *named, *YUV422, *YUV420}


@given(encoding=st.sampled_from([*INTERLEAVED, *MONO]), big=st.booleans(), **sizes)
def test_interleaved_encodings_come_out_as_rgb_whatever_the_padding(
    encoding: str, big: bool, height: int, width: int, padding: int, seed: int
) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if encoding in MONO:
        rgb[...] = rgb[..., :1]
    message = interleaved(rgb, encoding, padding, big)
    out = np.empty_like(rgb)
    assert image_codec.resize_to_rgb(image_codec.view(message), out) is out
    assert (out == rgb).all()


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('encoding', [e for e in sorted(ENCODINGS) if e.startswith('bayer')])
def test_a_mosaic_gets_its_colours_back(encoding: str, big: bool, padding: int) -> None:
    rgb = smooth_picture(40, 60)
    result = image_codec.to_rgb(image_codec.view(bayer(rgb, encoding, padding, big)))
    assert np.abs(result.astype(int) - rgb)[2:-2, 2:-2].max() <= 4


@given(
    encoding=st.sampled_from([*YUV422, *YUV420]),
    half_height=st.integers(1, 8),
    half_width=st.integers(1, 8),
    padding=st.integers(0, 9),
    seed=st.integers(0, 2**16),
)
def test_yuv_becomes_rgb_as_bt601_says(
    encoding: str, half_height: int, half_width: int, padding: int, seed: int
) -> None:
    vertical = 1 if encoding in YUV422 else 2
    planes = random_yuv(2 * half_height, 2 * half_width, vertical, seed)
    message = (yuv422 if encoding in YUV422 else yuv420)(planes, encoding, padding)
    result = image_codec.to_rgb(image_codec.view(message))
    y, u, v = planes
    u, v = (c.repeat(2, axis=1).repeat(vertical, axis=0) for c in (u, v))
    assert np.abs(result - from_yuv(y, u, v)).max() <= 3


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
def test_the_view_shares_the_messages_memory(encoding: str) -> None:
    message = any_message(encoding, padding=3)
    frame = image_codec.view(message)
    assert np.shares_memory(frame.samples, np.frombuffer(message.data, np.uint8))
    assert not frame.samples.flags.writeable
    assert (frame.height, frame.width, frame.encoding) == (8, 12, encoding)


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
def test_a_last_row_without_padding_is_read_and_not_a_byte_less(encoding: str) -> None:
    whole = any_message(encoding, padding=5)
    cut = any_message(encoding, padding=5)
    cut.data = cut.data[:-5]
    expected = image_codec.to_rgb(image_codec.view(whole))
    assert (image_codec.to_rgb(image_codec.view(cut)) == expected).all()
    cut.data = cut.data[:-1]
    with pytest.raises(ImageError, match=f'needs {len(whole.data) - 5}') as caught:
        image_codec.view(cut)
    assert caught.value.reason == 'short_data'


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'height': 0}, 'empty_image'),
        ({'width': 0}, 'empty_image'),
        ({'height': 0, 'width': 0, 'step': 0, 'data': array('B')}, 'empty_image'),
        ({'step': 0}, 'bad_step'),
        ({'step': 11}, 'bad_step'),
        ({'data': array('B')}, 'short_data'),
        ({'height': 800}, 'short_data'),
    ],
)
def test_each_encoding_refuses_what_cannot_be(encoding: str, change: dict, reason: str) -> None:
    bad = any_message(encoding)
    vars(bad).update(change)
    with pytest.raises(ImageError) as caught:
        image_codec.view(bad)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ('encoding', 'change'),
    [
        ('bayer_rggb8', {'width': 11}),
        ('bayer_gbrg16', {'height': 7}),
        ('uyvy', {'width': 11}),
        ('nv12', {'width': 11}),
        ('nv21', {'height': 7}),
    ],
)
def test_odd_sizes_are_refused_where_pixels_share_colours(encoding: str, change: dict) -> None:
    bad = any_message(encoding)
    vars(bad).update(change)
    with pytest.raises(ImageError, match='must be multiples of') as caught:
        image_codec.view(bad)
    assert caught.value.reason == 'bad_size'


def test_yuv422_may_have_an_odd_height() -> None:
    planes = random_yuv(7, 12, 1)
    assert image_codec.to_rgb(image_codec.view(yuv422(planes, 'yuyv'))).shape == (7, 12, 3)


@pytest.mark.parametrize('encoding', ['', 'RGB8', '32FC1', 'nv24', 'bayer_rggb12'])
def test_an_unknown_encoding_is_named_with_those_there_are(encoding: str) -> None:
    bad = any_message('rgb8')
    bad.encoding = encoding
    with pytest.raises(ImageError, match=f"'{encoding}'.*rgb8, bgr8") as caught:
        image_codec.view(bad)
    assert caught.value.reason == 'unknown_encoding'


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_compressed_images_decode(suffix: str) -> None:
    bgr = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), (0, 0), 6
    )
    frame = image_codec.decode_compressed(cv2.imencode(suffix, bgr)[1].tobytes())
    assert (frame.encoding, frame.height, frame.width) == ('bgr8', 64, 64)
    difference = np.abs(image_codec.to_rgb(frame)[..., ::-1].astype(int) - bgr)
    assert difference.max() <= (0 if suffix == '.png' else 12)


def test_a_compressed_image_without_colour_becomes_grey() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    frame = image_codec.decode_compressed(cv2.imencode('.png', grey)[1].tobytes())
    assert (image_codec.to_rgb(frame) == grey[..., None]).all()


def huge_png() -> bytes:
    """Return the header of a PNG with more pixels than OpenCV reads."""
    header = b'IHDR' + struct.pack('>IIBBBBB', 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack('>I', 13) + header + struct.pack('>I', zlib.crc32(header))
    return b'\x89PNG\r\n\x1a\n' + chunk + bytes(50)


@pytest.mark.parametrize('data', [b'', b'\xff\xd8\xff garbage', bytes(100), huge_png()])
def test_garbage_does_not_decode(data: bytes) -> None:
    with pytest.raises(ImageError, match='do not decode') as caught:
        image_codec.decode_compressed(data)
    assert caught.value.reason == 'bad_compressed_image'


@pytest.mark.parametrize('encoding', [*INTERLEAVED, *MONO])
def test_resizing_scales_into_the_given_memory(encoding: str) -> None:
    rgb = np.zeros((90, 120, 3), np.uint8)
    rgb[:, 60:] = 200
    out = np.full((30, 40, 3), 99, np.uint8)
    assert image_codec.resize_to_rgb(image_codec.view(interleaved(rgb, encoding)), out) is out
    assert (out[:, :18] == 0).all()
    assert (out[:, 22:] == 200).all()


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
@pytest.mark.parametrize('size', [(8, 12), (3, 5), (16, 12), (8, 6), (50, 70)])
def test_a_resized_frame_looks_like_the_resized_picture(
    encoding: str, size: tuple[int, int]
) -> None:
    frame = image_codec.view(any_message(encoding, padding=4))
    whole = image_codec.to_rgb(frame)
    out = image_codec.resize_to_rgb(frame, np.empty((*size, 3), np.uint8))
    expected = image_codec.resize_to_rgb(
        image_codec.CameraFrame.of(whole), np.empty((*size, 3), np.uint8)
    )
    assert np.abs(out.astype(int) - expected).max() <= 2


@pytest.mark.parametrize('size', [(384, 640), (240, 320), (192, 256), (100, 130), (96, 160)])
def test_shrinking_by_halves_stays_close_to_means_over_areas(
    shared_data: Path, size: tuple[int, int]
) -> None:
    path = sorted((shared_data / 'campus_night' / 'images').iterdir())[40]
    rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    out = image_codec.resize_to_rgb(image_codec.CameraFrame.of(rgb), np.empty((*size, 3), np.uint8))
    expected = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(out.astype(int) - expected).mean() < 2.0


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
def test_cv_bridge_reads_the_same(encoding: str) -> None:
    cv_bridge = pytest.importorskip('cv_bridge', reason='cv_bridge is not installed')
    sensor_msgs = pytest.importorskip('sensor_msgs.msg', reason='sensor_msgs is not installed')
    source = any_message(encoding, 8, 12)
    message = sensor_msgs.Image(**vars(source))
    try:
        theirs = cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8')
    except cv_bridge.CvBridgeError as error:
        pytest.skip(f'cv_bridge cannot read it: {error}')
    ours = image_codec.to_rgb(image_codec.view(source))
    # cv_bridge rounds what has 16 bits, we cut it off; demosaicing differs at the border.
    assert np.abs(ours.astype(int) - theirs)[2:-2, 2:-2].max() <= 2


@pytest.mark.parametrize('channels', [1, 3])
def test_writing_pixels_writes_the_messages_memory(channels: int) -> None:
    data = array('B', bytes(4 * 5 * channels))
    pixels = image_codec.writable_pixels(data, 4, 5, channels)
    pixels[2, 3] = 9
    assert data[(2 * 5 + 3) * channels] == 9
    assert sum(data) == 9 * channels
