from __future__ import annotations

import csv
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.student import Student
from training.__main__ import main
from training.checkpoint import load_method
from training.data.driving_data import DrivingData
from training.data.frames import DataError
from training.data.labelled_set import LabelledFrames
from training.evaluation.measure import MEASURING_SETS
from training.fit import fit
from training.methods.supervised import Supervised
from training.optimisation import PolySGD

SHARED = Path(__file__).parents[3] / 'shared' / 'data'


def load(path: Path) -> dict:
    return torch.load(path, map_location='cpu', weights_only=True)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def test_writes_checkpoints_and_metrics(trained: Path) -> None:
    files = sorted(str(path.relative_to(trained)) for path in trained.rglob('*') if path.is_file())
    expected = ['config.yaml', 'curves.png', 'last.ckpt', 'logs/metrics.csv', 'step-000004.ckpt']
    assert files == expected
    for row in rows(trained / 'logs' / 'metrics.csv'):
        for name in MEASURING_SETS:
            assert 0 <= float(row[f'miou/{name}']) <= 1


def test_checkpoint_holds_finite_trained_weights_and_their_average(trained: Path) -> None:
    checkpoint = load(trained / 'last.ckpt')
    assert checkpoint['global_step'] == 4
    average, current = checkpoint['state_dict'], checkpoint['current_model_state']
    assert average.keys() == current.keys()
    for tensor in (*average.values(), *current.values()):
        assert torch.isfinite(tensor).all()
    # Steps three and four went into it: an average of none would be the untrained net.
    assert checkpoint['averaging_state']['n_averaged'] == 2
    weight = 'generator.net.stem.0.0.weight'
    assert not torch.equal(average[weight], current[weight])


def test_checkpoint_says_how_to_build_the_net(trained: Path) -> None:
    method = load_method(trained / 'last.ckpt')
    assert isinstance(method, Supervised)
    assert method.generator.net.config['init_args'] == {
        'width': 8,
        'exposure_width': 4,
        'num_classes': 19,
    }
    assert not method.training
    saved = load(trained / 'last.ckpt')['state_dict']
    assert all(torch.equal(value, saved[name]) for name, value in method.state_dict().items())


@pytest.fixture
def elsewhere(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the trained folder: training may have to go on somewhere else."""
    return Path(shutil.copytree(trained, tmp_path / 'copy'))


def test_second_call_resumes_and_keeps_earlier_metrics(
    elsewhere: Path, mini_fit: Callable[..., None]
) -> None:
    logs = elsewhere / 'logs'
    earlier = (logs / 'metrics.csv').read_text()
    mini_fit(elsewhere, 20, measure_every=100)
    assert load(elsewhere / 'last.ckpt')['global_step'] == 20
    assert not (elsewhere / 'last-v1.ckpt').exists()
    assert (logs / 'metrics-1.csv').read_text() == earlier
    losses = {row['step']: row['loss'] for row in rows(logs / 'metrics.csv') if row['loss']}
    assert list(losses) == ['19']
    assert math.isfinite(float(losses['19']))


def test_starting_anew_replaces_the_last_checkpoint(
    elsewhere: Path, mini_fit: Callable[..., None]
) -> None:
    mini_fit(elsewhere, 2, resume=False)
    assert load(elsewhere / 'last.ckpt')['global_step'] == 2
    assert not (elsewhere / 'last-v1.ckpt').exists()


class Interrupted(Supervised):
    """Is interrupted in its fourth step."""

    def training_step(self, batch, batch_index):
        if self.trainer.global_step == 3:
            raise KeyboardInterrupt
        return super().training_step(batch, batch_index)


def test_interrupt_loses_nothing(tmp_path: Path, mini_fit: Callable[..., None]) -> None:
    batches = 'generator.net.stem.0.1.num_batches_tracked'
    interrupted = Interrupted(Student(8, 4), measure_size=(64, 128))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        mini_fit(tmp_path, 8, interrupted, checkpoint_every=100, measure_every=100)
    saved = load(tmp_path / 'last.ckpt')
    assert (saved['global_step'], int(saved['current_model_state'][batches])) == (3, 3)
    mini_fit(tmp_path, 5, checkpoint_every=5, measure_every=100)
    resumed = load(tmp_path / 'last.ckpt')
    assert (resumed['global_step'], int(resumed['current_model_state'][batches])) == (5, 5)
    assert not (tmp_path / 'last-v1.ckpt').exists()


def test_missing_data_is_named_before_training(
    tmp_path: Path, mini_data: Callable[..., DrivingData]
) -> None:
    data = mini_data(sources=[LabelledFrames(tmp_path / 'nowhere')])
    with pytest.raises(DataError, match='nowhere.*does not exist'):
        fit(data, Supervised(Student(8, 4)), tmp_path / 'output', steps=1, accelerator='cpu')
    assert not (tmp_path / 'output' / 'last.ckpt').exists()


def test_best_checkpoint_is_kept(tmp_path: Path, mini_fit: Callable[..., None]) -> None:
    mini_fit(tmp_path, 4, keep_best='miou/night_dev')
    scores = {int(r['step']): r['miou/night_dev'] for r in rows(tmp_path / 'logs' / 'metrics.csv')}
    best = load(tmp_path / 'best.ckpt')
    measured = {step: float(score) for step, score in scores.items() if score}
    # Rows count steps from 0; a checkpoint tells how many were done.
    assert measured[best['global_step'] - 1] == max(measured.values())
    assert isinstance(load_method(tmp_path / 'best.ckpt'), Supervised)


def test_gradient_is_clipped(tmp_path: Path, mini_fit: Callable[..., None]) -> None:
    moved = []
    for clip in (1e-6, None):
        torch.manual_seed(0)
        net = Student(8, 4)
        method = Supervised(
            net, PolySGD(1.0, momentum=0, weight_decay=0), gradient_clip=clip,
            measure_size=(64, 128),
        )  # fmt: skip
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        mini_fit(tmp_path / str(clip), 1, method, measure_every=100, ema_decay=None)
        after = dict(method.generator.net.named_parameters())
        moved.append(sum((after[n] - p).square().sum() for n, p in before.items()).sqrt().item())
    assert moved[0] == pytest.approx(1e-6, rel=0.05)
    assert moved[1] > 0.01


def test_seed_decides_everything(tmp_path: Path, mini_fit: Callable[..., None]) -> None:
    states = []
    for name, seed in (('first', 5), ('again', 5), ('other', 6)):
        torch.manual_seed(0)
        method = Supervised(Student(8, 4), measure_size=(64, 128))
        mini_fit(tmp_path / name, 2, method, seed=seed, measure_every=100, deterministic=True)
        states.append(load(tmp_path / name / 'last.ckpt')['current_model_state'])
    first, again, other = (state['generator.net.head.1.weight'] for state in states)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.usefixtures('shared_data')
def test_kill_costs_no_more_than_the_last_interval(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    output = tmp_path / 'output'
    command = [
        sys.executable, '-m', 'training', 'fit',
        '--config', 'training/configs/source_only.yaml',
        '--config', 'training/configs/shared_frames.yaml',
        '--method.net', 'models.student.Student', '--method.net.width', '8',
        '--data.source_transform.crop', '[64, 64]', '--data.targets', '[]',
        '--data.measuring', '{}',
        '--data.workers', '0', '--output', str(output), '--checkpoint_every', '5',
        '--accelerator', 'cpu',
    ]  # fmt: skip
    with (tmp_path / 'log').open('wb') as log:
        process = subprocess.Popen(
            [*command, '--steps', '100000'], cwd=root, stdout=log, stderr=log
        )
        deadline = time.monotonic() + 120
        while not (output / 'last.ckpt').is_file() and time.monotonic() < deadline:
            assert process.poll() is None, (tmp_path / 'log').read_text()[-2000:]
            time.sleep(0.1)
        process.kill()
        process.wait()
    saved = load(output / 'last.ckpt')['global_step']
    assert saved >= 5
    assert saved % 5 == 0
    steps = str(saved + 3)
    subprocess.run([*command, '--steps', steps], cwd=root, capture_output=True, check=True)
    assert load(output / 'last.ckpt')['global_step'] == saved + 3


@pytest.mark.usefixtures('shared_data')
def test_same_command_makes_the_same_network(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    weights = []
    for name in ('one', 'two'):
        command = [
            'fit', '--config', str(root / 'training/configs/source_only.yaml'),
            '--data.sources', '[{class_path: LabelledFrames, init_args: {root: '
            f'{SHARED}/night_dev}}}}]', '--data.measuring', '{}', '--data.workers', '0',
            '--data.source_transform.crop', '[64, 64]', '--steps', '1', '--accelerator', 'cpu',
            '--method.net', 'models.student.Student', '--method.net.width', '8',
            '--output', str(tmp_path / name), '--progress', 'false',
        ]  # fmt: skip
        torch.rand(len(name) + len(weights))  # whatever was drawn before must not matter
        assert main(command) == 0
        weights.append(load(tmp_path / name / 'last.ckpt')['state_dict'])
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_last_step_is_saved_whatever_the_interval(
    tmp_path: Path, mini_fit: Callable[..., None]
) -> None:
    mini_fit(tmp_path, 5, checkpoint_every=3, measure_every=100)
    saved = load(tmp_path / 'last.ckpt')
    assert saved['global_step'] == 5
    # The average is beside the weights, not in their place.
    name = 'generator.net.head.1.weight'
    assert not torch.equal(saved['state_dict'][name], saved['current_model_state'][name])
