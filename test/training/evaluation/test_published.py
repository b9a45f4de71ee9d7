from __future__ import annotations

import pytest

from training.evaluation.published import DATASETS
from training.evaluation.published import RESULTS
from training.evaluation.published import PublishedResult
from training.evaluation.published import published


def _row(dataset: str, method: str, trained_on: str | None = None) -> PublishedResult:
    (row,) = [
        r for r in published(dataset) if r.method == method and trained_on in (None, r.trained_on)
    ]
    return row


@pytest.mark.parametrize(
    ('dataset', 'method', 'miou'),
    [
        ('dark_zurich_test', 'MGCDA', 42.5),
        ('dark_zurich_test', 'DANNet (PSPNet)', 45.2),
        ('dark_zurich_test', 'Bi-Mix (RefineNet)', 46.5),
        ('dark_zurich_test', 'Refign-HRDA*', 63.9),
        ('dark_zurich_val', 'MGCDA', 26.10),
        ('dark_zurich_val', 'DANNet (PSPNet)', 36.76),
        ('dark_zurich_val', 'Bi-Mix (RefineNet)', 33.4),
        ('nighttime_driving', 'DANNet (PSPNet)', 47.70),
        ('nighttime_driving', 'CDAda (RefineNet)', 50.9),
        ('nightcity', 'FDLNet', 54.6),
        ('nightcity_fine', 'DTP', 64.2),
    ],
)
def test_known_numbers(dataset: str, method: str, miou: float) -> None:
    assert _row(dataset, method).miou == miou


def test_classes_of_single_rows() -> None:
    # Bus is the fifteenth trainId: hardly anybody finds the one in the test set.
    assert _row('dark_zurich_test', 'DANNet (PSPNet)').class_iou[15] == 0.0
    assert _row('dark_zurich_test', 'Bi-Mix (RefineNet)').class_iou[17] == 47.4


def test_egnet() -> None:
    row = _row('nightcity', 'EGNet', 'NightCity')
    assert (row.miou, row.mean_ef1) == (51.8, 0.88)
    assert row.ef1[0] == 0.8690
    assert row.ef1[-1] == 0.9155
    assert _row('nightcity', 'EGNet', 'Cityscapes and NightCity').miou == 53.9


@pytest.mark.parametrize('row', [r for r in RESULTS if r.class_iou], ids=lambda r: r.method)
def test_class_mean_is_the_printed_miou(row: PublishedResult) -> None:
    assert len(row.class_iou) == 19
    assert sum(row.class_iou) / 19 == pytest.approx(row.miou, abs=0.1)


@pytest.mark.parametrize('row', [r for r in RESULTS if r.ef1], ids=lambda r: r.method)
def test_bin_mean_is_the_printed_mean(row: PublishedResult) -> None:
    assert len(row.ef1) == 10
    # CCNet's two tables contradict one another by .023.
    tolerance = 0.025 if row.method == 'CCNet' else 0.0075
    assert sum(row.ef1) / 10 == pytest.approx(row.mean_ef1, abs=tolerance)


@pytest.mark.parametrize('dataset', DATASETS)
def test_only_comparable_rows_best_first(dataset: str) -> None:
    rows = published(dataset)
    assert {row.dataset for row in rows} <= {dataset}
    assert [row.miou for row in rows] == sorted((row.miou for row in rows), reverse=True)
    assert all(row.source and row.trained_on for row in rows)


def test_every_row_is_found_once() -> None:
    assert sum(len(published(dataset)) for dataset in DATASETS) == len(RESULTS)
    keys = [(row.dataset, row.method, row.trained_on) for row in RESULTS]
    assert len(set(keys)) == len(keys)


def test_versions_of_nightcity_are_apart() -> None:
    assert published('nightcity_plus') == ()
    assert [row.method for row in published('nightcity_fine')] == ['DTP']
