from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from nightseg_ros.ros import diagnostics
from nightseg_ros.ros.statistics import WINDOW
from nightseg_ros.ros.statistics import Statistics


def test_counts_and_percentiles() -> None:
    statistics = Statistics()
    for milliseconds in range(1, 101):
        statistics.received()
        statistics.published({'infer': float(milliseconds)})
    assert statistics.dropped('too_old', 'an old one') == 1
    assert statistics.dropped('too_old') == 2
    summary = statistics.summary()
    assert (summary.received, summary.published) == (100, 100)
    assert summary.dropped == {'too_old': 2}
    assert summary.last_error == 'an old one'
    assert summary.stages['infer'] == pytest.approx((50.5, 95.05, 99.01))


def test_percentiles_forget_what_is_long_ago() -> None:
    statistics = Statistics()
    statistics.published({'infer': 1e6})
    for _ in range(WINDOW):
        statistics.published({'infer': 1.0})
    assert statistics.summary().stages['infer'].p99 == 1.0


def test_a_summary_does_not_change_afterwards() -> None:
    statistics = Statistics()
    before = statistics.summary()
    statistics.dropped('too_old')
    assert before.dropped == {}


def level(before, now, active: bool = True) -> tuple[bytes, str]:
    status = diagnostics.input_status('/n', now, before, 1.0, active)
    return status.level, status.message


def test_the_level_follows_what_happened_since_the_last_report() -> None:
    statistics = Statistics()
    start = statistics.summary()
    assert level(start, start, active=False) == (DiagnosticStatus.OK, 'inactive')
    assert level(start, start)[0] == DiagnosticStatus.WARN
    statistics.received()
    flowing = statistics.summary()
    assert level(start, flowing) == (DiagnosticStatus.OK, 'active')
    assert level(flowing, flowing)[0] == DiagnosticStatus.ERROR  # a dead camera is an error
    statistics.received()
    statistics.dropped('replaced_by_newer')
    busy = statistics.summary()
    assert level(flowing, busy) == (DiagnosticStatus.OK, 'active')
    statistics.received()
    statistics.dropped('short_data', 'too short')
    assert level(busy, statistics.summary()) == (DiagnosticStatus.ERROR, 'dropped 1 short_data')
