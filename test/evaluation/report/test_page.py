from __future__ import annotations

import base64
import re
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.core.labels import NAMES
from nightseg_ros.evaluation.report.page import write_page

KINDS = ('truth', 'no truth', 'replay', 'merged', 'empty')
SECTIONS = {
    'source', 'summary', 'timeline', 'worst', 'samples', 'classes', 'exposure', 'trust', 'speed',
    'drops', 'model', 'notes',
}  # fmt: skip
PLOTS = {
    'truth': {'timeline': 1, 'exposure': 1, 'trust': 2, 'speed': 2},
    'no truth': {'timeline': 1, 'exposure': 1, 'speed': 2},
    'replay': {'timeline': 1, 'exposure': 1, 'speed': 4},
    'merged': {'drives': 1, 'exposure': 1, 'trust': 2, 'speed': 2},
    'empty': {},
}
NO_TRUTH = 'no frame had a ground truth to compare with'


@pytest.mark.parametrize('kind', KINDS)
def test_every_section_has_its_plots_or_says_why_not(kind: str, pages, parse) -> None:
    page = parse(pages(kind))
    sections = SECTIONS | ({'drives'} if kind == 'merged' else set())
    assert sections <= page.text.keys()
    assert page.plots == PLOTS[kind]
    svgs = sum(PLOTS[kind].values())
    assert svgs <= page.captions
    # A plot without a line, a bar or a dot would be an empty one.
    drawn = re.findall(r'<svg.*?</svg>', pages(kind).read_text(), flags=re.S)
    assert len(drawn) == svgs
    assert all('var(--blue)' in svg or 'var(--violet)' in svg for svg in drawn)


@pytest.mark.parametrize(
    ('kind', 'section', 'reason'),
    [
        ('no truth', 'classes', f'Confusion matrix: left out, {NO_TRUTH}.'),
        ('no truth', 'trust', f'Reliability diagram: left out, {NO_TRUTH}.'),
        ('no truth', 'trust', f'Risk-coverage curve: left out, {NO_TRUTH}.'),
        ('no truth', 'summary', f'mIoU, mEF1, Pixel accuracy, ECE, AURC ({NO_TRUTH})'),
        (
            'truth',
            'summary',
            'Not known: Latency p50, Latency p95, Latency p99, Latency max, Age p99, Gap p99 '
            '(measured only in a replay against the live node).',
        ),
        ('truth', 'speed', 'Latency distribution: left out, measured only in a replay'),
        ('truth', 'speed', 'Age and gaps between masks: left out, measured only in a replay'),
        ('merged', 'timeline', 'Time line: left out, it belongs to a single drive'),
        ('empty', 'timeline', 'Time line: left out, no frame has a number to plot.'),
        ('empty', 'worst', 'Worst frames: left out, no frame has a mask to judge.'),
        ('empty', 'classes', 'Table of classes: left out, no mask came.'),
        ('empty', 'exposure', 'Exposure curves: left out'),
        ('empty', 'speed', 'Latency distribution: left out, no mask came.'),
        ('empty', 'speed', 'Memory over time: left out, memory was not sampled.'),
    ],
)
def test_what_is_left_out_is_explained(kind: str, section: str, reason: str, pages, parse) -> None:
    assert reason in parse(pages(kind)).section(section)


def test_the_summary_gives_numbers_with_intervals_and_a_verdict(pages, parse) -> None:
    summary = parse(pages('truth')).section('summary')
    for text in (
        'mIoU .42 [.38, .47] mean over 16 classes, 61 frames',
        'ECE .071 [.064, .078] over-confident: sure of .81, right in .73',
        'Dropped 2.0 % [1.8, 2.2] 1 of 62 frames',
        'Peak memory 812 MiB',
        '1\u2009000 replicates, resampled by frame',
    ):
        assert text in summary


def test_what_was_run_is_told(pages, parse) -> None:
    source = parse(pages('truth')).section('source')
    for text in ('/camera/image_raw', 'mcap, jazzy', '12.3 s', '10 Hz', 'offline', 'openvino'):
        assert text in source
    assert '/camera/labels, trainIds, 62 frames matched within 20.0 ms' in source


