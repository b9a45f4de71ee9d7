"""What reading one file of a bag means, whatever its format."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from typing import TypeAlias

Content: TypeAlias = bytes | memoryview


@dataclass(frozen=True)
class Channel:
    """A topic as a file holds it.

    Attributes:
        topic: name.
        type: 'package/msg/Type' of CDR; other encodings spell their types as they like.
        count: messages.
        encoding: of the messages: 'cdr', 'ros1', 'json', ...
        definition: of the type, as text (.msg or .idl with dependencies); '' where the file has
            none.
        type_hash: RIHS01 of the type, '' where the file has none.
        qos: offered QoS profiles, YAML as rosbag2 stores it.
    """

    topic: str
    type: str
    count: int
    encoding: str = 'cdr'
    definition: str = ''
    type_hash: str = ''
    qos: str = ''


class StorageFile(Protocol):
    """One file of a bag, open for reading.

    Opening raises StorageError when nothing can be read.
    """

    @property
    def channels(self) -> Collection[Channel]:
        """Return the topics of the file."""

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """Return the bag times of the first and the last message, None when there is none."""

    def problems(self) -> list[str]:
        """Return what is known by now not to be readable, as sentences without subject."""

    def messages(self, topics: Collection[str] | None) -> Iterator[tuple[Channel, int, Content]]:
        """Yield channel, bag time in ns and content in order of time; None takes all topics."""

    def close(self) -> None:
        """Close the file."""


class StorageError(Exception):
    """Nothing of a file can be read; the message says why."""


def seconds(time_ns: int, span_ns: tuple[int, int] | None) -> str:
    """Return a bag time as people count it: from the first message of the file."""
    return f'{(time_ns - span_ns[0]) / 1e9 if span_ns else 0.0:.1f} s'
