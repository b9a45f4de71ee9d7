from __future__ import annotations

import threading

from nightseg_ros.ros.mailbox import Mailbox


def test_the_newest_item_wins_and_replacing_is_told() -> None:
    mailbox: Mailbox[int] = Mailbox()
    assert [mailbox.put(1), mailbox.put(2), mailbox.put(3)] == [False, True, True]
    assert mailbox.take() == 3
    assert not mailbox.put(4)


def test_taking_waits_for_an_item() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[int | None] = []
    thread = threading.Thread(target=lambda: taken.append(mailbox.take()))
    thread.start()
    mailbox.put(5)
    thread.join(timeout=10)
    assert taken == [5]


def test_closing_wakes_who_waits_and_drops_the_rest() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[int | None] = []
    thread = threading.Thread(target=lambda: taken.append(mailbox.take()))
    thread.start()
    mailbox.close()
    thread.join(timeout=10)
    assert taken == [None]
    mailbox.put(1)
    assert mailbox.take() is None
