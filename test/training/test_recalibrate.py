from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from training.checkpoint import load_method
from training.data.frames import DataError
from training.recalibrate import estimate_statistics
from training.recalibrate import recalibrate


def test_statistics_are_those_of_the_batches_by_hand() -> None:
    norm = nn.BatchNorm2d(1)
    norm.running_mean.fill_(9)
    batches = [torch.tensor([0.0, 2.0]).view(2, 1, 1, 1), torch.tensor([4.0, 8.0]).view(2, 1, 1, 1)]
    estimate_statistics(nn.Sequential(norm), batches)
    assert norm.running_mean.item() == pytest.approx((1 + 6) / 2)
    assert norm.running_var.item() == pytest.approx((2 + 8) / 2)  # unbiased
    assert norm.momentum == 0.1
    assert not norm.training


def test_only_statistics_change(trained: Path, mini_root: Path, tmp_path: Path) -> None:
    output = tmp_path / 'night.ckpt'
    folder = mini_root / 'camvid_day_train' / 'images'
    recalibrate(trained / 'last.ckpt', folder, output, size=(64, 128), batch_size=2)
    before, after = (load_method(path).state_dict() for path in (trained / 'last.ckpt', output))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert {name.rsplit('.', 1)[-1] for name in changed} <= {
        'running_mean', 'running_var', 'num_batches_tracked',
    }  # fmt: skip
    assert 'generator.net.stem.0.1.running_mean' in changed


@pytest.mark.parametrize('batch_size', [1, 8])
def test_too_few_frames_are_refused(trained: Path, mini_root: Path, batch_size: int) -> None:
    folder = mini_root / 'camvid_day_train' / 'images'
    with pytest.raises(DataError, match='2 frames .* do not fill a batch'):
        recalibrate(trained / 'last.ckpt', folder, size=(64, 128), batch_size=batch_size)
