"""Ctrl-C between two frames, not in the middle of one: sums must stay whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does: raise KeyboardInterrupt, so that children are ended too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C, or SIGTERM, into a request; yields whether there is one.

    The second acts at once. A signal that this process ignores stays ignored. Signals reach the
    main thread alone: in another one there are no requests.
    """
    requested = False
    previous: dict[int, object] = {}

    def request(number: int, _: FrameType | None) -> None:
        nonlocal requested
        requested = True
        signal.signal(number, previous[number])  # type: ignore[arg-type]

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
                previous[number] = signal.getsignal(number)
                signal.signal(number, request)
    try:
        yield lambda: requested
    finally:
        for signal_number, handler in previous.items():
            signal.signal(signal_number, handler)  # type: ignore[arg-type]
