from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from training.curves import draw_curves
from training.curves import read_curves


def write(path: Path, *rows: str) -> None:
    path.write_text('\n'.join(['epoch,loss,loss/boundary,miou/night_dev,step', *rows]) + '\n')


def test_calls_are_joined_and_the_last_has_the_word(tmp_path: Path) -> None:
    write(tmp_path / 'metrics-1.csv', '0,3.0,1.0,,19', '0,2.0,0.5,,39')
    write(tmp_path / 'metrics-2.csv', '0,1.5,,,39', '0,,,0.1,49')
    write(tmp_path / 'metrics.csv', '0,1.0,0.25,,59')
    curves = read_curves(tmp_path)
    assert set(curves) == {'loss', 'loss/boundary', 'miou/night_dev'}
    steps, values = curves['loss']
    assert steps.tolist() == [19, 39, 59]
    assert values.tolist() == [3.0, 1.5, 1.0]
    assert curves['miou/night_dev'][1].tolist() == [0.1]


def test_picture_has_a_panel_for_each_kind(tmp_path: Path) -> None:
    steps = np.arange(100)
    loss = {'loss': (steps, np.linspace(2, 1, 100))}
    measured = {'miou/night_dev': (steps[::50], np.array([0.1, 0.2]))}
    sizes = []
    for number, curves in enumerate((loss, {**loss, **measured})):
        draw_curves(curves, tmp_path / f'{number}.png')
        sizes.append(cv2.imread(str(tmp_path / f'{number}.png')).shape[1])
    assert sizes[1] == 2 * sizes[0]


def test_nothing_logged_draws_nothing(tmp_path: Path) -> None:
    draw_curves(read_curves(tmp_path), tmp_path / 'x.png')
    assert not (tmp_path / 'x.png').exists()
