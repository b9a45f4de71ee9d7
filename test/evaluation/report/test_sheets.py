from __future__ import annotations

import base64
import dataclasses
import json
import math

import cv2
import numpy as np
import pytest

from nightseg_ros.core.labels import CLASSES
from nightseg_ros.evaluation.report.sheets import Sheet
from nightseg_ros.evaluation.report.sheets import make_sheet

ROW = {
    'time_s': 1.2, 'miou': 0.42, 'accuracy': 0.9, 'confidence': 0.81, 'flicker': math.nan,
    'latency_ms': 40.0, 'under_share': 0.5, 'over_share': 0.25,
}  # fmt: skip


def decode(uri: str):
    data = base64.b64decode(uri.partition('base64,')[2], validate=True)
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB)


def test_a_sheet_says_and_shows_what_the_frame_is(make_frame) -> None:
    sheet = make_sheet(make_frame(7), ROW)
    assert sheet.facts == (
        'frame 7', '1.2 s', 'stamp 1.700 s', 'mIoU .42', 'accuracy .90', 'confidence .81',
        'latency 40.0\u00a0ms',
    )  # fmt: skip
    assert (sheet.index, sheet.time_s, sheet.quality) == (7, 1.2, 0.42)
    assert [panel.title for panel in sheet.panels] == [
        'Input', 'Prediction', 'Truth', 'Error', 'Confidence', 'Exposure',
    ]  # fmt: skip
    assert 'blue too dark 50.0\u00a0%, orange too bright 25.0\u00a0%' in sheet.panels[-1].caption
    assert [(chip.name, round(chip.share, 2)) for chip in sheet.chips] == [
        ('road', 0.67),
        ('sky', 0.33),
    ]


def test_error_is_red_where_wrong_green_where_right_dark_where_unknown(make_frame) -> None:
    frame = make_frame(image=np.full((96, 128, 3), 120, np.uint8))
    truth = np.zeros((96, 128), np.uint8)
    truth[:32], truth[32:64] = 255, 10
    frame = dataclasses.replace(frame, truth=truth, labels=np.zeros((48, 64), np.uint8))
    error = decode(make_sheet(frame, ROW).panels[3].uri).astype(int)
    unknown, wrong, right = error[10, 64], error[48, 64], error[86, 64]
    assert unknown.max() < 70
    assert wrong[0] > wrong[1] + 80
    assert right[1] > right[0] + 20


def test_the_prediction_is_laid_over_the_frame_at_its_size(make_frame) -> None:
    frame = make_frame(
        image=np.zeros((96, 128, 3), np.uint8), labels=np.full((12, 16), 10, np.uint8)
    )
    picture = decode(make_sheet(frame, ROW).panels[1].uri)
    assert picture.shape == (96, 128, 3)
    sky = np.array(CLASSES[10].color) * 0.6
    np.testing.assert_allclose(picture.reshape(-1, 3).mean(axis=0), sky, atol=4)


@pytest.mark.parametrize(
    ('missing', 'titles'),
    [
        (('labels', 'confidence', 'exposure', 'latency_ms'), ['Input', 'Truth']),
        (('truth',), ['Input', 'Prediction', 'Confidence', 'Exposure']),
        (('truth', 'exposure'), ['Input', 'Prediction', 'Confidence']),
    ],
)
def test_panels_without_data_are_left_out(missing, titles: list[str], make_frame) -> None:
    sheet = make_sheet(make_frame(**dict.fromkeys(missing)), {'confidence': 0.8})
    assert [panel.title for panel in sheet.panels] == titles
    assert ('no mask' in sheet.facts) == ('labels' in missing)
    assert sheet.time_s is None
    assert sheet.quality == 0.8


@pytest.mark.parametrize('shape', [(1200, 1920), (1080, 4000), (3000, 900), (1, 1)])
@pytest.mark.parametrize('noisy', [False, True])
def test_sheets_stay_small(shape: tuple[int, int], noisy: bool, make_frame) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    if not noisy:
        image = cv2.GaussianBlur(image, (0, 0), 5)
    sheet = make_sheet(make_frame(image=image), ROW)
    assert len(json.dumps(sheet.to_json())) < 160_000
    for panel in sheet.panels:
        height, width = decode(panel.uri).shape[:2]
        assert width <= 640
        assert height <= 720
        assert width / height == pytest.approx(shape[1] / shape[0], rel=0.05)
    assert decode(sheet.thumbnail).shape[1] <= 160


def test_real_night_frames_keep_their_detail(shared_data, make_frame) -> None:
    path = sorted((shared_data / 'roadscene_night').rglob('*.jpg'))[0]
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    sheet = make_sheet(make_frame(image=image), ROW)
    assert len(json.dumps(sheet.to_json())) < 160_000
    shown = decode(sheet.panels[0].uri)
    assert shown.shape[1] == min(640, image.shape[1])
    expected = cv2.resize(image, shown.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shown.astype(int) - expected).mean() < 6


def test_sheets_survive_json(make_sheets, make_rows) -> None:
    for sheet in make_sheets(make_rows(), (3, 17), 'drive_7'):
        text = json.dumps(sheet.to_json(), allow_nan=False)
        assert Sheet.from_json(json.loads(text)) == sheet


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('thumbnail', 'https://example.org/a.jpg'),
        ('thumbnail', 'data:image/svg+xml;base64,AAAA'),
        ('thumbnail', 'data:image/jpeg;base64," onerror="alert(1)'),
        ('panels', [{'title': 'Input', 'caption': '', 'uri': 'javascript:alert(1)'}]),
        ('chips', [{'name': 'road', 'color': 'url(evil)', 'share': 0.5}]),
        ('panels', 7),
        ('index', None),
    ],
)
def test_a_sheet_from_elsewhere_is_not_trusted(field: str, value, make_frame) -> None:
    content = {**make_sheet(make_frame(), ROW).to_json(), field: value}
    with pytest.raises(ValueError, match='evaluate its drive again'):
        Sheet.from_json(content)
    del content[field]
    with pytest.raises(ValueError, match='no sheet of a frame'):
        Sheet.from_json(content)


def test_an_image_of_another_kind_is_refused(make_frame) -> None:
    with pytest.raises(ValueError, match=r'frame 3: image must be uint8 \[H, W, 3\]'):
        make_sheet(make_frame(3, image=np.zeros((4, 4), np.uint8)), ROW)
