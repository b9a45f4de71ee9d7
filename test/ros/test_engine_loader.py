from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from nightseg_ros.core.backends import BackendError
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.backends import Started
from nightseg_ros.ros import engine_loader
from nightseg_ros.ros.engine_loader import EngineLoader
from nightseg_ros.ros.engine_loader import Loaded

PATIENCE_S = 10.0


class Builder:
    """Stands for ``create_backend``: builds until it is told to finish."""

    def __init__(self) -> None:
        self.finish = threading.Event()
        self.error: BaseException | None = None
        self.closed: list[str] = []
        self.built: list[str] = []

    def __call__(self, model: str, name: str, options: BackendOptions, report) -> Started:
        report('building the engine, 40 %')
        assert self.finish.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.built.append(model)
        backend = SimpleNamespace(close=lambda: self.closed.append(model), name=name)
        return Started(backend, 'asked for', 'passed')


class Rig:
    """A loader, what it builds with, and whether it told that it is done."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.done = threading.Event()
        self.loader = EngineLoader(self.done.set)

    def start(self, model: str = 'model') -> bool:
        return self.loader.start(model, 'abacus', BackendOptions())  # type: ignore[arg-type]

    def wait(self) -> None:
        """Let it finish, and wait until it says so."""
        self.builder.finish.set()
        assert self.done.wait(PATIENCE_S)
        self.done.clear()

    def taken(self) -> Loaded:
        loaded = self.loader.take()
        assert loaded is not None
        return loaded


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    builder = Builder()
    monkeypatch.setattr(engine_loader, 'create_backend', builder)
    yield Rig(builder)
    builder.finish.set()
    end = time.monotonic() + PATIENCE_S
    while any(t.name == 'engine_loader' for t in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)


def until(condition) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_progress_is_told_while_it_builds(rig: Rig) -> None:
    assert rig.loader.loading() is None
    assert rig.start()
    until(lambda: 'building' in rig.loader.loading().doing)
    before = rig.loader.loading().elapsed_s
    time.sleep(0.02)
    assert rig.loader.loading().elapsed_s > before
    assert rig.loader.take() is None
    rig.wait()
    assert rig.loader.loading() is None


def test_what_was_loaded_is_handed_over_once(rig: Rig) -> None:
    rig.start()
    rig.wait()
    loaded = rig.taken()
    assert loaded.segmenter.backend.name == 'abacus'
    assert loaded.segmenter.self_check == 'passed'
    assert (loaded.error, loaded.elapsed_s > 0) == ('', True)
    assert rig.loader.take() is None
    assert rig.builder.closed == []


def test_one_model_at_a_time(rig: Rig) -> None:
    assert rig.start('first')
    assert not rig.start('second')
    rig.wait()
    assert rig.taken().segmenter is not None
    assert rig.builder.built == ['first']
    assert rig.start('third')
    rig.wait()
    assert rig.builder.built == ['first', 'third']


@pytest.mark.parametrize(
    ('error', 'text'),
    [
        (BackendError('no memory on the device'), 'no memory on the device'),
        (ZeroDivisionError('by surprise'), 'ZeroDivisionError: by surprise'),
        (MemoryError(), 'MemoryError'),
    ],
)
def test_a_failure_is_text_and_the_next_loading_works(
    rig: Rig, error: Exception, text: str
) -> None:
    rig.builder.error = error
    rig.start()
    rig.wait()
    loaded = rig.taken()
    assert loaded.segmenter is None
    assert text in loaded.error
    rig.builder.error = None
    assert rig.start()
    rig.wait()
    assert rig.taken().segmenter is not None


def test_what_comes_after_cancelling_is_freed_and_not_told(rig: Rig) -> None:
    rig.start()
    rig.loader.cancel()
    assert rig.loader.loading() is None
    rig.builder.finish.set()
    until(lambda: rig.builder.closed == ['model'])
    assert rig.loader.take() is None
    assert not rig.done.is_set()


def test_cancelling_frees_what_nobody_took(rig: Rig) -> None:
    rig.start()
    rig.wait()
    rig.loader.cancel()
    assert rig.builder.closed == ['model']
    assert rig.loader.take() is None
    rig.loader.cancel()
    assert rig.builder.closed == ['model']


def test_a_new_loading_after_cancelling_is_not_mixed_up_with_the_old_one(rig: Rig) -> None:
    rig.start('first')
    rig.loader.cancel()
    assert rig.start('second')
    rig.wait()
    until(lambda: rig.builder.closed == ['first'])
    assert rig.taken().segmenter is not None
    assert rig.builder.closed == ['first']


def test_what_was_loaded_but_not_taken_yet_is_not_lost_by_the_next_start(rig: Rig) -> None:
    # A service call may come before the executor hears that the loader is done.
    rig.start('first')
    rig.wait()
    if rig.start('second'):
        assert rig.builder.closed == ['first']
    else:
        assert rig.taken().segmenter is not None
