"""Between image messages and arrays: a zero-copy view in, preallocated memory out.

Works on anything with the fields of ``sensor_msgs/msg/Image`` and imports no ROS. Encoding names
are those of ``sensor_msgs/image_encodings.hpp``; row length and padding follow REP 118's ``step``.
"""

from __future__ import annotations

from array import array
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

CHANNELS: dict[str, int] = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}
"""Encodings that the node reads, and bytes per pixel."""

_TO_RGB: dict[str, int | None] = {
    'rgb8': None,
    'bgr8': cv2.COLOR_BGR2RGB,
    'rgba8': cv2.COLOR_RGBA2RGB,
    'bgra8': cv2.COLOR_BGRA2RGB,
    'mono8': cv2.COLOR_GRAY2RGB,
}


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
    data: array | bytes | memoryview


def view(message: ImageMessage) -> NDArray[np.uint8]:
    """Return the pixels of an image message without copying them.

    Args:
        message: an image in one of :data:`CHANNELS`; rows may be padded (``step``).

    Returns:
        uint8 [H, W, C], or [H, W] for mono8; a read-only view whose rows are ``step`` bytes apart.

    Raises:
        ImageError: unknown encoding, zero size, ``step`` shorter than a row, or missing data.
    """
    channels = CHANNELS.get(message.encoding)
    if channels is None:
        raise ImageError(
            'unknown_encoding',
            f"encoding '{message.encoding}' is not supported: publish one of "
            + ', '.join(CHANNELS),
        )
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0:
        raise ImageError('empty_image', f'the image is {width}x{height}: it has no pixels')
    row = width * channels
    if step < row:
        raise ImageError(
            'bad_step', f'step is {step}, but {width} pixels of {message.encoding} take {row} bytes'
        )
    buffer = np.frombuffer(message.data, np.uint8)
    # The last row may come without its padding.
    needed = step * (height - 1) + row
    if buffer.size < needed:
        raise ImageError(
            'short_data',
            f'the image holds {buffer.size} bytes, {width}x{height} {message.encoding} with '
            f'step {step} needs {needed}',
        )
    pixels = np.lib.stride_tricks.as_strided(
        buffer, (height, width, channels), (step, channels, 1), writeable=False
    )
    return pixels[..., 0] if channels == 1 else pixels


def decode_compressed(data: array | bytes | memoryview) -> NDArray[np.uint8]:
    """Return a JPEG or PNG as bgr8 [H, W, 3].

    Raises:
        ImageError: when it does not decode.
    """
    buffer = np.frombuffer(data, np.uint8)
    pixels = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if buffer.size else None
    if pixels is None:
        raise ImageError(
            'bad_compressed_image', f'{buffer.size} bytes of compressed image do not decode'
        )
    return pixels


def resize_to_rgb(
    pixels: NDArray[np.uint8], encoding: str, out: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Scale a frame into a preallocated RGB array: the only copy of a frame on its way in.

    The frame is resized first and its colours converted at the smaller size.

    Args:
        pixels: uint8 [H, W, C] or [H, W], as :func:`view` returns it.
        encoding: one of :data:`CHANNELS`.
        out: uint8 [h, w, 3], written and returned.
    """
    conversion = _TO_RGB[encoding]
    if conversion is None:
        return _resize(pixels, out)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return cv2.cvtColor(_resize(pixels, out), conversion, dst=out)
    if pixels.shape[:2] != out.shape[:2]:
        pixels = _resize(pixels, np.empty((*out.shape[:2], *pixels.shape[2:]), np.uint8))
    return cv2.cvtColor(pixels, conversion, dst=out)


def _resize(pixels: NDArray[np.uint8], out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = out.shape[:2]
    shrinks = pixels.shape[0] > 1.5 * height and pixels.shape[1] > 1.5 * width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(pixels, (width, height), dst=out, interpolation=interpolation)


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
