"""ROS 1 bags, and their messages as CDR."""

from __future__ import annotations

import bisect
from collections.abc import Collection
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader
from rosbags.serde import SerdeError
from rosbags.typesys import Stores
from rosbags.typesys import get_types_from_msg
from rosbags.typesys import get_typestore
from rosbags.typesys.base import TypesysError
from rosbags.typesys.msg import normalize_msgtype

from nightseg_ros.evaluation.bag_reader.storage import Channel
from nightseg_ros.evaluation.bag_reader.storage import Content
from nightseg_ros.evaluation.bag_reader.storage import StorageError
from nightseg_ros.evaluation.bag_reader.storage import seconds

MAGIC = b'#ROSBAG V'


class Ros1File:
    """Reads one indexed .bag file; its messages stay as ROS 1 serialises them.

    Args:
        path: the file.

    Raises:
        StorageError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._failed_ns: int | None = None
        self._reader = Reader(path)
        try:
            self._reader.open()
        except Exception as error:  # broken files surface as whatever the parser stumbles over
            raise StorageError(
                f'has no index that can be read ({error}): copy it, and repair the copy with ROS '
                f"1's: rosbag reindex {path.name}"
            ) from error
        self._channels = {c.id: _channel(c) for c in self._reader.connections}
        first_ns, last_ns = self._reader.start_time, self._reader.end_time - 1
        self._span_ns = (first_ns, last_ns) if first_ns <= last_ns else None

    @property
    def channels(self) -> list[Channel]:
        """Return the topics of the file."""
        return list(self._channels.values())

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """Return the times of the first and the last message, None when there is none."""
        return self._span_ns

    def problems(self) -> list[str]:
        """Return what is known by now not to be readable."""
        if self._failed_ns is None:
            return []
        return [
            f'is damaged, first {seconds(self._failed_ns, self._span_ns)} after its first message: '
            'what the damaged chunks held is lost'
        ]

    def messages(self, topics: Collection[str] | None) -> Iterator[tuple[Channel, int, bytes]]:
        """Yield channel, bag time in ns and content in order of time; None takes all topics."""
        wanted = [
            connection
            for connection in self._reader.connections
            if topics is None or self._channels[connection.id].topic in topics
        ]
        starts = sorted(chunk.start_time for chunk in self._reader.chunk_infos)
        while starts and wanted:
            time_ns = start_ns = starts[0]
            try:
                for connection, time_ns, content in self._reader.messages(wanted, start_ns):
                    yield self._channels[connection.id], time_ns, content
                return
            except Exception:  # as above
                if self._failed_ns is None or time_ns < self._failed_ns:
                    self._failed_ns = time_ns
            # Chunks that begin before the next start are given up with the damaged one.
            starts = starts[bisect.bisect_right(starts, time_ns) :]

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class Ros1Types:
    """Makes CDR of ROS 1 messages, by the definitions that a bag brings along.

    Left out are types that ROS 2 has under the same name with other fields.
    """

    def __init__(self) -> None:
        self._store = get_typestore(Stores.ROS2_JAZZY)

    def channel(self, channel: Channel) -> Channel:
        """Return a ROS 1 channel as one of CDR, or as it is when that cannot be."""
        name = normalize_msgtype(channel.type)
        try:
            types = get_types_from_msg(channel.definition, name)
            types.pop('std_msgs/msg/Header', None)  # whose seq the conversion drops
            self._store.register(types)
            definition, _ = self._store.generate_msgdef(name, ros_version=2)
            type_hash = self._store.hash_rihs01(name)
        except (TypesysError, KeyError):
            return channel
        return replace(
            channel, type=name, encoding='cdr', definition=definition, type_hash=type_hash
        )

    def to_cdr(self, content: Content, kind: str) -> Content:
        """Return a ROS 1 message as CDR; nothing when it breaks off."""
        try:
            return self._store.ros1_to_cdr(content, kind)
        except SerdeError:
            return b''


def _channel(connection: Connection) -> Channel:
    return Channel(
        f'/{connection.topic.lstrip("/")}',
        connection.msgtype,
        connection.msgcount,
        'ros1',
        connection.msgdef.data,
    )
