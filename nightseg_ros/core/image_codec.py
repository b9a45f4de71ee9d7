"""Between image messages and arrays: a zero-copy view in, preallocated memory out.

Works on anything with the fields of ``sensor_msgs/msg/Image`` and imports no ROS. Encoding names
are those of ``sensor_msgs/image_encodings.hpp`` (and ``nv12``, which Isaac ROS adds); row length
and padding follow REP 118's ``step``.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray


class Encoding(NamedTuple):
    """How an encoding lies in memory and becomes RGB.

    Attributes:
        channels: samples of a pixel in a row.
        to_rgb: OpenCV conversion; None where the samples are RGB already.
        sample_bytes: of one sample; of two, only the more significant one is read.
        rows: rows of memory for one row of pixels (4:2:0 has its colours below the picture).
        multiple: width and height must be multiples of this (horizontal, vertical).
        interpolates: whether samples may be averaged with their neighbours before conversion.
    """

    channels: int
    to_rgb: int | None
    sample_bytes: int = 1
    rows: Fraction = Fraction(1)
    multiple: tuple[int, int] = (1, 1)
    interpolates: bool = True


# OpenCV names a Bayer pattern by the second row, from the second column on; ROS by the first row.
_BAYER = {
    'rggb': cv2.COLOR_BayerBG2RGB,
    'bggr': cv2.COLOR_BayerRG2RGB,
    'gbrg': cv2.COLOR_BayerGR2RGB,
    'grbg': cv2.COLOR_BayerGB2RGB,
}
_COLORS = {
    'rgb': (3, None),
    'bgr': (3, cv2.COLOR_BGR2RGB),
    'rgba': (4, cv2.COLOR_RGBA2RGB),
    'bgra': (4, cv2.COLOR_BGRA2RGB),
    'mono': (1, cv2.COLOR_GRAY2RGB),
}


def _yuv422(conversion: int) -> Encoding:
    return Encoding(2, conversion, multiple=(2, 1), interpolates=False)


def _yuv420(conversion: int) -> Encoding:
    return Encoding(1, conversion, rows=Fraction(3, 2), multiple=(2, 2), interpolates=False)


ENCODINGS: dict[str, Encoding] = {
    **{f'{name}8': Encoding(*value) for name, value in _COLORS.items()},
    **{f'{name}16': Encoding(*value, sample_bytes=2) for name, value in _COLORS.items()},
    **{
        f'bayer_{pattern}{8 * size}': Encoding(
            1, conversion, sample_bytes=size, multiple=(2, 2), interpolates=False
        )
        for pattern, conversion in _BAYER.items()
        for size in (1, 2)
    },
    'yuv422': _yuv422(cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': _yuv422(cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': _yuv422(cv2.COLOR_YUV2RGB_YUYV),
    'yuyv': _yuv422(cv2.COLOR_YUV2RGB_YUYV),
    'nv12': _yuv420(cv2.COLOR_YUV2RGB_NV12),
    'nv21': _yuv420(cv2.COLOR_YUV2RGB_NV21),
}
"""Encodings that the node reads."""


class ImageError(ValueError):
    """An image that cannot be read; ``reason`` is a short key to count it by."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ImageMessage(Protocol):
    """What the codec reads of ``sensor_msgs/msg/Image``."""

    height: int
    width: int
    encoding: str
    step: int
    is_bigendian: int
    data: array | bytes | memoryview


@dataclass(frozen=True)
class CameraFrame:
    """A camera frame as it lies in memory.

    Attributes:
        samples: uint8 [H, W, C], [H, W], or [3H/2, W] (4:2:0); possibly a strided view.
        encoding: a key of :data:`ENCODINGS`.
        height, width: of the picture.
    """

    samples: NDArray[np.uint8]
    encoding: str
    height: int
    width: int

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], encoding: str = 'rgb8') -> CameraFrame:
        """Return a frame of uint8 [H, W, C] or [H, W] pixels."""
        return cls(pixels, encoding, *pixels.shape[:2])


