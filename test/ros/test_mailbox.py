from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightseg_ros.ros.mailbox import Mailboxes

SENDERS = ('front', 'left', 'right', 'rear')


def test_the_newest_item_wins_and_replacing_is_told() -> None:
    mailboxes: Mailboxes[str, int] = Mailboxes(['front'])
    assert [mailboxes.put('front', item) for item in (1, 2, 3)] == [False, True, True]
    assert mailboxes.take() == ('front', 3)
    assert not mailboxes.put('front', 4)


def test_only_the_senders_own_item_is_replaced() -> None:
    mailboxes: Mailboxes[str, int] = Mailboxes(SENDERS)
    assert not mailboxes.put('front', 1)
    assert not mailboxes.put('left', 2)
    assert mailboxes.put('left', 3)
    assert [mailboxes.take(), mailboxes.take()] == [('front', 1), ('left', 3)]


def test_a_fast_sender_does_not_starve_a_slow_one() -> None:
    mailboxes: Mailboxes[str, int] = Mailboxes(['front', 'left'])
    mailboxes.put('left', 0)
    served = []
    for item in range(3):
        mailboxes.put('front', item)
        served.append(mailboxes.take())
    assert served == [('front', 0), ('left', 0), ('front', 2)]


@given(
    count=st.integers(1, len(SENDERS)),
    actions=st.lists(st.one_of(st.none(), st.sampled_from(SENDERS)), max_size=80),
)
def test_whatever_happens_the_newest_wins_and_nobody_waits_longer_than_a_round(
    count: int, actions: list[str | None]
) -> None:
    mailboxes: Mailboxes[str, int] = Mailboxes(SENDERS[:count])
    newest: dict[str, int] = {}
    waited: dict[str, int] = {}
    for item, sender in enumerate(actions):  # None takes
        if sender in SENDERS[:count]:
            assert mailboxes.put(sender, item) == (sender in newest)
            newest[sender] = item
            waited.setdefault(sender, 0)
        elif sender is None and newest:
            taken = mailboxes.take()
            assert taken is not None
            served, content = taken
            assert newest.pop(served) == content
            del waited[served]
            for other in waited:
                waited[other] += 1
                assert waited[other] < count


def test_nothing_is_lost_between_threads() -> None:
    mailboxes: Mailboxes[str, int] = Mailboxes(SENDERS)
    replaced, last = dict.fromkeys(SENDERS, 0), 500

    def send(sender: str) -> None:
        for item in range(1, last + 1):
            replaced[sender] += mailboxes.put(sender, item)

    threads = [threading.Thread(target=send, args=(sender,)) for sender in SENDERS]
    for thread in threads:
        thread.start()
    taken: dict[str, list[int]] = {sender: [] for sender in SENDERS}
    while any(items[-1:] != [last] for items in taken.values()):
        sender, item = mailboxes.take()  # type: ignore[misc]
        taken[sender].append(item)
    for thread in threads:
        thread.join()
    for sender, items in taken.items():
        assert items == sorted(set(items))
        assert len(items) + replaced[sender] == last


def waiting(mailboxes: Mailboxes[str, int], taken: list) -> threading.Thread:
    thread = threading.Thread(target=lambda: taken.append(mailboxes.take()))
    thread.start()
    time.sleep(0.05)
    return thread


def test_taking_waits_for_an_item() -> None:
    mailboxes: Mailboxes[str, int] = Mailboxes(['front'])
    taken: list[tuple[str, int] | None] = []
    thread = waiting(mailboxes, taken)
    assert thread.is_alive()
    mailboxes.put('front', 5)
    thread.join(timeout=10)
    assert taken == [('front', 5)]


def test_closing_wakes_who_waits_and_drops_the_rest() -> None:
    mailboxes: Mailboxes[str, int] = Mailboxes(['front'])
    taken: list[tuple[str, int] | None] = []
    thread = waiting(mailboxes, taken)
    mailboxes.close()
    thread.join(timeout=10)
    assert taken == [None]
    mailboxes.put('front', 1)
    assert mailboxes.take() is None


def test_an_unknown_sender_is_an_error() -> None:
    with pytest.raises(KeyError):
        Mailboxes(['front']).put('rear', 1)


def test_what_waits_can_be_dropped() -> None:
    mailboxes: Mailboxes[str, int] = Mailboxes(['a', 'b'])
    mailboxes.put('a', 1)
    mailboxes.clear()
    assert not mailboxes.put('a', 2)
    assert mailboxes.take() == ('a', 2)
