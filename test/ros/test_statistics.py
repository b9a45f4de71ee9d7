from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from nightseg_ros.core.health import Health
from nightseg_ros.ros.statistics import HEALTH_WINDOW
from nightseg_ros.ros.statistics import WINDOW
from nightseg_ros.ros.statistics import Statistics

HEALTHY = Health(2, 0.5, 0.9, 0.1, 0.0, 0)


def test_counts_and_percentiles() -> None:
    statistics = Statistics()
    for milliseconds in range(1, 101):
        statistics.received(now=float(milliseconds))
        statistics.published(9.0, {'infer': float(milliseconds)}, HEALTHY)
    assert statistics.dropped('too_old', 'an old one') == 1
    assert statistics.dropped('too_old') == 2
    summary = statistics.summary()
    assert (summary.received, summary.published) == (100, 100)
    assert summary.dropped == {'too_old': 2}
    assert summary.last_error == 'an old one'
    assert summary.last_arrival == 100.0
    assert summary.stages['infer'] == pytest.approx((50.5, 95.05, 99.01))


def test_percentiles_and_health_forget_what_is_long_ago() -> None:
    statistics = Statistics()
    statistics.published(9.0, {'infer': 1e6}, Health(255, 1.0, 0.0, 1.0, 0.0, 7))
    for _ in range(max(WINDOW, HEALTH_WINDOW)):
        statistics.published(9.0, {'infer': 1.0}, HEALTHY)
    summary = statistics.summary()
    assert summary.stages['infer'].p99 == 1.0
    assert summary.health == (HEALTHY,) * HEALTH_WINDOW


def test_a_summary_does_not_change_afterwards() -> None:
    statistics = Statistics()
    before = statistics.summary()
    statistics.dropped('too_old')
    statistics.published(9.0, {}, HEALTHY)
    assert (before.dropped, before.health, before.published) == ({}, (), 0)


def test_resetting_forgets_everything_but_how_long_ago_it_was() -> None:
    statistics = Statistics()
    fresh = statistics.summary()
    statistics.received(now=1.0)
    statistics.dropped('too_old', 'an old one')
    statistics.published(9.0, {'infer': 1.0}, HEALTHY)
    statistics.reset()
    assert statistics.summary() == replace(fresh, last_arrival=1.0, last_published=9.0)


def test_threads_lose_no_count() -> None:
    statistics = Statistics()

    def count() -> None:
        for _ in range(2000):
            statistics.received(now=1.0)
            statistics.dropped('too_old')

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        statistics.summary()
    for thread in threads:
        thread.join()
    summary = statistics.summary()
    assert (summary.received, summary.dropped) == (8000, {'too_old': 8000})
