"""SQLite bags (.db3), whole or damaged.

Source: https://github.com/ros2/rosbag2, rosbag2_storage_sqlite3 (schema versions 1 to 4).
"""

from __future__ import annotations

import errno
from collections.abc import Collection
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw

from nightseg_ros.evaluation.bag_reader.storage import Channel
from nightseg_ros.evaluation.bag_reader.storage import StorageError
from nightseg_ros.evaluation.bag_reader.storage import seconds

MAGIC = b'SQLite format 3\0'

_MOST_MISSING = 10_000
"""So many rows on end that cannot be read are the end of a damaged table: they are more than hang
on one inner page, whose loss takes them all."""

_HEADER_BYTES = 100

_DAMAGE = (apsw.Error, KeyError, TypeError, ValueError)
"""What damage looks like: refused by SQLite, other columns, other values, text that is none."""


class Sqlite3File:
    """Reads one .db3 file; never writes beside it.

    Rows are fetched one by one, so that a damaged one costs no other. Where whole tables are
    damaged, every row is tried once on opening.

    Args:
        path: the file; a ``-wal`` beside it (of a recording that broke off) is read too.

    Raises:
        StorageError: nothing in it can be read.
    """

    def __init__(self, path: Path) -> None:
        self._topics: dict[int, Channel] = {}
        self._span_ns: tuple[int, int] | None = None
        self._readable: list[int] | None = None
        self._lost: set[int] = set()
        try:
            self._connection = _open(path)
            self._read_topics()
            self._read_definitions()
            self._count()
        except _DAMAGE:
            self._salvage(path)

    @property
    def channels(self) -> list[Channel]:
        """Return the topics of the file."""
        return list(self._topics.values())

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """Return the times of the first and the last message, None when there is none."""
        return self._span_ns

    def problems(self) -> list[str]:
        """Return what is known by now not to be readable."""
        if self._readable is not None and self._span_ns:
            return [
                f'is damaged: {len(self._readable)} messages were read, up to '
                f'{seconds(self._span_ns[1], self._span_ns)} after the first; what else it held '
                'is lost'
            ]
        if self._lost:
            return [f'is damaged: {len(self._lost)} of its messages are lost']
        return []

    def messages(self, topics: Collection[str] | None) -> Iterator[tuple[Channel, int, bytes]]:
        """Yield channel, bag time in ns and content in order of time; None takes all topics."""
        wanted = {
            number: channel
            for number, channel in self._topics.items()
            if topics is None or channel.topic in topics
        }
        if not wanted:
            return
        for number in self._in_time_order():
            try:
                row = self._row(number, wanted)
            except _DAMAGE:
                self._lost.add(number)
                continue
            if row is not None:
                topic, time_ns, content = row
                yield wanted[topic], time_ns, content

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _in_time_order(self) -> Iterator[int]:
        if self._readable is not None:
            yield from self._readable
            return
        # Answered by the index alone.
        rows: Any = self._connection.execute('SELECT id FROM messages ORDER BY timestamp, id')
        try:
            for (number,) in rows:
                yield number
        except apsw.Error as error:  # it could be read on opening
            raise OSError(errno.EIO, str(error)) from error

    def _row(self, number: int, topics: Collection[int]) -> tuple[int, int, bytes] | None:
        """Return topic, time and content of a message, None when it is of another topic.

        Raises:
            one of _DAMAGE: it is damaged.
        """
        placeholders = ', '.join('?' * len(topics))
        row: Any = self._connection.execute(
            'SELECT topic_id, timestamp, data FROM messages '
            f'WHERE id = ? AND topic_id IN ({placeholders})',
            (number, *topics),
        ).fetchone()
        if row is not None and not (isinstance(row[1], int) and isinstance(row[2], bytes)):
            raise ValueError('the row holds something else than a message')
        return row

    def _rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a table by column; its columns differ between distributions."""
        columns: list[Any] = self._connection.execute(f'PRAGMA table_info({table})').fetchall()
        if columns:
            names = [column[1] for column in columns]
            for row in self._connection.execute(f'SELECT * FROM {table}'):
                yield dict(zip(names, row, strict=True))

    def _read_topics(self) -> None:
        if not self._connection.execute('PRAGMA table_info(messages)').fetchall():
            raise StorageError('is an SQLite database, but holds no messages of rosbag2')
        for row in self._rows('topics'):
            self._topics[row['id']] = Channel(
                str(row['name']),
                str(row['type']),
                0,
                str(row['serialization_format']),
                type_hash=row.get('type_description_hash', ''),
                qos=row.get('offered_qos_profiles', ''),
            )

    def _read_definitions(self) -> None:
        texts = {
            row['topic_type']: row['encoded_message_definition']
            for row in self._rows('message_definitions')
        }
        for number, topic in self._topics.items():
            self._topics[number] = replace(topic, definition=texts.get(topic.type, ''))

    def _count(self) -> None:
        """Count messages.

        Raises:
            one of _DAMAGE: the table or its index is damaged.
        """
        rows: Any = self._connection.execute(
            'SELECT topic_id, COUNT(*), SUM(id), MIN(timestamp), MAX(timestamp) FROM messages '
            'GROUP BY topic_id'
        )
        total = checksum = 0
        for number, count, id_sum, first_ns, last_ns in rows:
            total += count
            checksum += id_sum
            self._note(number, count, first_ns, last_ns)
        # Answered by the index alone: the one by which messages are read in order of time.
        query = 'SELECT COUNT(timestamp), TOTAL(id) FROM messages'
        if self._connection.execute(query).fetchone() != (total, checksum):
            raise ValueError('the index does not fit the table')

    def _note(self, number: int, count: int, first_ns: int, last_ns: int) -> None:
        if topic := self._topics.get(number):
            self._topics[number] = replace(topic, count=topic.count + count)
            first, last = self._span_ns or (first_ns, last_ns)
            self._span_ns = (min(first, first_ns), max(last, last_ns))

    def _salvage(self, path: Path) -> None:
        """Try every row on its own, in the order of writing.

        Raises:
            StorageError: none can be read.
        """
        self._topics.clear()
        self._span_ns = None
        try:
            self._connection = _open_damaged(path)
            self._read_topics()
        except _DAMAGE as error:
            raise StorageError(f'cannot be read: {error}') from error
        with suppress(*_DAMAGE):  # decoding does without definitions
            self._read_definitions()
        times: dict[int, int] = {}
        number = last = 0
        while number - last < _MOST_MISSING:
            number += 1
            try:
                row = self._row(number, self._topics)
            except _DAMAGE:
                continue
            if row is not None:
                topic, times[number], _ = row
                self._note(topic, 1, times[number], times[number])
                last = number
        if not times:
            raise StorageError('is damaged: none of its messages can be read')
        self._readable = sorted(times, key=times.__getitem__)


def _open(path: Path) -> apsw.Connection:
    """Open for reading, without a trace on disk.

    Raises:
        one of _DAMAGE: the file is no database, or breaks off within a page.
    """
    wal = path.with_name(f'{path.name}-wal')
    if not wal.is_file() or not wal.stat().st_size:
        with path.open('rb') as stream:
            if _surplus(stream.read(_HEADER_BYTES), path.stat().st_size):
                raise ValueError('the file breaks off within a page')
        return _connect(path, 'immutable=1')
    # A write-ahead log is read without the shared memory file that SQLite would make for it: with
    # exclusive access, which the lock-less VFS grants, and without writing it back on closing.
    connection = _connect(path, 'mode=ro', 'unix-none')
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute('PRAGMA locking_mode = EXCLUSIVE').fetchall()
    return connection


def _open_damaged(path: Path) -> apsw.Connection:
    """Open what SQLite itself would refuse: a file shorter than it says it is."""
    connection = _connect(path, 'immutable=1', _WHOLE_PAGES.name)
    connection.execute('PRAGMA writable_schema = ON')  # nothing is written: checks are relaxed
    return connection


def _connect(path: Path, options: str, vfs: str | None = None) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    return apsw.Connection(f'{path.absolute().as_uri()}?{options}', flags=flags, vfs=vfs)


def _surplus(header: bytes, size: int) -> int:
    """Return how many bytes lie behind the last whole page."""
    page = int.from_bytes(header[16:18], 'big')
    page = 65536 if page == 1 else page
    return size % page if page else 0


class _WholePages(apsw.VFS):
    """Files without the part of a page at their end, which SQLite would fill up with zeros."""

    name = 'nightseg-whole-pages'

    def __init__(self) -> None:
        super().__init__(self.name, '')

    def xOpen(self, name: Any, flags: Any) -> _WholePagesFile:  # noqa: N802
        return _WholePagesFile(name, flags)


class _WholePagesFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: Any) -> None:
        super().__init__('', name, flags)

    def xFileSize(self) -> int:  # noqa: N802
        size = super().xFileSize()
        return size - _surplus(self.xRead(min(size, _HEADER_BYTES), 0), size)


_WHOLE_PAGES = _WholePages()
