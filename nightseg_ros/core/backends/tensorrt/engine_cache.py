"""Built engines on disk: private, locked, never half written.

In the folder, for each engine::

    <model>_<precision>_<first 16 of the key>.engine   the serialized engine
    <model>_<precision>_<first 16 of the key>.json     what decides it, when and how it was built
    <model>_<precision>_<first 16 of the key>.lock     held while somebody builds or loads it
    timings_<TensorRT>_<GPU>.cache                     kernels timed in earlier builds

An engine is code: whoever can write one into the folder can run anything as the node's user. So
nothing is read that another user could have written.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightseg_ros.core.backends.base import BackendError
from nightseg_ros.core.backends.base import Report

Facts = dict[str, Any]
"""What the JSON beside an engine says."""

_OTHERS_CAN_WRITE = stat.S_IWGRP | stat.S_IWOTH
_REPORT_WAITING_EVERY = 2.0  # seconds
_log = logging.getLogger(__name__)


class UnusableEngineError(Exception):
    """A stored engine cannot be used; the message says why."""


@dataclass(frozen=True)
class Entry:
    """A stored engine.

    Attributes:
        path: of the engine.
        facts: what the JSON beside it says, empty where it cannot be read.
        problem: why it cannot be used, empty where it can.
    """

    path: Path
    facts: Facts
    problem: str


def default_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/nightseg_ros/engines``, by default below ``~/.cache``."""
    base = os.environ.get('XDG_CACHE_HOME', '')
    # The XDG specification has relative paths ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / '.cache'
    return root / 'nightseg_ros' / 'engines'


def check_private(folder: Path) -> None:
    """Refuse a folder that another user could put an engine into.

    The rule is that of OpenSSH's StrictModes: the folder is ours, each folder above it is ours or
    root's, and neither group nor others may write into any of them. One exception: above it a
    sticky folder, as /tmp is, may be writable, because nobody can rename or remove our folder
    there. The folder itself must not be sticky and writable: others could add files to it.

    Raises:
        BackendError: it is not private; the message says what to do.
    """
    user = os.geteuid()
    remedy = 'choose another engine_cache_dir, or'
    for place in (folder, *folder.parents):
        status = place.stat()
        owners = (user,) if place == folder else (user, 0)
        if status.st_uid not in owners:
            raise BackendError(
                f'engines are code, and {place} belongs to user {status.st_uid}, not to {user} who '
                f'runs this: {remedy} chown it'
            )
        sticky = place != folder and status.st_mode & stat.S_ISVTX
        if status.st_mode & _OTHERS_CAN_WRITE and not sticky:
            raise BackendError(
                f'engines are code, and others may write into {place} '
                f'(mode {stat.S_IMODE(status.st_mode):04o}): {remedy} chmod go-w {place}'
            )


class EngineCache:
    """A private folder of engines. Where it cannot be written, nothing is kept.

    Args:
        folder: made with mode 0700 where it is missing; None takes the user's.

    Raises:
        BackendError: others can write into it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        # Resolved: the rights of a link say nothing of those of the folders it leads to.
        self.folder = (folder or default_folder()).expanduser().resolve()
        try:
            for place in reversed((self.folder, *self.folder.parents)):
                if not place.exists():
                    with suppress(FileExistsError):  # another node was faster
                        place.mkdir(mode=0o700)  # each: mkdir(parents=True) obeys the umask
        except OSError as error:
            _log.warning('engines are not kept: cannot make %s: %s', place, error.strerror)
        if self.folder.exists():
            check_private(self.folder)

    def path(self, name: str) -> Path:
        """Return where an engine is stored."""
        return self.folder / f'{name}.engine'

    @contextmanager
    def lock(self, name: str, report: Report) -> Iterator[None]:
        """Hold an engine for this thread alone, among all processes; reports while it waits.

        Where no lock file can be made nothing can be stored either, and no lock is needed.
        """
        try:
            descriptor = self._open(f'{name}.lock', os.O_RDWR | os.O_CREAT)
        except OSError as error:
            _log.warning('%s is not locked: %s', name, error.strerror)
            yield
            return
        try:
            start = reported = time.monotonic()
            while not _locked(descriptor):
                now = time.monotonic()
                if reported in (start, now) or now - reported >= _REPORT_WAITING_EVERY:
                    report(f'another process builds or loads {name}: waiting, {now - start:.0f} s')
                    reported = now
                time.sleep(0.1)
            yield
        finally:
            os.close(descriptor)  # which unlocks it

    def load(self, name: str, key: str) -> tuple[bytes, Facts] | None:
        """Return an engine and its facts, None where there is none.

        Raises:
            BackendError: others could have written it.
            UnusableEngineError: it is truncated or another one.
        """
        try:
            engine = self._read(f'{name}.engine')
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnusableEngineError(f'it cannot be read: {error.strerror}') from error
        facts = self._facts(name)
        if facts.get('key') != key:
            raise UnusableEngineError('its JSON is of another engine')
        if facts.get('sha256') != hashlib.sha256(engine).hexdigest():
            raise UnusableEngineError('it is truncated or changed: its sha256 is another')
        return engine, facts

    def store(self, name: str, engine: bytes, facts: Facts) -> Facts:
        """Keep an engine if possible, else warn; returns its facts with size and sha256."""
        facts = {**facts, 'bytes': len(engine), 'sha256': hashlib.sha256(engine).hexdigest()}
        try:
            self._replace(f'{name}.engine', engine)
            self._replace(f'{name}.json', json.dumps(facts, indent=2).encode())
        except OSError as error:
            _log.warning(
                '%s is used from memory and built again at the next start: cannot write to %s: %s',
                name, self.folder, error.strerror,
            )  # fmt: skip
        return facts

    def discard(self, name: str) -> None:
        """Remove an engine, if there is one."""
        for suffix in ('engine', 'json'):
            with suppress(OSError):
                (self.folder / f'{name}.{suffix}').unlink()

    def entries(self) -> list[Entry]:
        """Return what is stored, sorted by name."""
        found = []
        for path in sorted(self.folder.glob('*.engine')):
            facts: Facts = {}
            problem = ''
            try:
                facts = self._facts(path.stem)
                self.load(path.stem, facts.get('key', ''))
            except (BackendError, UnusableEngineError) as error:
                problem = str(error)
            found.append(Entry(path, facts, problem))
        return found

    def timings(self, name: str) -> bytes:
        """Return the stored timing cache, empty where there is none."""
        try:
            return self._read(name)
        except OSError:
            return b''

    def update_timings(self, name: str, combine: Callable[[bytes], bytes]) -> None:
        """Replace the timing cache by what ``combine`` makes of the stored one, if possible."""
        with self.lock(name, lambda _: None):
            try:
                self._replace(name, combine(self.timings(name)))
            except OSError as error:
                _log.warning('timings are not kept: %s', error.strerror)

    def _facts(self, name: str) -> Facts:
        try:
            facts = json.loads(self._read(f'{name}.json'))
        except (OSError, ValueError) as error:
            raise UnusableEngineError(f'its JSON cannot be read: {error}') from error
        return facts if isinstance(facts, dict) else {}

    def _open(self, file_name: str, flags: int) -> int:
        return os.open(self.folder / file_name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def _read(self, file_name: str) -> bytes:
        """Return a file's bytes, if only we could have written them.

        Raises:
            BackendError: it is a link, no file, or others could have written it.
        """
        path = self.folder / file_name
        remedy = f'remove it: rm {path}'
        if path.is_symlink():  # O_NOFOLLOW below would refuse it too, with a poorer reason
            raise BackendError(f'{path} is a link, which is not followed: {remedy}')
        with open(self._open(file_name, os.O_RDONLY | os.O_NONBLOCK), 'rb') as file:
            status = os.fstat(file.fileno())
            private = status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_CAN_WRITE
            if not (stat.S_ISREG(status.st_mode) and private):
                raise BackendError(
                    f'{path} could have been written by another user (owner {status.st_uid}, '
                    f'mode {stat.S_IMODE(status.st_mode):04o}): {remedy}'
                )
            return file.read()

    def _replace(self, file_name: str, content: bytes) -> None:
        """Write a file whole or not at all, also when the power fails."""
        partial = self.folder / f'.{file_name}.partial'
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            with open(self._open(partial.name, flags), 'wb') as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.folder / file_name)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the new name too
        finally:
            os.close(folder)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
