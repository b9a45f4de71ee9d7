from __future__ import annotations

import errno
import json
import os
import threading
import time
from pathlib import Path

import pytest

from nightseg_ros.core.backends import BackendError
from nightseg_ros.core.backends.tensorrt import engine_cache
from nightseg_ros.core.backends.tensorrt.engine_cache import EngineCache
from nightseg_ros.core.backends.tensorrt.engine_cache import UnusableEngineError

ENGINE = b'engine' * 100


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    cache = EngineCache(tmp_path / 'engines')
    cache.store('net', ENGINE, {'key': 'abc'})
    return cache


def test_the_users_folder_is_private(no_shared_cache: Path) -> None:
    old = os.umask(0o002)
    try:
        folder = EngineCache().folder
    finally:
        os.umask(old)
    assert folder == no_shared_cache
    for place in (folder, folder.parent, folder.parent.parent):
        assert place.stat().st_mode & 0o777 == 0o700


def test_without_xdg_it_is_below_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
    expected = tmp_path / '.cache' / 'nightseg_ros' / 'engines'
    assert engine_cache.default_folder() == expected


def test_what_was_stored_is_loaded(cache: EngineCache) -> None:
    engine, facts = cache.load('net', 'abc')
    assert engine == ENGINE
    assert facts['bytes'] == len(ENGINE)
    assert cache.load('other', 'abc') is None
    files = {path.name: path.stat().st_mode & 0o777 for path in cache.folder.iterdir()}
    assert files == {'net.engine': 0o600, 'net.json': 0o600}


@pytest.mark.parametrize(
    ('damage', 'reason'),
    [
        (lambda folder: (folder / 'net.engine').write_bytes(ENGINE[:-1]), 'truncated'),
        (lambda folder: (folder / 'net.engine').write_bytes(b''), 'truncated'),
        (lambda folder: (folder / 'net.json').unlink(), 'JSON cannot be read'),
        (lambda folder: (folder / 'net.json').write_text('{"key": "ab'), 'JSON cannot be read'),
        (lambda folder: (folder / 'net.json').write_text('[]'), 'JSON is of another engine'),
    ],
)
def test_damage_is_noticed(cache: EngineCache, damage, reason: str) -> None:  # type: ignore[no-untyped-def]
    damage(cache.folder)
    with pytest.raises(UnusableEngineError, match=reason):
        cache.load('net', 'abc')
    (entry,) = cache.entries()
    assert entry.problem


def test_another_key_is_another_engine(cache: EngineCache) -> None:
    with pytest.raises(UnusableEngineError, match='another engine'):
        cache.load('net', 'abd')


@pytest.mark.parametrize('mode', [0o770, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / 'engines'
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(BackendError, match=rf'mode {mode:04o}.*chmod go-w {folder}'):
        EngineCache(folder)


def test_so_is_one_below_such_a_folder_also_behind_a_link(tmp_path: Path) -> None:
    open_folder = tmp_path / 'open'
    (open_folder / 'engines').mkdir(parents=True, mode=0o700)
    open_folder.chmod(0o777)
    (tmp_path / 'link').symlink_to(open_folder / 'engines')
    for folder in (open_folder / 'engines', tmp_path / 'link'):
        with pytest.raises(BackendError, match=f'others may write into {open_folder} '):
            EngineCache(folder)
    open_folder.chmod(0o1777)  # as /tmp
    EngineCache(tmp_path / 'link')


def test_a_folder_of_another_user_is_refused(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = os.geteuid() + 1
    monkeypatch.setattr(os, 'geteuid', lambda: other)
    with pytest.raises(BackendError, match=f'belongs to user {other - 1}, not to {other}'):
        EngineCache(cache.folder)
    with pytest.raises(BackendError, match='written by another user'):
        cache.load('net', 'abc')


@pytest.mark.parametrize('name', ['net.engine', 'net.json'])
def test_a_link_or_an_open_file_is_refused(cache: EngineCache, name: str, tmp_path: Path) -> None:
    path = cache.folder / name
    path.chmod(0o620)
    with pytest.raises(BackendError, match=f'mode 0620.*rm {path}'):
        cache.load('net', 'abc')
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)
    with pytest.raises(BackendError, match=f'is a link.*rm {path}'):
        cache.load('net', 'abc')
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(BackendError, match='could have been written'):
        cache.load('net', 'abc')


@pytest.mark.parametrize('code', [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_where_nothing_can_be_written_nothing_is_kept(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    real = os.open

    def read_only(path, flags, *arguments):  # type: ignore[no-untyped-def]
        if flags & os.O_CREAT:
            raise OSError(code, os.strerror(code))
        return real(path, flags, *arguments)

    monkeypatch.setattr(os, 'open', read_only)
    with cache.lock('new', lambda _: None):
        facts = cache.store('new', ENGINE, {'key': 'x'})
    cache.update_timings('timings', lambda stored: stored + b'more')
    assert facts['bytes'] == len(ENGINE)
    assert os.strerror(code) in caplog.text
    assert 'used from memory' in caplog.text
    assert cache.load('net', 'abc') is not None
    assert cache.load('new', 'x') is None


def test_a_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, 'Read-only file system')

    monkeypatch.setattr(Path, 'mkdir', refuse)
    cache = EngineCache(tmp_path / 'new' / 'engines')
    assert 'Read-only file system' in caplog.text
    with cache.lock('net', lambda _: None):
        assert cache.load('net', 'abc') is None
        cache.store('net', ENGINE, {})
    assert cache.entries() == []


def test_a_write_that_breaks_off_leaves_the_old_file(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'fsync', interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.store('net', b'half', {'key': 'abc'})
    assert cache.load('net', 'abc')[0] == ENGINE
    assert {path.name for path in cache.folder.iterdir()} == {'net.engine', 'net.json'}


def test_a_lock_is_waited_for_and_says_so(cache: EngineCache) -> None:
    order: list[str] = []

    def second() -> None:
        with EngineCache(cache.folder).lock('net', order.append):
            order.append('second')

    with cache.lock('net', order.append):
        thread = threading.Thread(target=second)
        thread.start()
        while not order:
            time.sleep(0.01)
        with cache.lock('another', order.append):
            order.append('first')
    thread.join()
    assert order == ['another process builds or loads net: waiting, 0 s', 'first', 'second']


def test_discard_and_entries(cache: EngineCache) -> None:
    cache.store('older', b'x', {'key': 'k'})
    assert [entry.path.name for entry in cache.entries()] == ['net.engine', 'older.engine']
    assert [entry.problem for entry in cache.entries()] == ['', '']
    cache.discard('older')
    cache.discard('older')
    assert [entry.facts['key'] for entry in cache.entries()] == ['abc']
    assert json.loads((cache.folder / 'net.json').read_text())['key'] == 'abc'


def test_timings_are_combined_with_what_came_meanwhile(cache: EngineCache) -> None:
    assert cache.timings('timings') == b''
    cache.update_timings('timings', lambda stored: stored + b'a')
    cache.update_timings('timings', lambda stored: stored + b'b')
    assert cache.timings('timings') == b'ab'
