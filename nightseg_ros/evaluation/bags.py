"""Drives as rosbag2, written from frames. No ROS needed."""

from __future__ import annotations

import errno
import sqlite3
import tempfile
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Final
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat
from rosbags.rosbag2 import CompressionMode
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores
from rosbags.typesys import get_typestore

IMAGE_TOPIC = '/camera/image_raw'
LABELS_TOPIC = '/camera/labels'
FRAME_ID = 'camera'
IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)
BAG_VERSION: Final = 8
"""Of metadata.yaml; what Humble's and newer rosbag2 read."""

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
"""What an OSError says of a full disk."""

Storage = Literal['mcap', 'sqlite3']


class BagError(ValueError):
    """A bag or a folder of frames cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Frame:
    """One moment of a drive.

    Attributes:
        stamp_ns: header stamp in nanoseconds.
        image: RGB uint8 [H, W, 3].
        labels: ground truth, trainIds uint8 [H, W], or None.
    """

    stamp_ns: int
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None = None


# Frames from a folder


IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')


def folder_frames(folder: Path, rate_hz: float = 10.0) -> Iterator[Frame]:
    """Yield the images of a folder in the order of their names, as a drive at ``rate_hz``.

    Args:
        folder: images, or ``images/`` beside ``labels/`` with a PNG of trainIds per image.
        rate_hz: frames per second.

    Raises:
        BagError: no images, an image that does not decode, or a label of another size.
    """
    images = folder / 'images' if (folder / 'images').is_dir() else folder
    if not images.is_dir():
        raise BagError(f'{folder} is no folder of images')
    paths = sorted(p for p in images.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise BagError(f'{images} holds no {", ".join(IMAGE_SUFFIXES)}')
    for index, path in enumerate(paths):
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise BagError(f'{path} does not decode: remove or repair it')
        image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        label_path = folder / 'labels' / f'{path.stem}.png'
        labels = None
        if label_path.is_file():
            labels = cv2.imread(str(label_path), cv2.IMREAD_UNCHANGED)
            if labels is None or labels.shape != image.shape[:2] or labels.dtype != np.uint8:
                raise BagError(f'{label_path} is no 8-bit mask of the size of {path.name}')
        yield Frame(stamp_of(index, rate_hz), image, labels)


def stamp_of(index: int, rate_hz: float) -> int:
    """Return the stamp of a made drive's frame: one second (zero means "no stamp") and on."""
    return 1_000_000_000 + round(index * 1e9 / rate_hz)


# Writing


@contextmanager
def new_bag(
    path: Path, storage: Storage = 'mcap', compression: CompressionMode = CompressionMode.NONE
) -> Iterator[Writer]:
    """Open a bag for writing; it gets its name, and replaces an earlier one, when it is complete.

    Args:
        path: folder of the bag.
        storage: of rosbag2.
        compression: by zstd; STORAGE compresses the chunks of MCAP.

    Raises:
        BagError: when ``path`` exists and is no bag of ours to replace, or the disk is full.
    """
    _check_replaceable(path)
    plugin = StoragePlugin.MCAP if storage == 'mcap' else StoragePlugin.SQLITE3
    with _full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix='.bag-') as folder:
            # The files inside are named after their folder.
            draft = Path(folder) / 'draft' / path.name
            writer = Writer(draft, version=BAG_VERSION, storage_plugin=plugin)
            writer.set_compression(compression, CompressionFormat.ZSTD)
            with writer:
                yield writer
            _check_replaceable(path)  # something else may lie there by now
            if path.exists():
                path.rename(Path(folder) / 'earlier')
            draft.rename(path)


def _check_replaceable(path: Path) -> None:
    if path.exists() and not (path / 'metadata.yaml').is_file():
        raise BagError(f'{path} exists and is no bag: choose another output or remove it')


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    """Turn what a full disk causes while a bag is written into a BagError."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        full = isinstance(error, OSError) and error.errno in NO_ROOM
        if not full and 'disk is full' not in str(error):
            raise
        raise BagError(
            f'the disk is full: {path} was not written; free space or choose another output'
        ) from error


def write_drive(
    path: Path,
    frames: Iterable[Frame],
    storage: Storage = 'mcap',
    compressed: bool = False,
) -> int:
    """Write frames as a bag and return how many.

    Images go to :data:`IMAGE_TOPIC` (``/compressed`` appended and JPEG, when compressed), ground
    truth to :data:`LABELS_TOPIC` (mono8) under the same stamps.

    Raises:
        BagError: when the output exists and is no bag, or the disk is full.
    """
    count = 0
    with new_bag(path, storage) as writer:
        topic = f'{IMAGE_TOPIC}/compressed' if compressed else IMAGE_TOPIC
        kind = COMPRESSED_IMAGE if compressed else IMAGE
        images = writer.add_connection(topic, kind, typestore=TYPESTORE)
        truth: Connection | None = None
        for frame in frames:
            header = header_message(frame.stamp_ns)
            message = (
                jpeg_message(header, frame.image)
                if compressed
                else image_message(header, frame.image)
            )
            writer.write(images, frame.stamp_ns, TYPESTORE.serialize_cdr(message, kind))
            if frame.labels is not None:
                if truth is None:
                    truth = writer.add_connection(LABELS_TOPIC, IMAGE, typestore=TYPESTORE)
                message = image_message(header, frame.labels)
                writer.write(truth, frame.stamp_ns, TYPESTORE.serialize_cdr(message, IMAGE))
            count += 1
    return count


def header_message(stamp_ns: int) -> Any:
    """Return a Header with this stamp, of the camera `FRAME_ID`."""
    types = TYPESTORE.types
    stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 1_000_000_000))
    return types['std_msgs/msg/Header'](stamp=stamp, frame_id=FRAME_ID)


# Messages


def image_message(header: Any, pixels: NDArray[np.uint8]) -> Any:
    """Return an Image message.

    Args:
        header: of it.
        pixels: mono8 [H, W] or rgb8 [H, W, 3], uint8.
    """
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else 3
    return TYPESTORE.types[IMAGE](
        header=header,
        height=height,
        width=width,
        encoding='mono8' if channels == 1 else 'rgb8',
        is_bigendian=0,
        step=width * channels,
        data=np.ascontiguousarray(pixels).reshape(-1),
    )


def jpeg_message(header: Any, rgb: NDArray[np.uint8]) -> Any:
    """Return RGB uint8 [H, W, 3] as a CompressedImage message."""
    _, data = cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return TYPESTORE.types[COMPRESSED_IMAGE](header=header, format='jpeg', data=data.reshape(-1))


def stamp_ns(message: Any) -> int:
    """Return the header stamp of a message in nanoseconds."""
    stamp = message.header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec
