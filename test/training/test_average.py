from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from models.student import Student
from training.__main__ import main
from training.average import average
from training.checkpoint import CheckpointError
from training.checkpoint import load_method
from training.checkpoint import read_checkpoint
from training.data.driving_data import DrivingData
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


def test_statistics_are_measured_on_crops_of_the_last_training(
    tmp_path: Path, mini_data: Callable[..., DrivingData]
) -> None:
    paths = [save(tmp_path / f'{seed}.ckpt', seed) for seed in (1, 2)]
    config = {'data': mini_data().config, 'steps': 7}
    (tmp_path / 'config.yaml').write_text(yaml.safe_dump(config))
    average(paths, tmp_path / 'before.ckpt')
    average(paths, tmp_path / 'after.ckpt', crops=4)
    before, after = (
        read_checkpoint(tmp_path / f'{name}.ckpt')['state_dict'] for name in ('before', 'after')
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {name for name in before if 'running_' in name or 'num_batches' in name}
    # Those of branches that only training has stay as they are born.
    used = {name for name in statistics if 'detail' not in name and 'boundary' not in name}
    assert used <= changed <= statistics
    load_method(tmp_path / 'after.ckpt')
    average(paths, tmp_path / 'again.ckpt', crops=4)
    again = read_checkpoint(tmp_path / 'again.ckpt')['state_dict']
    assert all(torch.equal(after[name], again[name]) for name in after)


def test_crops_need_to_know_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [save(tmp_path / f'{seed}.ckpt', seed) for seed in (1, 2)]
    assert main(['average', f'[{paths[0]}, {paths[1]}]', '--crops', '4']) == 2
    assert 'config.yaml does not exist' in capsys.readouterr().err
    assert not (tmp_path / 'averaged.ckpt').exists()