def view(message: ImageMessage) -> CameraFrame:
    """Return the frame of an image message without copying it.

    Args:
        message: an image in one of :data:`ENCODINGS`; rows may be padded (``step``). Of 16-bit
            samples the frame shows the more significant byte, where ``is_bigendian`` says it is.

    Raises:
        ImageError: unknown encoding, a size without pixels or that the encoding cannot have,
            ``step`` shorter than a row, or missing data.
    """
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise ImageError(
            'unknown_encoding',
            f"encoding '{message.encoding}' is not supported: publish one of "
            + ', '.join(ENCODINGS),
        )
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0:
        raise ImageError('empty_image', f'the image is {width}x{height}: it has no pixels')
    if width % encoding.multiple[0] or height % encoding.multiple[1]:
        raise ImageError(
            'bad_size',
            f'{message.encoding} of {width}x{height}: width and height must be multiples of '
            f'{encoding.multiple[0]} and {encoding.multiple[1]}',
        )
    pixel = encoding.channels * encoding.sample_bytes
    row = width * pixel
    if step < row:
        raise ImageError(
            'bad_step', f'step is {step}, but {width} pixels of {message.encoding} take {row} bytes'
        )
    buffer = np.frombuffer(message.data, np.uint8)
    rows = int(height * encoding.rows)
    # The last row may come without its padding.
    needed = step * (rows - 1) + row
    if buffer.size < needed:
        raise ImageError(
            'short_data',
            f'the image holds {buffer.size} bytes, {width}x{height} {message.encoding} with '
            f'step {step} needs {needed}',
        )
    if encoding.sample_bytes == 2 and not message.is_bigendian:
        buffer = buffer[1:]
    samples = np.lib.stride_tricks.as_strided(
        buffer,
        (rows, width, encoding.channels),
        (step, pixel, encoding.sample_bytes),
        writeable=False,
    )
    if encoding.channels == 1:
        samples = samples[..., 0]
    return CameraFrame(samples, message.encoding, height, width)


def decode_compressed(data: array | bytes | memoryview) -> CameraFrame:
    """Return a JPEG or PNG as a bgr8 frame.

    Raises:
        ImageError: when it does not decode.
    """
    buffer = np.frombuffer(data, np.uint8)
    try:
        pixels = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if buffer.size else None
    except cv2.error:  # a header that promises more pixels than OpenCV allows
        pixels = None
    if pixels is None:
        raise ImageError(
            'bad_compressed_image', f'{buffer.size} bytes of compressed image do not decode'
        )
    return CameraFrame.of(pixels, 'bgr8')


def to_rgb(frame: CameraFrame) -> NDArray[np.uint8]:
    """Return a frame as a new RGB array, uint8 [H, W, 3]."""
    return resize_to_rgb(frame, np.empty((frame.height, frame.width, 3), np.uint8))


def resize_to_rgb(frame: CameraFrame, out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale a frame into a preallocated RGB array: the only copy of a frame on its way in.

    Where the encoding allows it the frame is resized first and its colours converted at the
    smaller size.

    Args:
        frame: of any size.
        out: uint8 [h, w, 3], written and returned.
    """
    encoding = ENCODINGS[frame.encoding]
    samples = frame.samples
    if encoding.to_rgb is None:
        return _resize(samples, out)
    same_size = (frame.height, frame.width) == out.shape[:2]
    if not encoding.interpolates:
        if same_size:
            return cv2.cvtColor(samples, encoding.to_rgb, dst=out)
        return _resize(cv2.cvtColor(samples, encoding.to_rgb), out)
    if encoding.channels == 3:
        return cv2.cvtColor(_resize(samples, out), encoding.to_rgb, dst=out)
    if not same_size:
        samples = _resize(samples, np.empty((*out.shape[:2], *samples.shape[2:]), np.uint8))
    return cv2.cvtColor(samples, encoding.to_rgb, dst=out)


def _resize(pixels: NDArray[np.uint8], out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink by halves (2x2 means, which OpenCV does in SIMD), then bilinearly.

    Bilinear interpolation alone skips pixels of what it more than halves; means over areas of
    fractional size cost eight times as much.
    """
    height, width = out.shape[:2]
    while pixels.shape[0] > 1.5 * height and pixels.shape[1] > 1.5 * width:
        half = (pixels.shape[1] // 2, pixels.shape[0] // 2)
        pixels = cv2.resize(pixels, half, interpolation=cv2.INTER_AREA)
    return cv2.resize(pixels, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)


def writable_pixels(data: array, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Return an outgoing message's own memory as a writable array: what is written is published.

    Args:
        data: the ``array.array`` that the message holds (not one that was assigned to it: some
            distributions copy on assignment).
        height: of the image.
        width: of the image.
        channels: 1 returns [H, W], more [H, W, C].
    """
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.frombuffer(data, np.uint8).reshape(shape)
