from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.evaluation import report as report_module
from nightseg_ros.evaluation.report import EvaluatedFrame
from nightseg_ros.evaluation.report import Run
from nightseg_ros.evaluation.report import write_report
from nightseg_ros.evaluation.video import VideoError

HEIGHT, WIDTH = 48, 64
FILES = {'report.json', 'report.csv', 'report.html', 'overlay.mp4'}


def make_frame(index: int, **changes) -> EvaluatedFrame:
    """Return a frame whose left half is road, rightly seen, and whose right half is sky."""
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    truth[:, WIDTH // 2 :] = 10
    fields = {
        'index': index,
        'stamp_ns': 1_000_000_000 + index * 100_000_000,
        'image': np.full((HEIGHT, WIDTH, 3), 40 + index, np.uint8),
        'labels': truth.copy(),
        'confidence': np.full((HEIGHT, WIDTH), 255, np.uint8),
        'exposure': np.zeros((HEIGHT, WIDTH), np.uint8),
        'truth': truth,
        'latency_ms': 10.0 + index,
    }
    return EvaluatedFrame(**{**fields, **changes})


def dropped(index: int) -> EvaluatedFrame:
    nothing = dict.fromkeys(('labels', 'confidence', 'exposure', 'latency_ms'))
    return make_frame(index, **nothing)


def make_run(frames: int, **changes) -> Run:
    fields = {
        'title': 'A <title>',
        'source': 'some drive',
        'model': 'student',
        'backend': 'openvino',
        'frames': frames,
        'rate_hz': 10.0,
        'notes': ('a note',),
        'model_card': {'licence': 'Research only'},
    }
    return Run(**{**fields, **changes})


def strict_json(path: Path) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f'{constant} is no JSON')

    return json.loads(path.read_text(), parse_constant=refuse)


def test_the_numbers_are_those_of_the_frames(tmp_path: Path) -> None:
    half_wrong = make_frame(1, labels=np.zeros((HEIGHT, WIDTH), np.uint8))
    lit = np.zeros((HEIGHT, WIDTH), np.uint8)
    lit[: HEIGHT // 4] = 2
    frames = [make_frame(0), half_wrong, make_frame(2, exposure=lit), dropped(3)]
    report = write_report(frames, make_run(4), tmp_path)
    assert report == strict_json(tmp_path / 'report.json')
    assert (report['frames'], report['received'], report['dropped']) == (4, 3, 1)
    # Road: 3 halves right of 4 claimed; sky: 2 halves right of 3.
    assert report['miou'] == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert report['latency_ms']['p50'] == pytest.approx(11.0)
    assert report['latency_ms']['max'] == pytest.approx(12.0)
    assert report['exposure']['over_share'] == pytest.approx(0.25 / 3)
    assert report['confidence_mean'] == pytest.approx(1.0)
    assert report['dominant_class']['name'] == 'road'
    by_name = {c['name']: c for c in report['classes']}
    assert by_name['road']['iou'] == pytest.approx(3 / 4)
    assert by_name['car']['iou'] is None
    assert by_name['sky']['support_pixels'] == 3 * HEIGHT * WIDTH // 2
    assert report['model_card'] == {'licence': 'Research only'}


def test_every_file_is_there_and_complete(tmp_path: Path) -> None:
    write_report([make_frame(i) for i in range(6)], make_run(6), tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == FILES
    rows = list(csv.DictReader((tmp_path / 'report.csv').open()))
    assert len(rows) == 6
    video = cv2.VideoCapture(str(tmp_path / 'overlay.mp4'))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 6
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert video.read()[0]


def test_the_page_stands_alone_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    write_report([make_frame(i) for i in range(3)], make_run(3), tmp_path)
    page = (tmp_path / 'report.html').read_text()
    assert not re.search(r'(src|href)\s*=\s*["\']?(https?:)?//', page)
    assert 'A &lt;title&gt;' in page
    assert '<title>A <title>' not in page
    assert page.count('data:image/') >= 6
    for word in ('Latency', 'Exposure', 'Confidence', 'Sample frames', 'a note', 'Research only'):
        assert word in page


def test_drops_and_a_dominant_class_are_shown_in_alarm(tmp_path: Path) -> None:
    road = np.zeros((HEIGHT, WIDTH), np.uint8)
    frames = [make_frame(0, labels=road), dropped(1)]
    report = write_report(frames, make_run(2), tmp_path)
    page = (tmp_path / 'report.html').read_text()
    assert len(report['warnings']) == 2
    assert 'got no mask' in report['warnings'][0]
    assert 'road' in report['warnings'][1]
    assert 'got no mask' in page


@pytest.mark.parametrize(
    'frames',
    [
        pytest.param([], id='no frames'),
        pytest.param([dropped(0), dropped(1)], id='all dropped'),
        pytest.param([make_frame(0, truth=None), make_frame(1, truth=None)], id='no truth'),
    ],
)
def test_little_to_report_is_reported(tmp_path: Path, frames: list[EvaluatedFrame]) -> None:
    write_report(frames, make_run(len(frames)), tmp_path)
    report = strict_json(tmp_path / 'report.json')
    assert report['miou'] is None
    assert (tmp_path / 'report.html').stat().st_size > 1000


def test_frames_may_change_their_size(tmp_path: Path) -> None:
    small = make_frame(1)
    small = make_frame(
        1,
        **{
            name: np.ascontiguousarray(getattr(small, name)[::2, ::2])
            for name in ('image', 'labels', 'confidence', 'exposure', 'truth')
        },
    )
    report = write_report([make_frame(0), small], make_run(2), tmp_path)
    assert report['miou'] == 1.0


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    bad = make_frame(0, labels=np.zeros((5, 7), np.uint8))
    with pytest.raises(ValueError, match=r'(?s)5.*7.*48.*64|48.*64.*5.*7|7x5.*64x48|5x7.*48x64'):
        write_report([bad], make_run(1), tmp_path)


def test_an_interruption_leaves_the_earlier_report_alone(tmp_path: Path) -> None:
    write_report([make_frame(0)], make_run(1), tmp_path)
    before = (tmp_path / 'report.json').read_bytes()

    def broken() -> Iterator[EvaluatedFrame]:
        yield make_frame(0)
        yield make_frame(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(broken(), make_run(2), tmp_path)
    assert (tmp_path / 'report.json').read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == FILES


def test_without_a_codec_there_is_still_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise VideoError('no ffmpeg found')

    monkeypatch.setattr('nightseg_ros.evaluation.video.find_ffmpeg', fail)
    report = write_report([make_frame(0)], make_run(1), tmp_path)
    assert any('no ffmpeg found' in note for note in report['notes'])
    assert not (tmp_path / 'overlay.mp4').exists()


def test_memory_stays_flat_however_long_the_drive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the sampled and the worst frames may be kept."""
    alive = set()

    class Counted(np.ndarray):
        def __del__(self) -> None:
            alive.discard(id(self))

    most = 0

    def frames() -> Iterator[EvaluatedFrame]:
        nonlocal most
        for index in range(60):
            image = np.full((HEIGHT, WIDTH, 3), index, np.uint8).view(Counted)
            alive.add(id(image))
            yield make_frame(index, image=image)
            del image
            most = max(most, len(alive))

    write_report(frames(), make_run(60), tmp_path)
    assert most <= report_module.SAMPLES + report_module.WORST + 3
