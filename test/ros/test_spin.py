from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace

import pytest
import rclpy

from nightseg_ros.ros import night_seg_node
from nightseg_ros.ros.night_seg_node import Interrupt
from nightseg_ros.ros.night_seg_node import spin


class Logged(list):
    """Stands for the node: what it logs."""

    def get_logger(self) -> SimpleNamespace:
        return SimpleNamespace(error=self.append)


def executor(*turns: Callable[[], None]) -> SimpleNamespace:
    """Return an executor whose ``spin`` does one thing after the other, and then ends."""
    left = list(turns)
    return SimpleNamespace(spin=lambda: left.pop(0)() if left else None)


def fail() -> None:
    raise RuntimeError("Unable to convert call argument '0' to Python object")


@pytest.fixture(autouse=True)
def context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the context look as it does before rclpy's signal thread has shut it down."""
    monkeypatch.setattr(rclpy, 'ok', lambda: True)


def test_a_callback_that_fails_is_logged_and_the_others_go_on() -> None:
    node = Logged()
    done = []
    spin(executor(fail, fail, lambda: done.append(1)), node, Interrupt())
    assert done == [1]
    assert len(node) == 2
    assert 'Unable to convert' in node[0]


def test_an_interrupt_that_rclpy_swallows_ends_the_node_without_an_error() -> None:
    node, interrupt = Logged(), Interrupt()

    def swallow() -> None:
        with suppress(KeyboardInterrupt):
            interrupt(signal.SIGINT, None)
        fail()

    with pytest.raises(RuntimeError, match='Unable to convert'):
        spin(executor(swallow), node, interrupt)
    assert node == []


def test_an_interrupt_is_a_keyboard_interrupt() -> None:
    interrupt = Interrupt()
    with pytest.raises(KeyboardInterrupt):
        spin(executor(lambda: interrupt(signal.SIGINT, None)), Logged(), interrupt)
    assert interrupt.came


def test_the_node_starts_with_this_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    class EnoughError(Exception):
        pass

    handlers = []

    def init(args: list[str] | None) -> None:
        handlers.append(signal.getsignal(signal.SIGINT))
        raise EnoughError

    monkeypatch.setattr(rclpy, 'init', init)
    monkeypatch.setattr(night_seg_node, 'keep_memory', lambda: None)
    monkeypatch.setattr('sys.setswitchinterval', lambda seconds: None)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(EnoughError):
            night_seg_node.main([])
    finally:
        signal.signal(signal.SIGINT, before)
    assert isinstance(handlers[0], Interrupt)
