from __future__ import annotations

import pytest

from nightseg_ros.evaluation.report.drives import drive_plot
from nightseg_ros.evaluation.report.drives import drive_table


def drive(name: str, frames: int = 10, folder: str | None = None, **metrics: float | None) -> dict:
    return {
        'name': name,
        'folder': folder,
        'frames': frames,
        'truth_frames': 0,
        'complete': True,
        'metrics': metrics,
        'problems': [],
    }


@pytest.mark.parametrize(
    ('drives', 'order', 'ranked_by'),
    [
        (
            [drive('a', miou=0.5), drive('b', miou=0.2), drive('c'), drive('d', dropped_share=1.0)],
            'dbac',
            'lowest mIoU',
        ),
        (
            [drive('a', flicker=0.1), drive('b', flicker=0.3), drive('c', frames=0)],
            'cba',
            'highest Flicker',
        ),
        ([drive('b', p99_ms=9.0), drive('a', p99_ms=9.0)], 'ab', 'highest Latency p99'),
        ([drive('b'), drive('a', miou=None)], 'ab', 'lowest mIoU'),
    ],
)
def test_the_worst_come_first(drives: list[dict], order: str, ranked_by: str) -> None:
    table = drive_table(drives)
    assert ''.join(row.name for row in table.rows) == order
    assert table.ranked_by == ranked_by
    assert table.total == len(drives)


@pytest.mark.parametrize(
    ('folder', 'link'),
    [
        ('drives/a b', 'drives/a%20b/report.html'),
        ('drives/a/', 'drives/a/report.html'),
        ('javascript:x', 'javascript%3Ax/report.html'),
        ('/etc', None),
        ('//evil.example', None),
        (None, None),
    ],
)
def test_links_lead_only_beside_the_page(folder: str | None, link: str | None) -> None:
    assert drive_table([drive('a', folder=folder)]).rows[0].link == link


def test_dots_lie_on_one_scale_per_column() -> None:
    table = drive_table([drive('a', miou=0.2, p99_ms=50.0), drive('b', miou=0.4, p99_ms=100.0)])
    assert table.titles == ('mIoU', 'Latency p99')
    places = [[cell.place for cell in row.cells] for row in table.rows]
    assert places == [[0.2, 0.5], [0.4, 1.0]]


def test_a_single_drive_is_not_plotted() -> None:
    assert drive_plot([drive('a', miou=0.5), drive('b')]) is None
    assert drive_plot([drive('a', miou=0.5), drive('b', miou=0.4)]) is not None