def test_trouble_is_loud_and_comes_first(pages, parse) -> None:
    text = pages('replay').read_text()
    page = parse(pages('replay'))
    before = page.section('')
    assert 'incomplete' in before
    assert '11.3 % of the frames got no mask' in before
    assert 'camera.db3 ends early' in before
    assert page.values('role').count('alert') == 2
    assert text.index('got no mask') < text.index('id="summary"')
    assert 'Latency p99 131 ms [102, 160] slower than the frames come (100 ms)' in page.section(
        'summary'
    )
    assert text.count('card paper alarm') == 2
    assert 'alert' not in parse(pages('truth')).values('role')


def test_many_problems_do_not_bury_the_page(make_page, parse) -> None:
    page = parse(make_page(problems=[f'problem {i}' for i in range(3000)]))
    assert '2\u2009992 more' in page.all_text
    assert page.all_text.count('problem ') <= 200
    assert 'The rest is in report.json.' in page.all_text


def test_tables_hold_the_numbers(pages, parse) -> None:
    tables = parse(pages('truth')).tables
    classes = tables['class-table']
    assert [row[0] for row in classes[1:]] == list(NAMES)
    assert classes[1][1:3] == ['.90', '[.85, .95]']
    assert classes[15][1:3] == ['–', '']
    assert tables['exposure-table'][1][:5] == ['[0.0, 0.1)', '.30', '[.25, .35]', '.20', '.70']
    assert len(tables['exposure-table']) == 11
    stages = [row[0] for row in tables['durations'][1:]]
    assert stages == ['decode', 'preprocess', 'infer', 'measure']
    assert tables['durations'][3][1:] == ['28.0 ms', '36.4 ms', '47.6 ms', '67.2 ms', '29.4 ms']
    assert ['queue full', '1', '1.6 %', ''] in tables['drops']
    assert ['licence', 'Research only'] in tables['model']
    assert ['SHA-256', 'a3' * 32] in tables['model']


def test_the_confusion_matrix_shows_shares_of_each_true_class(make_page, parse) -> None:
    confusion = np.zeros((19, 20), np.int64)
    confusion[0, 0], confusion[0, 13], confusion[10, 19] = 750, 250, 40
    header, road, sky = parse(make_page(confusion=confusion.tolist())).tables['classes']
    assert header == ['', 'road', 'sky', 'car', 'no class', '']
    assert road == ['road', '75', '', '25', '', '1\u2009000 px']
    assert sky == ['sky', '', '', '', '100', '40 px']


def test_replay_shows_the_stages_of_the_node_in_their_order(pages, parse) -> None:
    page = parse(pages('replay'))
    assert [row[0] for row in page.tables['durations'][1:]] == [
        'decode', 'preprocess', 'infer', 'postprocess', 'publish', 'end to end',
        'age of the frame', 'gap between masks',
    ]  # fmt: skip
    assert ['mailbox overwritten', '6', '9.7 %', ''] in page.tables['drops']
    assert ['damaged message', '2', '3.2 %', ''] in page.tables['drops']


def test_drives_are_listed_worst_first_and_linked(pages, parse) -> None:
    page = parse(pages('merged'))
    rows = page.tables['drive-table'][1:]
    assert len(rows) == 100
    assert rows[0][0] == 'drive_0007'  # not a single mask came
    assert [row[0] for row in rows].count('drive_0000') <= 1
    mious = [float(row[3]) for row in rows[1:] if row[3] != '–']
    assert len(mious) > 80
    assert mious == sorted(mious)
    assert 'The worst 100 of 140 drives; all of them are in report.csv.' in page.section('drives')
    assert 'drives/drive%200007/report.html' in page.values('href')
    assert '1 problem metadata.yaml is missing' in page.section('drives')
    assert 'incomplete' in page.section('drives')


def test_thousands_of_drives_stay_small(make_page, make_summary) -> None:
    path = make_page('merged', drives=make_summary('merged')['drives'] * 30)
    assert path.stat().st_size < 2_000_000


