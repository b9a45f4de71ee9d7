from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.student import Student
from training.__main__ import main
from training.average import average
from training.checkpoint import CheckpointError
from training.checkpoint import load_method
from training.checkpoint import read_checkpoint
from training.methods.source_only import SourceOnly


def save(path: Path, seed: int, width: int = 8) -> Path:
    torch.manual_seed(seed)
    method = SourceOnly(Student(width, 0))
    for buffer in method.buffers():
        if buffer.dtype == torch.int64:
            buffer.fill_(seed)
    state = {'method': method.config, 'state_dict': method.state_dict(), 'global_step': 10 * seed}
    torch.save(state, path)
    return path


def test_weights_are_the_mean_and_counts_the_last(tmp_path: Path) -> None:
    paths = [save(tmp_path / f'{seed}.ckpt', seed) for seed in (1, 2, 4)]
    average(paths)
    mean = read_checkpoint(tmp_path / 'averaged.ckpt')
    states = [read_checkpoint(path)['state_dict'] for path in paths]
    for name, value in mean['state_dict'].items():
        given = torch.stack([state[name] for state in states])
        expected = given[-1] if given.dtype == torch.int64 else given.mean(dim=0)
        torch.testing.assert_close(value, expected, msg=name)
        assert value.dtype == given.dtype
    assert mean['global_step'] == 40
    assert mean['averaged'] == [str(path) for path in paths]
    load_method(tmp_path / 'averaged.ckpt')


def test_the_mean_of_a_network_and_itself_is_the_network(tmp_path: Path) -> None:
    path = save(tmp_path / 'one.ckpt', 3)
    average([path, path], tmp_path / 'mean.ckpt')
    mean = read_checkpoint(tmp_path / 'mean.ckpt')['state_dict']
    for name, value in read_checkpoint(path)['state_dict'].items():
        assert torch.equal(mean[name], value), name


def test_one_is_no_average(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / 'one.ckpt', 1)
    assert main(['average', f'[{path}]']) == 2
    assert 'two checkpoints or more' in capsys.readouterr().err


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    paths = [save(tmp_path / 'wide.ckpt', 1, width=16), save(tmp_path / 'narrow.ckpt', 1)]
    with pytest.raises(CheckpointError, match=r'wide\.ckpt holds another architecture'):
        average(paths)
    assert not (tmp_path / 'averaged.ckpt').exists()


def test_released_files_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / 'a.ckpt', 1)
    with pytest.raises(CheckpointError, match=r'x\.onnx: .*folded'):
        average([tmp_path / 'x.onnx', path])
