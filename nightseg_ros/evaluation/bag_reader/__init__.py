"""Reads any bag: rosbag2 (MCAP, SQLite, compressed, split) and ROS 1, whole or damaged.

What can be read is read; what cannot is said in :attr:`Bag.problems`. Type definitions in a bag are
not needed: the types that are evaluated are the same in every distribution.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import heapq
import os
import tempfile
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import zstandard

from nightseg_ros.evaluation.bag_reader import mcap
from nightseg_ros.evaluation.bag_reader import ros1
from nightseg_ros.evaluation.bag_reader import sqlite
from nightseg_ros.evaluation.bag_reader.files import ZSTD_MAGIC
from nightseg_ros.evaluation.bag_reader.files import bag_files
from nightseg_ros.evaluation.bag_reader.files import decompress
from nightseg_ros.evaluation.bag_reader.files import is_bag_file
from nightseg_ros.evaluation.bag_reader.files import is_bag_folder
from nightseg_ros.evaluation.bag_reader.files import natural_key
from nightseg_ros.evaluation.bag_reader.mcap import McapFile
from nightseg_ros.evaluation.bag_reader.ros1 import Ros1File
from nightseg_ros.evaluation.bag_reader.ros1 import Ros1Types
from nightseg_ros.evaluation.bag_reader.sqlite import Sqlite3File
from nightseg_ros.evaluation.bag_reader.storage import Channel
from nightseg_ros.evaluation.bag_reader.storage import Content
from nightseg_ros.evaluation.bag_reader.storage import StorageError
from nightseg_ros.evaluation.bag_reader.storage import StorageFile
from nightseg_ros.evaluation.bags import TYPESTORE
from nightseg_ros.evaluation.bags import BagError

_STORAGES: dict[bytes, tuple[str, Callable[[Path], StorageFile]]] = {
    mcap.MAGIC: ('mcap', McapFile),
    sqlite.MAGIC: ('sqlite3', Sqlite3File),
    ros1.MAGIC: ('ros1', Ros1File),
}
"""What a file is, by how it begins."""


@dataclass(frozen=True)
class Topic:
    """A topic of a bag.

    Attributes:
        name: with its leading slash.
        type: 'sensor_msgs/msg/Image', in ROS 1 bags too; where messages are no CDR their encoding
            is added: 'foxglove.RawImage (protobuf)'.
        count: messages.
    """

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class BagMessage:
    """A message as it was recorded.

    Attributes:
        topic: name of its topic.
        type: as of its :class:`Topic`.
        time_ns: when it was received.
        content: CDR (see ``type``); empty where it did not decompress or convert.
    """

    topic: str
    type: str
    time_ns: int
    content: Content


class Bag:
    """A bag that is open for reading: see :func:`open_bag`.

    Attributes:
        path: that was opened.
        storage: 'mcap', 'sqlite3' or 'ros1'.
        ros_distro: that recorded it, None when unknown.
        channels: all that is known of the topics; two when a topic has two types.
        start_ns, end_ns: bag times of the first and the last message, None when there is none.
    """

    def __init__(self, path: Path, resources: ExitStack) -> None:
        self.path = path
        found = bag_files(path)
        self.ros_distro = found.ros_distro
        self._problems = list(found.problems)
        self._files: list[tuple[str, StorageFile]] = []
        storages = []
        for file_path in found.paths:
            try:
                storage, file = _open_file(file_path, self._problems, resources)
            except StorageError as error:
                self._problems.append(f'{file_path.name} {error}')
            except OSError as error:
                self._problems.append(f'{file_path.name} cannot be read: {error.strerror}')
            else:
                storages.append(storage)
                self._files.append((file_path.name, file))
        if not storages:
            reasons = '; '.join(self._problems) or 'it is empty'
            raise BagError(
                f'{path} cannot be read as a bag ({reasons}): give a rosbag2 folder, or an .mcap, '
                '.db3 or .bag file'
            )
        self.storage: str = storages[0]
        self._ros1 = Ros1Types()
        self._described: dict[tuple[str, str], Channel] = {}
        self.channels = self._describe_channels()
        spans = [file.span_ns for _, file in self._files if file.span_ns]
        self.start_ns = min((first for first, _ in spans), default=None)
        self.end_ns = max((last for _, last in spans), default=None)

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Return the topics by name."""
        return tuple(Topic(c.topic, c.type, c.count) for c in self.channels)

    @property
    def problems(self) -> list[str]:
        """Return what could not be read and why, as sentences; grows while messages are read."""
        found = (f'{name} {problem}' for name, file in self._files for problem in file.problems())
        return [*self._problems, *found]

    def messages(self, topics: Collection[str] = ()) -> Iterator[BagMessage]:
        """Yield the messages in order of time.

        May be called again, and while another iteration is under way.

        Args:
            topics: names; none are all.
        """
        streams = [self._stream(*file, topics or None) for file in self._files]
        for _, message in heapq.merge(*streams, key=itemgetter(0)):
            if message is not None:
                yield message

    def _stream(
        self, name: str, file: StorageFile, topics: Collection[str] | None
    ) -> Iterator[tuple[int, BagMessage | None]]:
        # The time first: files of a split bag are read one after another, not all begun at once.
        if file.span_ns:
            yield file.span_ns[0], None
        try:
            for channel, time_ns, raw in file.messages(topics):
                described = self._described[channel.topic, channel.type]
                content = raw
                if channel.encoding == 'cdr' and raw[:4] == ZSTD_MAGIC:
                    content = _decompress_message(raw)
                elif channel.encoding == 'ros1' and described.encoding == 'cdr':
                    content = self._ros1.to_cdr(raw, described.type)
                yield time_ns, BagMessage(described.topic, described.type, time_ns, content)
        except OSError as error:
            self._problems.append(f'{name} cannot be read to its end: {error.strerror}')

    def _describe_channels(self) -> tuple[Channel, ...]:
        """Return the channels of all files, those of one topic and type as one."""
        merged: dict[tuple[str, str], Channel] = {}
        for channel in (channel for _, file in self._files for channel in file.channels):
            described = channel
            if channel.encoding == 'ros1':
                described = self._ros1.channel(channel)
            if described.encoding != 'cdr':
                described = replace(described, type=f'{channel.type} ({channel.encoding})')
            self._described[channel.topic, channel.type] = described
            known = merged.get((described.topic, described.type))
            if known:
                described = replace(known, count=known.count + channel.count)
            merged[described.topic, described.type] = described
        return tuple(merged[key] for key in sorted(merged))


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """Open a bag for reading; nothing is written beside it.

    Files compressed as a whole (``.zstd``) are decompressed into the system's folder for temporary
    files meanwhile.

    Args:
        path: a rosbag2 folder, or a lone .mcap, .db3 (also .zstd) or .bag file.

    Raises:
        BagError: nothing of it can be read.
    """
    with ExitStack() as resources:
        try:
            if not path.exists():
                raise BagError(f'{path} does not exist')
            bag = Bag(path, resources)
        except OSError as error:
            raise BagError(f'{path} cannot be read: {error.strerror}') from error
        yield bag


