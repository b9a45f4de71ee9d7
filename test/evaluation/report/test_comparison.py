from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightseg_ros.evaluation.report.comparison import compare
from nightseg_ros.evaluation.report.comparison import write_comparison
from nightseg_ros.evaluation.report.significance import difference
from nightseg_ros.evaluation.report.significance import holm

COUNT = 1000


def shifted(report: dict, changes: dict[str, float], noise: float = 0.0) -> dict:
    """Return a report whose metrics, replicates and all, are moved by so much."""
    rng = np.random.default_rng(2)
    metrics, values = dict(report['metrics']), dict(report['bootstrap']['values'])
    for name, change in changes.items():
        metrics[name] += change
        draws = np.array(values[name]) + change + rng.normal(0, noise, COUNT)
        values[name] = draws.tolist()
    bootstrap = {**report['bootstrap'], 'values': values}
    return {**report, 'metrics': metrics, 'bootstrap': bootstrap}


def verdicts(a: dict, b: dict) -> dict[str, str]:
    return {metric.name: metric.verdict for metric in compare(a, b).metrics}


def test_a_report_does_not_differ_from_itself(make_summary) -> None:
    comparison = compare(make_summary(), make_summary())
    assert comparison.paired
    assert comparison.warnings == ()
    for metric in comparison.metrics:
        assert metric.difference == 0
        assert metric.verdict in ('no significant difference', 'not tested')
        assert metric.p_holm in (1.0, None)
    assert not any(setting.differs for setting in comparison.settings)


def test_directions_are_respected(make_summary) -> None:
    a = make_summary()
    moved = {'miou': 0.02, 'ece': 0.02, 'flicker': -0.009, 'fps': -2.0, 'confidence': 0.03}
    found = verdicts(a, shifted(a, moved, noise=1e-4))
    assert {name: found[name] for name in moved} == {
        'miou': 'better',
        'ece': 'worse',
        'flicker': 'better',
        'fps': 'worse',
        'confidence': 'different',
    }
    assert found['accuracy'] == 'no significant difference'
    assert found['peak_mib'] == 'not tested'  # it has no replicates


def test_pairing_finds_what_independent_frames_do_not(make_summary) -> None:
    a = make_summary()
    b = shifted(a, {'miou': 0.01}, noise=1e-3)
    assert verdicts(a, b)['miou'] == 'better'
    b['bootstrap'] = {**b['bootstrap'], 'frames_sha256': '0' * 64}
    comparison = compare(a, b)
    assert not comparison.paired
    miou = comparison.metrics[0]
    assert miou.verdict == 'no significant difference'
    assert any('Different frames' in warning for warning in comparison.warnings)
    # Independent: the variances of both add up.
    spread = np.std(a['bootstrap']['values']['miou']) * np.sqrt(2)
    assert miou.interval is not None
    assert miou.interval[1] - miou.interval[0] == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert comparison == compare(a, b)


def test_replicates_without_a_value_are_left_out(make_summary) -> None:
    a, b = make_summary(), make_summary()
    b = shifted(a, {'miou': 0.02}, noise=1e-4)
    b['bootstrap']['values']['miou'][:300] = [None] * 300
    assert verdicts(a, b)['miou'] == 'better'
    b['bootstrap']['values']['miou'][:700] = [None] * 700
    assert verdicts(a, b)['miou'] == 'not tested'


@pytest.mark.parametrize(
    ('change', 'warning'),
    [
        ({'mode': 'replay'}, r'Different modes \(offline and replay\)'),
        ({'complete': False}, 'B is incomplete'),
        ({'truth_frames': 0}, 'B has no ground truth'),
        ({'truth_frames': 40}, r'different numbers of frames with truth \(61 and 40\)'),
    ],
)
def test_what_makes_it_unfair_is_said(change: dict, warning: str, make_summary) -> None:
    warnings = compare(make_summary(), make_summary(**change)).warnings
    assert any(re.search(warning, text) for text in warnings)


def test_other_label_formats_and_rates_are_warned_about(make_summary) -> None:
    a, b = make_summary(), make_summary()
    b['source']['truth']['format'] = 'colors'
    assert any('label formats (trainIds and colors)' in text for text in compare(a, b).warnings)
    slow = make_summary('replay', rate_hz=5.0)
    assert any('different rates' in text for text in compare(make_summary('replay'), slow).warnings)


def test_too_few_replicates_are_told(make_summary) -> None:
    a = make_summary()
    a['bootstrap'].update(
        replicates=100, values={n: v[:100] for n, v in a['bootstrap']['values'].items()}
    )
    assert any('too few' in note for note in compare(a, a).notes)
    assert not any('too few' in note for note in compare(make_summary(), make_summary()).notes)


