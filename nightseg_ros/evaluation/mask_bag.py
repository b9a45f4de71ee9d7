"""Masks written into a bag beside the input, so that RViz and Foxglove replay them in step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Connection
from rosbags.interfaces import Qos
from rosbags.rosbag2 import CompressionMode
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2 import Writer
from rosbags.rosbag2.metadata import parse_qos
from rosbags.typesys import Stores
from rosbags.typesys import get_types_from_idl
from rosbags.typesys import get_types_from_msg
from rosbags.typesys import get_typestore
from rosbags.typesys.base import TypesysError

from nightseg_ros.core.overlay import overlay
from nightseg_ros.core.segmenter import resize_labels
from nightseg_ros.core.segmenter import resize_values
from nightseg_ros.evaluation.bag_reader import Bag
from nightseg_ros.evaluation.bag_reader import BagMessage
from nightseg_ros.evaluation.bag_reader import deserialize
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.bag_reader.storage import Channel
from nightseg_ros.evaluation.bags import COMPRESSED_IMAGE
from nightseg_ros.evaluation.bags import IMAGE
from nightseg_ros.evaluation.bags import TYPESTORE
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.bags import Storage
from nightseg_ros.evaluation.bags import image_message
from nightseg_ros.evaluation.bags import jpeg_message
from nightseg_ros.evaluation.bags import new_bag
from nightseg_ros.evaluation.frames import EvaluatedFrame

_IDL = f'{"=" * 80}\nIDL: '
"""Before each file of a definition in IDL."""


@dataclass(frozen=True)
class MaskTopics:
    """The topics of one camera's masks, as the node names them.

    Attributes:
        labels, confidence, exposure: Image mono8.
        overlay: CompressedImage, for people.
    """

    labels: str
    confidence: str
    exposure: str
    overlay: str

    @classmethod
    def of(cls, camera: str) -> MaskTopics:
        """Return the topics of a camera; '' is the only one."""
        node = f'/night_seg/{camera}' if camera else '/night_seg'
        return cls(
            f'{node}/semantic/mask',
            f'{node}/semantic/confidence',
            f'{node}/exposure/mask',
            f'{node}/semantic/overlay/compressed',
        )

    @property
    def masks(self) -> tuple[str, str, str]:
        """Return those of labels, confidence and exposure."""
        return self.labels, self.confidence, self.exposure

    @property
    def all(self) -> tuple[str, str, str, str]:
        """Return all of them."""
        return (*self.masks, self.overlay)


def camera_names(topics: Sequence[str]) -> dict[str, str]:
    """Return a name for the camera of each image topic; '' for the only one.

    It is the first part of the topic by which all differ: 'front' for '/front/image_raw' beside
    '/left/image_raw', and for '/cameras/front/image_raw' beside '/cameras/left/image_raw'.
    """
    if len(topics) == 1:
        return {topics[0]: ''}
    split = [[re.sub(r'\W', '_', part) for part in topic.strip('/').split('/')] for topic in topics]
    for parts in zip(*split, strict=False):
        if len(set(parts)) == len(topics):
            return dict(zip(topics, parts, strict=True))
    return dict(zip(topics, ('_'.join(parts) for parts in split), strict=True))


class MaskBagWriter:
    """Writes masks, and the messages of the input up to their time; see :func:`mask_bag`.

    Attributes:
        problems: what of the input is not in the output, as sentences.
    """

    def __init__(self, writer: Writer, bag: Bag, cameras: Sequence[str]) -> None:
        self.problems: list[str] = []
        self._writer = writer
        self._error: BaseException | None = None
        self._topics = {camera: MaskTopics.of(n) for camera, n in camera_names(cameras).items()}
        own = [topic for topics in self._topics.values() for topic in topics.all]
        self._copied: dict[tuple[str, str], Connection] = {}
        for channel in bag.channels:
            if channel.topic in own:
                self.problems.append(f'{channel.topic} of the input gives way to the new masks')
            elif connection := _add_channel(writer, channel):
                self._copied[channel.topic, channel.type] = connection
            else:
                self.problems.append(
                    f'{channel.count} messages of {channel.topic} are not in the new bag: how '
                    f'{channel.type} is defined is not known'
                )
        self._masks = {
            topic: writer.add_connection(
                topic,
                COMPRESSED_IMAGE if topic.endswith('/compressed') else IMAGE,
                typestore=TYPESTORE,
            )
            for topic in own
        }
        names = {topic for topic, _ in self._copied}
        self._rest = bag.messages(names) if names else iter(())
        self._next = next(self._rest, None)

    def write(self, camera: str, message: BagMessage, frame: EvaluatedFrame) -> None:
        """Write the masks of a frame, at the size of its image, and what was recorded until then.

        Args:
            camera: topic of the image.
            message: the image; its header and bag time are those of the masks.
            frame: with masks.

        Raises:
            OSError: the disk is full.
        """
        labels, confidence, exposure = frame.labels, frame.confidence, frame.exposure
        if labels is None or confidence is None or exposure is None:
            return
        size = frame.image.shape[:2]
        labels = resize_labels(labels, np.empty(size, np.uint8))
        confidence = resize_values(confidence, np.empty(size, np.uint8))
        exposure = resize_labels(exposure, np.empty(size, np.uint8))
        header = deserialize(message).header
        topics = self._topics[camera]
        with self._remembering():
            self._copy_until(message.time_ns)
            for topic, mask in zip(topics.masks, (labels, confidence, exposure), strict=True):
                self._write(topic, IMAGE, message.time_ns, image_message(header, mask))
            picture = jpeg_message(header, overlay(frame.image, labels))
            self._write(topics.overlay, COMPRESSED_IMAGE, message.time_ns, picture)

    def finish(self) -> None:
        """Write what is left of the input.

        Raises:
            OSError: the disk is full, or a write was broken off before: the bag is not whole.
        """
        if self._error is not None:
            raise self._error
        self._copy_until(None)

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        """Remember an error (and Ctrl-C): it may leave half a message behind."""
        try:
            yield
        except BaseException as error:
            self._error = error
            raise

    def _write(self, topic: str, kind: str, time_ns: int, message: Any) -> None:
        content = TYPESTORE.serialize_cdr(message, kind)
        self._writer.write(self._masks[topic], time_ns, content)

    def _copy_until(self, time_ns: int | None) -> None:
        """Write the messages of the input up to a time; None writes the rest."""
        while self._next is not None and (time_ns is None or self._next.time_ns <= time_ns):
            message = self._next
            connection = self._copied.get((message.topic, message.type))
            if connection is not None and message.content:
                self._writer.write(connection, message.time_ns, message.content)
            self._next = next(self._rest, None)


@contextmanager
def mask_bag(
    path: Path, bag: Bag, cameras: Sequence[str], storage: Storage = 'mcap'
) -> Iterator[MaskBagWriter]:
    """Open a bag that takes the masks of some cameras beside all that the input holds.

    Messages of the input go in when masks of their time are written, and the rest at the end.
    Cameras may be written one after the other: readers of rosbag2 put messages in order of time.

    Args:
        path: of the new bag; it gets its name when it is complete.
        bag: the input.
        cameras: topics of the images, see :class:`MaskTopics` and :func:`camera_names`.
        storage: MCAP is compressed in chunks.

    Raises:
        BagError: the new bag would replace its input, or the disk is full.
    """
    source, target = bag.path.resolve(), path.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        raise BagError(f'{path} holds the input or lies in it: choose another output')
    if path.exists() and not _holds_masks(path):
        raise BagError(f'{path} exists and holds no masks of ours: choose another output')
    compression = CompressionMode.STORAGE if storage == 'mcap' else CompressionMode.NONE
    with new_bag(path, storage, compression) as writer:
        masks = MaskBagWriter(writer, bag, cameras)
        yield masks
        masks.finish()


def _holds_masks(path: Path) -> bool:
    """Return whether something is a bag that `mask_bag` wrote: only that may be replaced."""
    try:
        with open_bag(path) as bag:
            return any(re.fullmatch(r'/night_seg/(.+/)?semantic/mask', t.name) for t in bag.topics)
    except BagError:
        return False


def _add_channel(writer: Writer, channel: Channel) -> Connection | None:
    """Return a connection for messages like those of a channel; None when that takes too little.

    A writer needs the definition of the type and its hash.
    """
    if channel.encoding != 'cdr':
        return None
    definition, type_hash = channel.definition, channel.type_hash
    if definition and not type_hash:
        type_hash = _hash(definition, channel.type)
    if not definition and channel.type in TYPESTORE.fielddefs:
        definition, _ = TYPESTORE.generate_msgdef(channel.type, ros_version=2)
        type_hash = TYPESTORE.hash_rihs01(channel.type)
    if not definition or not type_hash:
        return None
    return writer.add_connection(
        channel.topic,
        channel.type,
        msgdef=definition,
        rihs01=type_hash,
        offered_qos_profiles=_qos(channel.qos),
    )


def _hash(definition: str, name: str) -> str:
    """Return the RIHS01 of a type, '' when its definition cannot be read."""
    store = get_typestore(Stores.EMPTY)
    try:
        if definition.startswith(_IDL):
            for part in definition.split(_IDL)[1:]:
                store.register(get_types_from_idl(part.partition('\n')[2]))
        else:
            store.register(get_types_from_msg(definition, name))
        return store.hash_rihs01(name)
    except (TypesysError, KeyError):
        return ''


def _qos(profiles: str) -> list[Qos]:
    """Return offered QoS profiles, none when they cannot be read."""
    try:
        return parse_qos(profiles)
    except (ReaderError, KeyError, TypeError):
        return []
