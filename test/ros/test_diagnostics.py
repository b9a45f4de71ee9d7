from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.exposure import ExposureThresholds
from nightseg_ros.core.health import Health
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.ros import diagnostics
from nightseg_ros.ros.diagnostics import Interval
from nightseg_ros.ros.engine_loader import Loading
from nightseg_ros.ros.parameters import Settings
from nightseg_ros.ros.qos import QosEvents
from nightseg_ros.ros.statistics import Percentiles
from nightseg_ros.ros.statistics import Statistics
from nightseg_ros.ros.statistics import Summary

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

SETTINGS = Settings(
    mask_at_source_size=True,
    max_image_age_ms=1000.0,
    stale_after_ms=1000.0,
    latency_warn_ms=100.0,
    latency_error_ms=300.0,
    max_class_share=0.98,
    thresholds=ExposureThresholds(),
    overlay_opacity=0.5,
    png_level=1,
    debug_dir=Path(),
)
NOTHING = Summary(0, 0, {}, {}, (), '', None, None)
HEALTHY = Health(2, 0.5, 0.9, 0.1, 0.0, 0)


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {value.key: value.value for value in status.values}


def input_status(
    before: Summary = NOTHING, now: Summary = NOTHING, listening: str = '', at: float = 10.5
) -> DiagnosticStatus:
    return diagnostics.input_status(
        '/n', listening, now, before, QosEvents(), SETTINGS, Interval(2.0, at)
    )


def summary(**changes) -> Summary:
    """Return counts of a camera whose last frame came at 10 s."""
    return replace(NOTHING, last_arrival=10.0, **changes)


@pytest.mark.parametrize(
    ('before', 'now', 'level', 'message'),
    [
        (NOTHING, NOTHING, WARN, 'waiting'),
        (NOTHING, summary(received=4, published=4), OK, 'active'),
        # Faster than the network is no fault.
        (NOTHING, summary(received=9, published=4, dropped={'replaced_by_newer': 5}), OK, 'active'),
        # Some frames bad: a warning. All of them: nothing comes out, an error with the reason.
        (
            NOTHING,
            summary(received=4, published=3, dropped={'short_data': 1}),
            WARN,
            'dropped 1 short_data',
        ),
        (
            NOTHING,
            summary(received=4, dropped={'short_data': 4}, last_error='too short'),
            ERROR,
            'rejected: 4 short_data; too short',
        ),
        # What was bad before the last report counts no more.
        (
            summary(received=4, dropped={'short_data': 4}),
            summary(received=8, published=4, dropped={'short_data': 4}),
            OK,
            'active',
        ),
        # After a reset the earlier counts are the larger ones.
        (
            summary(received=90, published=90, dropped={'too_old': 3}),
            summary(received=2, published=2),
            OK,
            'active',
        ),
    ],
)
def test_the_level_follows_what_happened_since_the_last_report(
    before: Summary, now: Summary, level: bytes, message: str
) -> None:
    status = input_status(before, now)
    assert (status.level, status.name) == (level, '/n: input')
    assert status.message.startswith(message)


def test_a_camera_that_stopped_is_stale_whatever_it_sent_before() -> None:
    now = summary(received=4, published=4)
    assert input_status(now, now, at=10.9).level == OK
    stale = input_status(now, now, at=11.1)
    assert (stale.level, stale.message) == (ERROR, 'stale: no image for 1.1 s')
    assert values(stale)['age_ms'] == '1100'


def test_a_node_that_does_not_listen_says_why_and_is_no_error() -> None:
    now = summary(received=4, dropped={'short_data': 4})
    status = input_status(now=now, listening='disabled', at=99.0)
    assert (status.level, status.message) == (OK, 'disabled')


def test_rates_are_those_of_the_nodes_clock() -> None:
    reported = values(input_status(summary(received=10), summary(received=30, published=5)))
    assert (reported['input_hz'], reported['output_hz']) == ('10.0', '2.5')
    status = diagnostics.input_status(
        '/n', '', summary(received=3), NOTHING, QosEvents(), SETTINGS, Interval(0.0, 10.5)
    )
    assert values(status)['input_hz'] == 'the clock stands still'


def test_every_reason_and_the_last_error_are_listed() -> None:
    statistics = Statistics()
    statistics.received(10.0)
    statistics.dropped('too_old', 'an old one')
    events = QosEvents()
    lost = SimpleNamespace(total_count_change=3)
    events.subscription_callbacks('/image').message_lost(lost)
    status = diagnostics.input_status(
        '/n', '', statistics.summary(), NOTHING, events, SETTINGS, Interval(1.0, 10.1)
    )
    reported = values(status)
    assert reported['dropped/too_old'] == '1'
    assert reported['last_error'] == 'an old one'
    assert reported['lost//image'] == '3'


