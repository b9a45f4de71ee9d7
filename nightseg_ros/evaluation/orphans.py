"""Processes that do not outlive the one that started them, even when that is killed (Linux)."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def end_with_parent() -> None:
    """Let this process get SIGTERM when the thread that started it ends."""
    if hasattr(_LIBC, 'prctl'):
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