@pytest.mark.parametrize('kind', KINDS)
def test_pages_stand_alone(kind: str, pages, parse) -> None:
    path = pages(kind)
    page = parse(path)
    assert '://' not in path.read_text()
    links = page.values('href') + page.values('src') + page.values('xlink:href')
    for link in links:
        # Inside the page, a picture in it, the video beside it, or the page of a drive.
        assert re.match(r'(#|data:image/|overlay\.mp4$|drives/)', link), link[:80]
    anchors = {link[1:] for link in page.values('href', 'a') if link.startswith('#')}
    assert anchors <= set(page.values('id'))
    assert not {'script', 'iframe', 'object', 'link'} & {tag for tag, _, _ in page.attributes}
    ids = page.values('id')
    assert len(ids) == len(set(ids))
    referred = re.findall(r'url\(#([^)]+)\)', path.read_text())
    referred += [link[1:] for link in page.values('xlink:href')]
    assert set(referred) <= set(ids)


@pytest.mark.parametrize('kind', KINDS)
def test_nothing_unknown_is_shown_as_a_number(kind: str, pages, parse) -> None:
    assert not re.search(r'\b(nan|none|inf|null|undefined)\b', parse(pages(kind)).all_text, re.I)


@pytest.mark.parametrize('kind', ('truth', 'replay', 'merged'))
def test_every_picture_decodes_and_shows_something(kind: str, pages, parse) -> None:
    sources = parse(pages(kind)).values('src', 'img')
    panels = 6 if kind in ('truth', 'merged') else 4
    thumbnails = 0 if kind == 'merged' else 4
    assert len(sources) == 6 * panels + thumbnails
    for source in sources:
        data = base64.b64decode(source.partition('base64,')[2], validate=True)
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        # A confidence that is the same everywhere is one colour, but never black.
        assert picture.max() > 40


def test_everything_given_is_escaped(tmp_path: Path, make_summary, make_rows, make_sheets) -> None:
    evil = '"><script>alert(1)</script>$\\frac{$'
    summary = make_summary('merged')
    for drive in summary['drives']:
        drive.update(name=evil, folder=f'javascript:alert(1)//{evil}', problems=[evil])
    source = {**summary['source'], 'bag': evil, 'camera': evil}
    stages = {evil: summary['stages_ms']['infer']}
    summary.update(
        title=evil, model=evil, backend=evil, notes=[evil], warnings=[evil],
        problems=[evil], source=source, model_card={evil: evil},
        drops={evil: 3}, video=f'javascript:{evil}', stages_ms=stages,
    )  # fmt: skip
    sheets = make_sheets(make_rows(), (3,), drive=evil)
    write_page(tmp_path / 'report.html', summary, {}, sheets, sheets)
    text = (tmp_path / 'report.html').read_text()
    assert '<script' not in text
    assert text.count('&lt;script&gt;') > 10
    assert not re.search(r'(href|src)="javascript:', text)


def test_the_video_is_linked_beside_the_page(pages, parse) -> None:
    assert parse(pages('truth')).values('src', 'video') == ['overlay.mp4']
    assert parse(pages('replay')).values('src', 'video') == []


def test_thumbnails_lead_to_their_sheets(pages, parse) -> None:
    page = parse(pages('truth'))
    samples = [link for link in page.values('href', 'a') if link.startswith('#sample-')]
    assert samples == ['#sample-0', '#sample-1', '#sample-2', '#sample-3']
    assert 'frame 4' in page.section('samples')


def test_a_long_drive_gives_a_small_page_fast(
    tmp_path: Path, make_summary, make_rows, make_sheets
) -> None:
    rows = make_rows(200_000, live=True)
    rows['received'][1000:90_000:3] = 0
    rows['latency_ms'][123_456] = 5000.0
    sheets = make_sheets(rows, (5, 100_000, 199_999))
    start = time.perf_counter()
    write_page(tmp_path / 'report.html', make_summary(frames=200_000), rows, sheets, sheets)
    assert time.perf_counter() - start < 8.0
    assert (tmp_path / 'report.html').stat().st_size < 1_500_000
