from __future__ import annotations

import pytest

from nightseg_ros.evaluation.thresholds import Threshold
from nightseg_ros.evaluation.thresholds import ThresholdError
from nightseg_ros.evaluation.thresholds import failures


@pytest.mark.parametrize(
    ('text', 'upper', 'value', 'failure'),
    [
        ('miou=0.4', False, 0.4, None),
        ('miou=0.4', False, 0.39, 'miou is 0.39, under 0.4'),
        ('p99_ms=120', True, 120.0, None),
        ('p99_ms=120', True, 121.5, 'p99_ms is 121.5, over 120'),
        ('p99_ms=120', True, None, 'p99_ms is not known, and must not be over 120'),
        ('miou=0.4', False, None, 'miou is not known, and must not be under 0.4'),
    ],
)
def test_a_limit_is_kept_or_said_to_be_broken(text, upper, value, failure) -> None:
    threshold = Threshold.parse(text, upper)
    assert threshold.failure({'metrics': {threshold.metric: value}}) == failure


@pytest.mark.parametrize('text', ['miou', 'miou=', 'miou=high', 'miou=nan', '=3'])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ThresholdError, match='is no limit|there is no metric'):
        Threshold.parse(text, upper=False)


def test_an_unknown_metric_is_answered_with_those_there_are() -> None:
    with pytest.raises(ThresholdError, match="no metric 'iou': miou, accuracy"):
        Threshold.parse('iou=1', upper=False)


def test_all_failures_are_told() -> None:
    limits = [Threshold.parse('miou=0.5', False), Threshold.parse('flicker=0.1', True)]
    report = {'metrics': {'miou': 0.1, 'flicker': 0.2}}
    assert len(failures(limits, report)) == 2
