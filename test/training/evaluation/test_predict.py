from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from training.data.frames import DataError
from training.evaluation import submission
from training.evaluation.predict import find_images
from training.evaluation.predict import predict


def test_predict_then_pack(loaded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, 'FRAMES', 2)
    monkeypatch.setattr(submission, 'SIZE', (48, 80))
    lines = []
    for number in (1, 2):
        name = f'test/night/GOPR0364/GOPR0364_frame_{number:06d}'
        path = tmp_path / 'data' / 'rgb_anon' / f'{name}_rgb_anon.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((24, 40, 3), 12 * 7 + 5, np.uint8))
        lines.append(name)
    names = tmp_path / 'names.txt'
    names.write_text('\n'.join(lines))
    output = tmp_path / 'predictions'
    predict(
        tmp_path / 'a.ckpt', tmp_path / 'data', output, names, None, (48, 80), None,
        accelerator='cpu', invalid_below=0.5,
    )  # fmt: skip
    found = cv2.imread(str(output / 'labelTrainIds' / 'GOPR0364_frame_000001.png'), -1)
    assert found.shape == (48, 80)
    assert (found == 7).all()
    submission.pack(output, tmp_path / 'out.zip', names)
    submission.verify(tmp_path / 'out.zip', names)
    assert len(find_images(tmp_path / 'data')) == 2


def test_find_images_refuses(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='does not exist'):
        find_images(tmp_path / 'none')
    with pytest.raises(DataError, match='holds no image'):
        find_images(tmp_path)
    with pytest.raises(DataError, match='give a list'):
        find_images(tmp_path, tmp_path / 'names.txt')
    (tmp_path / 'names.txt').write_text('night/a\n')
    with pytest.raises(DataError, match='relative to'):
        find_images(tmp_path, tmp_path / 'names.txt')
    for folder in ('one', 'two'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'a.png').write_bytes(b'')
    with pytest.raises(DataError, match='overwrite each other'):
        find_images(tmp_path)