def deserialize(message: BagMessage) -> Any:
    """Return a message as an object; large arrays are views of its content.

    Raises:
        BagError: it breaks off, or its type is none of ROS 2's own.
    """
    try:
        return TYPESTORE.deserialize_cdr(memoryview(message.content), message.type)
    except Exception as error:  # broken messages surface as whatever the parser stumbles over
        raise BagError(
            f'a message of {message.topic} is no complete {message.type} ({error})'
        ) from error


def find_topics(
    bag: Bag, patterns: Sequence[str], kinds: tuple[str, ...], besides: Collection[str] = ()
) -> list[Topic]:
    """Return the topics of some types, in the order of the patterns.

    Args:
        bag: where they are.
        patterns: names, or shell patterns ('/cam_*/image_raw'); without any, the only topic there
            is is taken.
        kinds: types that are wanted.
        besides: names that only a pattern that spells them out finds.

    Raises:
        BagError: a pattern finds nothing, or without any there is not exactly one; lists the
            topics.
    """
    present = ', '.join(f'{topic.name} ({topic.type})' for topic in bag.topics) or 'none'
    wanted = ' or '.join(kind.rpartition('/')[2] for kind in kinds)
    of_kind = {topic.name: topic for topic in bag.topics if topic.type in kinds}
    open_to_patterns = [name for name in of_kind if name not in besides]
    if not patterns:
        if len(open_to_patterns) != 1:
            raise BagError(
                f'the bag has {len(open_to_patterns)} topics of type {wanted}: name those to use; '
                f'its topics: {present}'
            )
        return [of_kind[open_to_patterns[0]]]
    found: dict[str, Topic] = {}
    for pattern in patterns:
        names = [pattern] if pattern in of_kind else fnmatch.filter(open_to_patterns, pattern)
        if not names:
            raise BagError(
                f"the bag has no topic '{pattern}' of type {wanted}; its topics: {present}"
            )
        found.update((name, of_kind[name]) for name in names)
    return list(found.values())