def remove(key: str):
    return lambda report: {k: v for k, v in report.items() if k != key}


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda report: [], 'B is no report.json of an evaluation: give the file it wrote'),
        (lambda report: {}, 'B is no report.json'),
        (lambda report: {**report, 'version': 2}, r'version 2, but only version 1.*evaluate'),
        (remove('bootstrap'), 'B is no report.json'),
        (remove('exposure_bins'), 'B is damaged, it lacks exposure_bins: evaluate the drive again'),
        (lambda report: {**report, 'classes': None}, 'lacks classes'),
        (remove('model_sha256'), 'lacks model_sha256'),
        (lambda report: {**report, 'bootstrap': {}}, 'lacks bootstrap.replicates'),
        (lambda report: {**report, 'metrics': {'miou': 'x'}}, "'x' as miou is no finite number"),
        (lambda report: {**report, 'metrics': {'miou': float('nan')}}, 'no finite number'),
        (
            lambda report: {**report, 'bootstrap': {**report['bootstrap'], 'replicates': 7}},
            '1000 replicates of miou instead of 7',
        ),
    ],
)
def test_what_is_no_report_is_refused(spoil, message: str, make_summary, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_comparison(make_summary(), spoil(make_summary()), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('kind', ['truth', 'no truth', 'replay', 'merged', 'empty'])
def test_every_report_can_be_compared_with_every_other(
    kind: str, make_summary, tmp_path: Path, parse
) -> None:
    content = write_comparison(make_summary(), make_summary(kind), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {'comparison.html', 'comparison.json'}
    stored = json.loads((tmp_path / 'comparison.json').read_text(), parse_constant=pytest.fail)
    assert stored == json.loads(json.dumps(content))
    page = parse(tmp_path / 'comparison.html')
    assert not re.search(r'\b(nan|none|inf|null)\b', page.all_text, re.I)
    assert '://' not in (tmp_path / 'comparison.html').read_text()
    assert {'verdict', 'metrics', 'plots', 'settings'} <= page.text.keys()
    assert page.plots['plots'] >= 4


def test_the_page_shows_both_and_their_difference(make_summary, tmp_path: Path, parse) -> None:
    a = make_summary(title='A <script>')
    b = {**shifted(a, {'miou': 0.03}, noise=1e-3), 'title': 'INT8 $x$', 'backend': 'onnxruntime'}
    write_comparison(a, b, tmp_path)
    page = parse(tmp_path / 'comparison.html')
    row = next(r for r in page.tables['metric-table'] if r[0].startswith('mIoU'))
    assert row[1:3] == ['.424[.382, .466]', '.454[.382, .466]']
    assert row[3].startswith('+.030[.02')
    assert row[-1] == 'better'
    assert 'B is better 1 mIoU' in page.section('verdict')
    assert ['Backend', 'openvino (fastest installed)', 'onnxruntime'] in page.tables['settings']
    assert page.values('class', 'tr').count('differs') == 2
    assert '<script' not in (tmp_path / 'comparison.html').read_text()
    assert page.plots['plots'] == 5


def test_reports_without_truth_leave_out_what_needs_one(make_summary, tmp_path, parse) -> None:
    write_comparison(make_summary('no truth'), make_summary('no truth'), tmp_path)
    page = parse(tmp_path / 'comparison.html')
    assert page.plots['plots'] == 1
    assert 'IoU per class: left out, neither report has a ground truth.' in page.section('plots')


@given(
    shift=st.floats(-3, 3),
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(20, 300),
)
def test_p_and_interval_agree_and_do_not_depend_on_the_order(shift, seed, count) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, 1, count), rng.normal(shift, 1, count)
    forth, back = difference(a, b), difference(b, a)
    assert forth is not None
    assert back is not None
    assert 0 < forth.p <= 1
    assert forth.p == pytest.approx(back.p)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    if forth.p < 0.03:
        assert forth.low > 0 or forth.high < 0
    if forth.p > 0.07 + 4 / count:
        assert forth.low <= 0 <= forth.high


def test_under_no_difference_p_is_uniform() -> None:
    """With normal estimates the share of p below alpha must be about alpha."""
    rng = np.random.default_rng(4)
    found = []
    for _ in range(800):
        truth = rng.normal(0, 1)
        test = difference(np.zeros(400), rng.normal(truth, 1, 400))
        assert test is not None
        found.append(test.p)
    for alpha in (0.05, 0.2, 0.5):
        assert np.mean(np.array(found) <= alpha) == pytest.approx(alpha, abs=0.04)


@pytest.mark.parametrize(
    ('a', 'b', 'p'),
    [
        (np.zeros(99), np.ones(99), 2 / 100),
        (np.zeros(99), np.zeros(99), 1.0),
        (np.zeros(4), np.array([1, 1, 1, -1.0]), 2 * 2 / 5),
        (np.zeros(4), np.array([1, 1, 1, np.nan]), 2 * 1 / 4),
    ],
)
def test_known_p_values(a, b, p: float) -> None:
    assert difference(a, b).p == pytest.approx(p)


def test_differences_need_replicates() -> None:
    assert difference(np.zeros(0), np.zeros(0)) is None
    assert difference(np.zeros(4), np.array([1, np.nan, np.nan, np.nan])) is None
    with pytest.raises(ValueError, match='must have as many'):
        difference(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize(
    ('p', 'corrected'),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.9, 0.8], [1.0, 1.0]),
    ],
)
def test_holm_as_in_the_books(p: list[float], corrected: list[float]) -> None:
    assert holm(p) == pytest.approx(corrected)


@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_lies_between_nothing_and_bonferroni(p: list[float]) -> None:
    corrected = holm(p)
    for one, held in zip(p, corrected, strict=True):
        assert one <= held <= min(1.0, len(p) * one) + 1e-12
    order = np.argsort(p, kind='stable')
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
