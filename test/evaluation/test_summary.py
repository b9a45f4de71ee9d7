from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from nightseg_ros.core.bootstrap import REPLICATES
from nightseg_ros.evaluation.counts import VECTOR_SIZE
from nightseg_ros.evaluation.counts import Counts
from nightseg_ros.evaluation.drive import DriveFacts
from nightseg_ros.evaluation.drive import DriveResult
from nightseg_ros.evaluation.drive import Observations
from nightseg_ros.evaluation.rows import COLUMNS
from nightseg_ros.evaluation.summary import ALL_METRICS
from nightseg_ros.evaluation.summary import latency_percentiles
from nightseg_ros.evaluation.summary import summarise
from nightseg_ros.evaluation.together import columns_of
from nightseg_ros.evaluation.together import put_together


def result(frames: int = 20, **changes) -> DriveResult:
    """Return a drive with masks and no truth; changes are columns, counts, observations, facts."""
    columns = {name: np.full(frames, np.nan) for name in COLUMNS}
    columns['index'] = np.arange(frames, dtype=float)
    columns['received'], columns['truth'] = np.ones(frames), np.zeros(frames)
    columns['dominant_share'] = np.full(frames, 0.5)
    seen = Observations(complete=True, frames=frames, wall_s=2.0)
    facts = DriveFacts(
        'a drive', 'offline', 'bag', '/camera', 'mcap', None, frames, 10.0, None, 'm', 'sha', 'cpu'
    )
    counts = Counts.zeros()
    counts.predicted[:2] = (600, 400)
    for name, value in changes.items():
        if name in columns:
            columns[name] = np.asarray(value, float)
        elif hasattr(seen, name):
            setattr(seen, name, value)
        elif hasattr(counts, name):
            getattr(counts, name)[:] = value
        else:
            facts = dataclasses.replace(facts, **{name: value})
    stamps = np.arange(frames, dtype=np.int64) * 100_000_000
    return DriveResult(
        facts, seen, counts, np.zeros((REPLICATES, VECTOR_SIZE)), stamps, columns, [], []
    )


def summary_of(*results: DriveResult) -> dict:
    return summarise(put_together(results))


def test_a_summary_is_json_with_every_metric() -> None:
    summary = summary_of(result())
    assert tuple(summary['metrics']) == ALL_METRICS
    json.dumps(summary, allow_nan=False)
    assert summary['metrics']['miou'] is None
    assert summary['metrics']['fps'] == 10.0
    assert summary['dominant_class'] == {'name': 'road', 'share': 0.6}
    assert not summary['warnings']


GONE = np.array([1.0] * 10 + [0.0] * 10)


@pytest.mark.parametrize(
    ('changes', 'warning'),
    [
        ({'received': GONE}, '50.0 % of the frames got no mask'),
        ({'received': np.zeros(20)}, 'No mask came at all'),
        ({'predicted': [999] + [0] * 18 + [1]}, '99.9 % of all pixels were predicted as "road"'),
        ({'predicted': [1] + [0] * 18 + [999]}, '99.9 % of all pixels were given no class'),
        ({'dominant_share': [0.99] * 2 + [0.4] * 18}, 'In 10.0 % of the masks one class fills'),
        ({'complete': False}, 'not complete'),
        ({'received': GONE, 'unreadable': {'bad_step': 10}}, '10 of 20 images could not be used'),
        ({'memory': [(0.0, 300.0), (9.0, 900.0)]}, 'The memory of the evaluator grew by 600 MiB'),
    ],
)
def test_what_is_wrong_is_said(changes: dict, warning: str) -> None:
    warnings = summary_of(result(**changes))['warnings']
    assert any(warning in text for text in warnings), warnings


@pytest.mark.parametrize(
    ('observed', 'warning'),
    [
        ({'truth_matched': 0}, 'No label of /labels lies within 10 ms'),
        ({'truth_matched': 5}, 'No label of /labels could be used'),
        ({'truth_matched': 5, 'truth_refused': {'jpeg': 5}}, 'refused: jpeg 5'),
        ({'truth_matched': 5}, 'taken for labelIds'),
    ],
)
def test_doubts_about_the_truth_are_said(observed: dict, warning: str) -> None:
    truth = {'name': '/labels', 'format': 'labelIds', 'assumed': True, 'tolerance_ms': 10.0}
    drive = result(**observed)
    drive = dataclasses.replace(drive, facts=dataclasses.replace(drive.facts, truth=truth))
    warnings = summary_of(drive)['warnings']
    assert any(warning in text for text in warnings), warnings


def test_drops_and_latency_have_intervals() -> None:
    drive = result(200, received=[1.0] * 150 + [0.0] * 50, latency_ms=np.linspace(10, 60, 200))
    summary = summary_of(drive)
    for name in ('dropped_share', 'p50_ms', 'p99_ms'):
        low, high = summary['intervals'][name]
        assert low <= summary['metrics'][name] <= high
        assert low < high
    assert summary['intervals']['dropped_share'] == pytest.approx((0.19, 0.31), abs=0.015)
    assert 'age_p99_ms' not in summary['intervals']


def test_which_frames_were_compared_is_part_of_the_report() -> None:
    digests = {
        summary_of(drive)['bootstrap']['frames_sha256']
        for drive in (result(), result(received=GONE), result(truth=GONE), result(bag='other'))
    }
    assert len(digests) == 4
    assert summary_of(result())['bootstrap']['frames_sha256'] in digests


def test_several_drives_are_added_up() -> None:
    first, second = result(20), result(10, bag='other', unreadable={'bad_step': 1})
    both = summary_of(first, second)
    assert both['frames'] == 30
    assert both['source']['bag'] == 'bag, other'
    assert both['unreadable'] == {'bad_step': 1}
    assert both['dominant_class'] == {'name': 'road', 'share': 0.6}
    assert both['title'] == '2 drives'
    columns = columns_of(put_together([first, second]).drives)
    assert columns['time_s'].tolist() == pytest.approx(
        [i / 10 for i in range(20)] + [i / 10 for i in range(10)]
    )


def test_nothing_cannot_be_put_together() -> None:
    with pytest.raises(ValueError, match='no drive'):
        put_together([])


def test_percentiles_leave_out_what_is_not_known() -> None:
    assert latency_percentiles(np.array([1.0, math.nan, 3.0]))['p50'] == 2.0
    assert latency_percentiles(np.full(3, np.nan))['p99'] is None
