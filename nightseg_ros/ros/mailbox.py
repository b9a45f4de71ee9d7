"""Mailboxes of one slot each: the newest frame wins, so latency cannot grow from a queue."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from collections.abc import Iterable
from typing import Generic
from typing import TypeVar

K = TypeVar('K', bound=Hashable)
T = TypeVar('T')


class Mailboxes(Generic[K, T]):
    """Hands the newest item of each sender from one thread to another.

    Senders are served in turn, whoever sends most: a fast camera cannot starve a slow one.

    Args:
        senders: the keys under which items are left, in the order in which they are served.
    """

    def __init__(self, senders: Iterable[K]) -> None:
        self._condition = threading.Condition()
        self._slots: dict[K, T | None] = dict.fromkeys(senders)
        self._closed = False

    def put(self, sender: K, item: T) -> bool:
        """Leave an item; returns whether it replaced one that nobody had taken."""
        with self._condition:
            replaced = self._slots[sender] is not None
            self._slots[sender] = item
            self._condition.notify()
            return replaced

    def take(self) -> tuple[K, T] | None:
        """Wait for an item and take it, with its sender; None once the mailboxes are closed."""
        with self._condition:
            while not self._closed:
                for sender, item in self._slots.items():
                    if item is not None:
                        # Whoever was served goes to the end of the queue.
                        del self._slots[sender]
                        self._slots[sender] = None
                        return sender, item
                self._condition.wait()
            return None

    def clear(self) -> None:
        """Drop what is in the slots."""
        with self._condition:
            self._slots = dict.fromkeys(self._slots)

    def close(self) -> None:
        """Wake who waits, for good; what is in the slots is dropped."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
