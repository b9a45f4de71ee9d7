"""MCAP files, whole or damaged.

Source: the MCAP format specification, https://mcap.dev/spec.
"""

from __future__ import annotations

import heapq
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from typing import NamedTuple

import lz4.frame
import zstandard
from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.summary import Summary

from nightseg_ros.evaluation.bag_reader.storage import Channel
from nightseg_ros.evaluation.bag_reader.storage import StorageError
from nightseg_ros.evaluation.bag_reader.storage import seconds

MAGIC = b'\x89MCAP0\r\n'

_RECORD = struct.Struct('<BQ')
"""Opcode and length, before each record."""
_MESSAGE = struct.Struct('<HIQQ')
"""Channel, sequence number, log time and publish time, before the content of a message."""
_CHUNK = struct.Struct('<QQQII')
"""Start and end time, uncompressed size and CRC, length of the compression's name."""
_SIZE = struct.Struct('<Q')

_RUN_BYTES = 1 << 20
"""Messages outside of chunks are read in runs of about this size."""

_DECOMPRESS: dict[str, Callable[[memoryview], bytes | memoryview]] = {
    '': lambda data: data,
    'lz4': lambda data: lz4.frame.LZ4FrameDecompressor().decompress(data),
    'zstd': lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
"""Each gives what can be had of data that were cut off."""


class _DamagedError(Exception):
    """Bytes that are not what MCAP has there."""


@dataclass(frozen=True)
class _Block:
    """Bytes of a file that are read at once.

    Attributes:
        start_ns: the earliest log time inside.
        offset, size: of the bytes in the file.
        chunk: whether they are a Chunk record (or the beginning of one), else message records.
        channels: that occur inside; empty when unknown.
    """

    start_ns: int
    offset: int
    size: int
    chunk: bool = True
    channels: frozenset[int] = frozenset()


class _Message(NamedTuple):
    time_ns: int
    order: int
    channel: int
    content: memoryview


class McapFile:
    """Reads one .mcap file.

    Where the file has an index, that is trusted; else it is scanned once, which finds all that was
    written before a recording broke off.

    Args:
        path: the file.

    Raises:
        StorageError: nothing in it can be read.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._blocks: list[_Block] = []
        self._schemas: dict[int, records.Schema] = {}
        self._channels: dict[int, records.Channel] = {}
        self._counts: Counter[int] = Counter()
        self._span_ns: tuple[int, int] | None = None
        self._damaged: dict[int, tuple[int, str]] = {}  # offset: time, reason
        self._cut = False
        with path.open('rb') as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                raise StorageError('does not begin like an MCAP file')
            size = path.stat().st_size
            summary = _summary(stream, size)
            if summary is not None and summary.statistics is not None:
                self._take_index(summary, summary.statistics)
            else:
                self._scan(stream, size)
        if not self._counts and self._damaged:
            raise StorageError('is damaged: none of its messages can be read')
        if not self._counts and self._cut:
            raise StorageError('breaks off before its first message')
        self._blocks.sort(key=lambda block: (block.start_ns, block.offset))

    @property
    def channels(self) -> list[Channel]:
        """Return the topics of the file."""
        return [self._channel(number) for number in self._channels]

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """Return the log times of the first and the last message, None when there is none."""
        return self._span_ns

    def problems(self) -> list[str]:
        """Return what is known by now not to be readable."""
        problems = []
        if self._cut and self._span_ns:
            problems.append(
                f'breaks off after {sum(self._counts.values())} messages, '
                f'{seconds(self._span_ns[1], self._span_ns)} after the first: '
                'what followed is lost'
            )
        if self._damaged:
            time_ns, reason = min(self._damaged.values())
            problems.append(
                f'has damaged chunks ({len(self._damaged)}; {reason}), the first about '
                f'{seconds(time_ns, self._span_ns)} after the first message: '
                'what they held is lost'
            )
        return problems

    def messages(self, topics: Collection[str] | None) -> Iterator[tuple[Channel, int, memoryview]]:
        """Yield channel, log time in ns and content in order of time; None takes all topics.

        Chunks whose times overlap are held in memory together, others one after another.
        """
        wanted = {
            number: self._channel(number)
            for number, channel in self._channels.items()
            if topics is None or channel.topic in topics
        }
        if not wanted:
            return
        waiting: list[_Message] = []
        order = 0
        with self._path.open('rb') as stream:
            for block in self._blocks:
                if block.channels and block.channels.isdisjoint(wanted):
                    continue
                while waiting and waiting[0].time_ns < block.start_ns:
                    message = heapq.heappop(waiting)
                    yield wanted[message.channel], message.time_ns, message.content
                try:
                    for opcode, record in _records(*self._load(stream, block)):
                        if opcode != Opcode.MESSAGE:
                            continue
                        number, _, time_ns, _ = _MESSAGE.unpack_from(record)
                        if number in wanted:
                            content = record[_MESSAGE.size :]
                            heapq.heappush(waiting, _Message(time_ns, order, number, content))
                            order += 1
                except (_DamagedError, struct.error) as error:
                    self._damaged[block.offset] = (block.start_ns, str(error))
            while waiting:
                message = heapq.heappop(waiting)
                yield wanted[message.channel], message.time_ns, message.content

    def close(self) -> None:
        """Do nothing: files are open only while messages are read."""

    def _channel(self, number: int) -> Channel:
        channel = self._channels[number]
        schema = self._schemas.get(channel.schema_id)
        text = schema is not None and schema.encoding in ('ros2msg', 'ros2idl', 'ros1msg')
        return Channel(
            channel.topic,
            schema.name if schema else 'unknown',
            self._counts[number],
            channel.message_encoding,
            schema.data.decode(errors='replace') if schema and text else '',
            channel.metadata.get('topic_type_hash', ''),
            channel.metadata.get('offered_qos_profiles', ''),
        )

    def _take_index(self, summary: Summary, statistics: records.Statistics) -> None:
        self._schemas = summary.schemas
        self._channels = summary.channels
        self._counts.update(statistics.channel_message_counts)
        if statistics.message_count:
            self._span_ns = (statistics.message_start_time, statistics.message_end_time)
        self._blocks = [
            _Block(
                index.message_start_time,
                index.chunk_start_offset,
                index.chunk_length,
                channels=frozenset(index.message_index_offsets),
            )
            for index in summary.chunk_indexes
        ]

    def _scan(self, stream: BinaryIO, file_size: int) -> None:
        """Find all blocks from the beginning on, up to the end of the data or a broken record."""
        offset = len(MAGIC)
        while True:
            stream.seek(offset)
            head = stream.read(_RECORD.size).ljust(_RECORD.size, b'\0')
            opcode, length = _RECORD.unpack(head)
            size = min(_RECORD.size + length, file_size - offset)
            least = _MESSAGE.size if opcode == Opcode.MESSAGE else 0
            complete = opcode != 0 and length >= least and size == _RECORD.size + length
            if complete and opcode in (Opcode.DATA_END, Opcode.FOOTER):
                return
            if opcode == Opcode.CHUNK:
                self._add(stream, _Block(0, offset, size))
            elif complete and opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                self._add(stream, _Block(0, offset, size, chunk=False))
            elif complete and opcode == Opcode.MESSAGE:
                self._add_message(offset, size, stream.read(_MESSAGE.size))
            if not complete:
                self._damaged.pop(offset, None)  # which is what a chunk without its end looks like
                self._cut = True
                return
            offset += size

    def _add(self, stream: BinaryIO, block: _Block) -> None:
        """Note what a block that was found holds."""
        times = []
        try:
            for opcode, record in _records(*self._load(stream, block)):
                if opcode == Opcode.SCHEMA:
                    schema = records.Schema.read(ReadDataStream(BytesIO(record)))
                    self._schemas[schema.id] = schema
                elif opcode == Opcode.CHANNEL:
                    channel = records.Channel.read(ReadDataStream(BytesIO(record)))
                    self._channels[channel.id] = channel
                elif opcode == Opcode.MESSAGE:
                    times.append(self._count(record))
        except (_DamagedError, McapError, struct.error, ValueError) as error:
            reached_ns = self._span_ns[1] if self._span_ns else 0
            self._damaged[block.offset] = (reached_ns, str(error))
        if times:
            self._blocks.append(replace(block, start_ns=min(times)))

    def _add_message(self, offset: int, size: int, head: bytes) -> None:
        """Note a message outside of chunks: it joins the run that ends where it begins."""
        time_ns = self._count(head)
        last = self._blocks[-1] if self._blocks else None
        if (
            last is not None
            and not last.chunk
            and last.offset + last.size == offset
            and last.size < _RUN_BYTES
        ):
            start_ns = min(last.start_ns, time_ns)
            self._blocks[-1] = replace(last, start_ns=start_ns, size=last.size + size)
        else:
            self._blocks.append(_Block(time_ns, offset, size, chunk=False))

    def _count(self, head: bytes | memoryview) -> int:
        channel, _, time_ns, _ = _MESSAGE.unpack_from(head)
        if channel in self._channels:
            self._counts[channel] += 1
        first, last = self._span_ns or (time_ns, time_ns)
        self._span_ns = (min(first, time_ns), max(last, time_ns))
        return time_ns

    def _load(self, stream: BinaryIO, block: _Block) -> tuple[memoryview, bool]:
        """Return the records of a block and whether they are all there.

        Raises:
            _DamagedError: they cannot be had.
        """
        stream.seek(block.offset)
        data = memoryview(stream.read(block.size))
        if not block.chunk:
            return data, True
        try:
            return _unpack(data)
        except (struct.error, ValueError, RuntimeError, zstandard.ZstdError) as error:
            raise _DamagedError(str(error)) from error


def _summary(stream: BinaryIO, file_size: int) -> Summary | None:
    """Return the summary of a file when all that reading needs is in it."""
    stream.seek(0)
    try:
        summary = SeekingReader(stream, record_size_limit=file_size).get_summary()
    except Exception:  # whatever the parser stumbles over where a file was cut or overwritten
        return None
    if summary is None or summary.statistics is None:
        return None
    chunks = summary.chunk_indexes
    statistics = summary.statistics
    used = {number for index in chunks for number in index.message_index_offsets}
    used.update(statistics.channel_message_counts)
    whole = (
        statistics.chunk_count == len(chunks)
        and (bool(chunks) or not statistics.message_count)
        and used <= summary.channels.keys()
        and all(c.schema_id in {0, *summary.schemas} for c in summary.channels.values())
        and all(i.chunk_start_offset + i.chunk_length <= file_size for i in chunks)
    )
    return summary if whole else None


def _unpack(chunk: memoryview) -> tuple[memoryview, bool]:
    """Return the records in a Chunk record, and whether they are all there."""
    opcode, _ = _RECORD.unpack_from(chunk)
    if opcode != Opcode.CHUNK:
        raise _DamagedError('it is no chunk')
    begin = _RECORD.size + _CHUNK.size
    _, _, size, crc, name_length = _CHUNK.unpack_from(chunk, _RECORD.size)
    compression = bytes(chunk[begin : begin + name_length]).decode()
    if compression not in _DECOMPRESS:
        raise _DamagedError(f"unknown compression '{compression}'")
    begin += name_length
    (stored_size,) = _SIZE.unpack_from(chunk, begin)
    begin += _SIZE.size
    stored = chunk[begin : begin + stored_size]
    data = memoryview(_DECOMPRESS[compression](stored))
    if len(stored) < stored_size:
        return data, False
    if len(data) != size:
        raise _DamagedError(f'{len(data)} bytes instead of {size}')
    if crc and zlib.crc32(data) != crc:
        raise _DamagedError('wrong checksum')
    return data, True


def _records(data: memoryview, whole: bool) -> Iterator[tuple[int, memoryview]]:
    """Yield opcode and content of each complete record.

    Raises:
        _DamagedError: a record breaks off, though the data are whole.
    """
    offset = 0
    while offset + _RECORD.size <= len(data):
        opcode, length = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size
        if offset + length > len(data):
            break
        yield opcode, data[offset : offset + length]
        offset += length
    if whole and offset != len(data):
        raise _DamagedError('a record breaks off')