@pytest.mark.parametrize(
    ('p99', 'level', 'message'),
    [(99.0, OK, 'p99 99.0 ms'), (101.0, WARN, 'above 100 ms'), (301.0, ERROR, 'above 300 ms')],
)
def test_the_time_of_a_frame_has_two_limits(p99: float, level: bytes, message: str) -> None:
    stages = {'total': Percentiles(1.0, 2.0, p99), 'infer': Percentiles(0.5, 0.6, 0.7)}
    status = diagnostics.time_status('/n', summary(stages=stages), SETTINGS)
    assert status.level == level
    assert message in status.message
    assert values(status)['infer_ms/p95'] == '0.60'
    assert diagnostics.time_status('/n', NOTHING, SETTINGS).level == OK


def output_status(now: Summary, listening: str = '') -> DiagnosticStatus:
    return diagnostics.output_status('/n', listening, now, SETTINGS, Interval(1.0, 10.1))


def test_images_without_masks_are_an_error() -> None:
    stuck = summary(last_published=8.5, last_error='out of memory', health=(HEALTHY,))
    status = output_status(stuck)
    assert status.level == ERROR
    assert status.message == 'no mask for 1.5 s, though images arrive; out of memory'
    assert output_status(stuck, listening='disabled').level == OK
    assert output_status(summary(last_published=9.5, health=(HEALTHY,))).level == OK
    # No image, no mask: that is the camera's fault, which "input" reports.
    assert output_status(summary(last_published=10.05, health=(HEALTHY,))).level == OK


@pytest.mark.parametrize(
    ('state', 'level', 'message'),
    [
        (HEALTHY, OK, 'plausible'),
        (replace(HEALTHY, dominant_class=10, dominant_share=0.99), ERROR, 'sky fills 99.0%'),
        (replace(HEALTHY, dominant_class=255, dominant_share=1.0), ERROR, 'unlabelled fills'),
        (replace(HEALTHY, dominant_class=77, unknown_ids=9), ERROR, '18 pixels of no class'),
    ],
)
def test_masks_that_are_none_are_an_error(state: Health, level: bytes, message: str) -> None:
    status = output_status(summary(health=(state, state)))
    assert status.level == level
    assert status.message.startswith(message)
    assert values(status)['mean_confidence'] == '0.900'
    assert values(status)['under_exposed_share'] == '0.100'


def test_one_covered_frame_among_many_is_no_collapse() -> None:
    covered = replace(HEALTHY, dominant_share=1.0)
    state = summary(health=(HEALTHY, HEALTHY, covered))
    assert output_status(state).level == OK


@pytest.fixture
def segmenter(channel_model: Path) -> Segmenter:
    return Segmenter.load(channel_model, 'onnxruntime', BackendOptions(threads=1))


def test_the_engine_says_what_runs(segmenter: Segmenter) -> None:
    status = diagnostics.engine_status('/n', 'active', segmenter, None, '')
    assert (status.level, status.message) == (OK, 'active')
    reported = values(status)
    assert reported['sha256'] == segmenter.backend.model.sha256
    assert reported['model'] == 'channels'
    assert reported['input_size'] == '48x32'
    assert (reported['backend'], reported['precision']) == ('onnxruntime', 'fp32')
    assert 'no reference' in reported['self_check']
    assert reported['why'] == 'asked for'


def test_the_engine_says_what_is_loaded_and_what_failed(segmenter: Segmenter) -> None:
    loading = Loading('building the engine, 40 %', 61.4)
    status = diagnostics.engine_status('/n', 'active', segmenter, loading, 'earlier')
    assert (status.level, status.message) == (WARN, 'loading for 61 s: building the engine, 40 %')
    assert values(status)['loading_s'] == '61.4'
    failed = diagnostics.engine_status('/n', 'active', segmenter, None, 'no memory')
    assert failed.level == ERROR
    assert 'the previous one drives on: no memory' in failed.message
    alone = diagnostics.engine_status('/n', 'inactive', None, None, 'no memory')
    assert 'drives on' not in alone.message
    assert diagnostics.engine_status('/n', 'unconfigured', None, None, '').level == WARN


def test_memory_that_grows_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert diagnostics.resident_mib() > 10
    monkeypatch.setattr(diagnostics, 'resident_mib', lambda: 900.0)
    assert diagnostics.memory_status('/n', None).level == OK
    assert diagnostics.memory_status('/n', 800.0).level == OK
    grown = diagnostics.memory_status('/n', 300.0)
    assert (grown.level, values(grown)['growth_mib']) == (WARN, '600')
