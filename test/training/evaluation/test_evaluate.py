from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from training.data.frames import DataError
from training.data.labelled_set import LabelledFrames
from training.evaluation.evaluate import evaluate


def test_evaluate_writes_everything(
    loaded: Any, masked: LabelledFrames, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / 'out'
    (output / 'sheets').mkdir(parents=True)
    (output / 'sheets' / 'former.png').write_bytes(b'')
    evaluate(
        tmp_path / 'last.ckpt', masked, output, None, None,
        sheets=2, accelerator='cpu', published_as='nightcity',
    )  # fmt: skip
    numbers = json.loads((output / 'results.json').read_text())
    assert numbers['miou'] == 1.0
    assert numbers['class_iou']['road'] == 1.0
    assert numbers['class_iou']['train'] is None
    assert numbers['class_pixels']['train'] == 0
    assert numbers['exposure']['mean_ef1'] == 1.0
    assert numbers['exposure']['bins_without_pixels']
    assert numbers['uncertainty']['average_uiou'] > 0.5
    assert numbers['protocol']['compared_at'] == ['24x40']
    assert numbers['published'][0]['method'] == 'FDLNet'
    assert [frame['name'] for frame in numbers['frames']] == ['a', 'b', 'c']
    rows = list(csv.DictReader((output / 'per_class.csv').open()))
    assert len(rows) == 19
    assert rows[0] == {'train_id': '0', 'name': 'road', 'iou': '1.000000', 'pixels': '960'}
    assert rows[16]['iou'] == ''
    text = (output / 'report.md').read_text()
    for part in (
        'mIoU 100.00', 'Masked (frames, 3 frames)', '| road | 100.00 | 960 |', 'EGNet',
        'first release', 'no class weights', 'in no mean', 'average UIoU', 'marked invalid',
        'without sidewalk',
    ):  # fmt: skip
        assert part in text
    assert str(tmp_path) not in text
    assert cv2.imread(str(output / 'ef1.png')).shape[1] > 800
    sheets = sorted(path.name for path in (output / 'sheets').iterdir())
    assert len(sheets) == 2
    assert sheets[0].startswith('01_worst_')
    assert sheets[1].startswith('02_best_')
    printed = capsys.readouterr().out
    assert 'report.md' in printed
    assert 'published' in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason='has a GPU')
def test_refuses_to_compute_without_the_gpu_asked_for(loaded: Any, frames: LabelledFrames) -> None:
    with pytest.raises(DataError, match='no GPU'):
        evaluate(Path('x.ckpt'), frames, accelerator='gpu')
    assert not loaded.sizes
