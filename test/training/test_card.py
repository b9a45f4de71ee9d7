from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import onnx
import pytest

from nightseg_ros.core.labels import NAMES
from nightseg_ros.core.model import load_model
from training.__main__ import main
from training.card import FEW
from training.data.frames import read_labels


def write_card(model: Path, data_root: Path) -> int:
    return main(['card', '--models', f'[{model}]', '--data_root', str(data_root)])


def test_card_and_picture_lie_beside_the_model(
    channel_model: Path, data_root: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copy(channel_model, tmp_path / 'mini.onnx'))
    assert write_card(model, data_root) == 0
    text = (tmp_path / 'mini.md').read_text()
    assert load_model(model).sha256 in text
    assert 'Nothing that can hurt people' in text
    assert '| camvid_day_val | 1 | ' in text
    assert '![masks of the worst frames](mini.png)' in text
    assert text.count('\n| traffic light |') == 1
    truth = read_labels(next((data_root / 'night_dev' / 'labels').iterdir()))
    for class_id, name in enumerate(NAMES):
        night = text.split(f'\n| {name} |')[1].splitlines()[0].split('|')[2]
        count = int((truth == class_id).sum())
        assert (night.strip() == '-') == (count == 0)
        assert (f'(of {count} px)' in night) == (0 < count < FEW)
    picture = cv2.imread(str(tmp_path / 'mini.png'))
    assert picture.shape[0] > 100
    # Every row of every table has as many cells as its heading.
    for block in text.split('\n\n'):
        rows = [line for line in block.splitlines() if line.startswith('|')]
        assert len({row.count('|') for row in rows}) <= 1, block


def test_every_stage_says_what_it_started_from(
    channel_model: Path, data_root: Path, tmp_path: Path
) -> None:
    def stage(steps: int, net: dict, **more: str) -> dict:
        return {'steps': steps, 'method': {'init_args': {'net': {'init_args': net}}}, **more}

    stages = [stage(40, {}), stage(30, {'variant': 'lite2'}), stage(20, {}, initial='first.ckpt')]
    proto = onnx.load(str(channel_model))
    made = {
        'training': json.dumps(stages),
        'recipe': json.dumps(
            {'averaged': ['second.ckpt', 'third.ckpt'], 'more_sizes': [[32, 64], [96, 128]]}
        ),
    }
    kept = {entry.key: entry.value for entry in proto.metadata_props}
    onnx.helper.set_model_props(proto, {**kept, **made})
    model = tmp_path / 'mini.onnx'
    onnx.save(proto, str(model))
    assert write_card(model, data_root) == 0
    text = model.with_suffix('.md').read_text()
    assert 'mean of those of second.ckpt and third.ckpt.' in text
    assert '64x32, 128x96, with the same weights' in text
    rows = [row for row in text.splitlines() if '| no |' in row]
    assert ['EfficientNet-Lite0' in row for row in rows] == [True, False, False]
    assert ['EfficientNet-Lite2' in row for row in rows] == [False, True, False]
    assert ['| first.ckpt |' in row for row in rows] == [False, False, True]


def test_missing_frames_are_named(
    channel_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write_card(channel_model, tmp_path / 'nowhere') == 2
    assert 'nowhere' in capsys.readouterr().err
    assert not channel_model.with_suffix('.md').exists()
