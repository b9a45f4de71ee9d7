from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.core.labels import PALETTE
from training.data.labelled_set import LabelledFrames
from training.evaluation.pictures import InspectedFrame
from training.evaluation.pictures import choose_frames
from training.evaluation.pictures import draw_sheet
from training.evaluation.pictures import inspect_frame
from training.evaluation.pictures import panels
from training.evaluation.protocol import EvaluationProtocol
from training.evaluation.scores import FrameScore

SIZE = (24, 40)


def test_chosen_frames() -> None:
    frames = [FrameScore(i, str(i), miou / 10) for i, miou in enumerate([5, 1, 9, 3, 7, 2, 8])]
    frames.append(FrameScore(7, 'none', math.nan))
    chosen = [(rank, frame.name) for rank, frame in choose_frames(frames, 3)]
    assert chosen == [('worst', '1'), ('median', '0'), ('best', '2')]
    six = choose_frames(frames, 6)
    assert [rank for rank, _ in six] == ['worst'] * 2 + ['median'] * 2 + ['best'] * 2
    assert len({frame.index for _, frame in six}) == 6
    assert len(choose_frames(frames, 99)) == 7
    assert choose_frames(frames, 0) == []
    assert [rank for rank, _ in choose_frames(frames, 1)] == ['worst']


def _inspected(relit: bool) -> InspectedFrame:
    lower = np.arange(SIZE[0])[:, None] >= SIZE[0] // 2
    truth = np.where(lower, 0, 10).astype(np.uint8).repeat(SIZE[1], axis=1)
    prediction = np.where(lower, 13, truth).astype(np.uint8)
    truth[:, :4] = 255
    image = np.full((*SIZE, 3), 100, np.uint8)
    return InspectedFrame(
        FrameScore(0, 'a', 0.5), image, image + 50 if relit else None, prediction, truth
    )


def test_large_frames_shrink_to_a_panel(
    tmp_path: Path, knowing: type, paint: Callable[..., None]
) -> None:
    labels = np.zeros((100, 1280), np.uint8)
    paint(tmp_path, 'wide', labels)
    frames, protocol = LabelledFrames(tmp_path), EvaluationProtocol((50, 640), None)
    found = inspect_frame(knowing(relit=True), frames, protocol, FrameScore(0, 'wide', 1.0))
    assert found.image.shape == found.relit.shape == (50, 640, 3)
    assert found.prediction.shape == found.truth.shape == (50, 640)
    assert (found.relit == np.array([10, 120, 80])).all()


def test_panels() -> None:
    pictures = panels(_inspected(relit=True))
    names = list(pictures)
    assert names[:4] == ['input', 'relit', 'prediction on the input', 'prediction']
    assert names[4].startswith('truth')
    assert names[5] == 'errors (red): 50.0% of the labelled'
    assert (pictures['relit'] == 150).all()
    assert (pictures['prediction'][-1] == PALETTE[13]).all()
    assert (pictures[names[4]][-1, 4:] == PALETTE[0]).all()
    errors = pictures[names[5]]
    assert (errors[:, :4] == 0).all()
    assert (errors[0, 4:] == 114).all()
    assert (errors[-1, 4:] == (235, 70, 60)).all()
    assert 'relit' not in panels(_inspected(relit=False))


@pytest.mark.parametrize('relit', [False, True])
def test_sheet_shows_the_panels(relit: bool, tmp_path: Path) -> None:
    draw_sheet(_inspected(relit), 'worst', tmp_path / 'sheet.png')
    sheet = cv2.cvtColor(cv2.imread(str(tmp_path / 'sheet.png')), cv2.COLOR_BGR2RGB)
    assert 1900 <= sheet.shape[1] <= 1930
    shown = {
        'sky': tuple(PALETTE[10]), 'road': tuple(PALETTE[0]), 'car': tuple(PALETTE[13]),
        'input': (100, 100, 100), 'error': (235, 70, 60),
    }  # fmt: skip
    if relit:
        shown['relit'] = (150, 150, 150)
    for color in shown.values():
        assert (sheet == np.array(color)).all(axis=-1).sum() > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ['sheet.png']