def find_bags(patterns: Sequence[str]) -> list[Path]:
    """Return bags in their natural order, each once.

    Args:
        patterns: paths of bags, of folders that hold bags at any depth, or shell patterns of
            either, with ``~`` and ``**``.

    Raises:
        BagError: a pattern finds no bag.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        expanded = os.path.expanduser(pattern)
        if os.path.exists(expanded):
            bags = [Path(expanded)] if os.path.isfile(expanded) else _bags_below(Path(expanded))
        else:
            matches = sorted(glob.glob(expanded, recursive=True))
            bags = [bag for match in matches for bag in _bags_below(Path(match))]
        if not bags:
            raise BagError(
                f"'{pattern}' finds no bag: give rosbag2 folders, .mcap, .db3 or .bag files, or "
                'folders that hold some'
            )
        found.update((bag.resolve(), bag) for bag in bags)
    alone = [bag for place, bag in found.items() if place.parent not in found]
    return sorted(alone, key=lambda bag: natural_key(str(bag)))


def _bags_below(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if is_bag_file(path) else []
    bags: list[Path] = []
    for name, subfolders, files in os.walk(path):
        folder = Path(name)
        if is_bag_folder(folder):
            bags.append(folder)
            subfolders.clear()
            continue
        subfolders[:] = [subfolder for subfolder in subfolders if not subfolder.startswith('.')]
        bags += [folder / file for file in files if is_bag_file(folder / file)]
    return bags


def _open_file(path: Path, problems: list[str], resources: ExitStack) -> tuple[str, StorageFile]:
    """Return the storage and the open file; what decompression misses is added to the problems.

    Raises:
        StorageError: nothing of it can be read.
        OSError: nor opened.
    """
    with path.open('rb') as stream:
        beginning = stream.read(max(map(len, _STORAGES)))
    if beginning.startswith(ZSTD_MAGIC):
        compressed = path
        path, whole = _decompress_file(compressed, resources)
        if not whole:
            problems.append(f'{compressed.name} breaks off: what decompressed of it is read')
        with path.open('rb') as stream:
            beginning = stream.read(max(map(len, _STORAGES)))
    for magic, (storage, reader) in _STORAGES.items():
        if beginning.startswith(magic):
            file = reader(path)
            resources.callback(file.close)
            return storage, file
    raise StorageError('is no MCAP, SQLite or ROS 1 file' if beginning else 'is empty')


def _decompress_file(path: Path, resources: ExitStack) -> tuple[Path, bool]:
    """Decompress a file into a temporary one; return that and whether the file was complete."""
    folder = resources.enter_context(tempfile.TemporaryDirectory(prefix='night_seg_bag-'))
    target_path = Path(folder) / path.stem
    try:
        with path.open('rb') as source, target_path.open('wb') as target:
            return target_path, decompress(source, target)
    except zstandard.ZstdError:
        return target_path, False
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise StorageError(
            f'does not fit into {tempfile.gettempdir()} when decompressed: free space there, or '
            'set TMPDIR'
        ) from error


def _decompress_message(content: Content) -> bytes:
    """Return a message that was compressed on its own; nothing when it breaks off."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    try:
        data = frame.decompress(content)
    except zstandard.ZstdError:
        return b''
    return data if frame.eof else b''
