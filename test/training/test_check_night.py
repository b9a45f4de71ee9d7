from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from training.__main__ import main
from training.check_night import DAY_SETS
from training.check_night import NIGHT_SETS


def test_numbers_and_sheets_are_written(
    data_root: Path, channel_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    options = ['--model', str(channel_model), '--data_root', str(data_root), '--output', str(out)]
    assert main(['check_night', *options, '--frames', '2', '--backend', 'onnxruntime']) == 0
    checks = json.loads((out / 'checks.json').read_text())
    assert {f'relit/{name}/{kind}' for name in DAY_SETS for kind in ('accuracy', 'miou')} < set(
        checks
    )
    for name in NIGHT_SETS:
        assert 0 <= checks[f'exposure_consistency/{name}'] <= 1
        assert 0 <= checks[f'layout/{name}/road'] <= 1
        assert cv2.imread(str(out / f'{name}.jpg')) is not None
    assert 'miou/night_dev' in capsys.readouterr().out


def test_missing_frames_are_named(
    tmp_path: Path, channel_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ['--model', str(channel_model), '--data_root', str(tmp_path / 'nowhere')]
    assert main(['check_night', *options, '--output', str(tmp_path / 'out')]) == 2
    assert 'nowhere' in capsys.readouterr().err
