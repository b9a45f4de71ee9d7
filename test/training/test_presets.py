"""Every preset loads, and every method learns on real frames."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import pytest
import torch
import yaml

from models.student import Student
from training.__main__ import main
from training.methods.source_only import SourceOnly

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'training' / 'configs'
OVERLAY = CONFIGS / 'shared_frames.yaml'
PARTS = (
    'shared_frames',
    'with_cityscapes',
    'night_student_large',
    'night_student_longer',
    'night_student_nights',
    'night_student_own_vehicle',
    'small_batches',
)
PRESETS = sorted(path.stem for path in CONFIGS.glob('*.yaml') if path.stem not in PARTS)

STUDENT = 'models.student.Student'
SMALL_STUDENT = ['--method.net', STUDENT, '--method.net.width', '8']
SMALL_NET = [*SMALL_STUDENT, '--method.net.exposure_width', '0']
SMALL_EGNET = ['--method.net.weights', 'null', '--method.net.blocks', '[1, 1, 1, 1]']
SMALL_D = [
    f'--method.{name}.discriminator.channels=[8, 16, 32, 32]'
    for name in ('day_adversary', 'night_adversary')
]
SMALL_ADAPTATION = [*SMALL_NET, '--method.relighting.width', '8', *SMALL_D]
TINY = {
    'student': SMALL_STUDENT,
    'night_student': ['--method.net.weights', 'null', '--method.net.width', '16'],
    'source_only': SMALL_NET,
    'adaptsegnet': [*SMALL_NET, '--method.adversary.discriminator.channels', '[8, 16, 32, 32]'],
    'advent': [*SMALL_NET, '--method.adversary.discriminator.channels', '[8, 16, 32, 32]'],
    'dannet_paper': SMALL_ADAPTATION,
    'dannet_official': SMALL_ADAPTATION,
    'bimix_paper': SMALL_ADAPTATION,
    'bimix_official': SMALL_ADAPTATION,
    'egnet_paper': SMALL_EGNET,
    'selftrain': SMALL_NET,
    'distill': SMALL_STUDENT,
}
"""The same methods on networks that a CPU trains in seconds."""


def run(*arguments: str) -> int:
    return main(['fit', *arguments])


@pytest.mark.parametrize('preset', PRESETS)
def test_preset_loads(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run('--config', str(CONFIGS / f'{preset}.yaml'), '--print_config')
    assert end.value.code == 0
    assert 'class_path: training.methods' in capsys.readouterr().out


def test_every_preset_is_tried_below() -> None:
    assert set(TINY) == set(PRESETS)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """Return a checkpoint for the student to learn from."""
    torch.manual_seed(0)
    method = SourceOnly(Student(8, 0))
    path = tmp_path / 'teacher.ckpt'
    torch.save({'method': method.config, 'state_dict': method.state_dict()}, path)
    return path


@pytest.mark.usefixtures('shared_data')
@pytest.mark.parametrize('preset', sorted(TINY))
def test_fifty_steps_on_real_frames(
    preset: str, tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    output = tmp_path / 'output'
    arguments = [
        '--config', str(CONFIGS / f'{preset}.yaml'), '--config', str(OVERLAY),
        *TINY[preset],
        '--data.source_transform.crop', '[64, 128]',
        '--data.pair_transform', '{crop: [64, 128], scale: [0.6, 1.0], resize: null}',
        '--data.workers', '0', '--data.batch_size', '2', '--data.rare_class_temperature', 'null',
        '--data.measuring', '{}',
        '--output', str(output), '--steps', '50', '--log_every', '1',
        '--precision', '32-true', '--accelerator', 'cpu', '--keep_best', 'null',
        '--method.measure_size', '[64, 128]', '--checkpoint_every', '50',
    ]  # fmt: skip
    if preset == 'distill':
        arguments += ['--method.teacher', str(teacher)]
    if 'official' in preset:
        arguments += ['--method.target_size', '[96, 192]']
    # The papers' rates are for pre-trained networks and thousands of steps.
    arguments += ['--method.optimizer', 'PolyAdamW', '--method.optimizer.learning_rate', '2e-3']
    arguments += ['--method.optimizer.warmup', '5']
    assert run(*arguments) == 0
    with (output / 'logs' / 'metrics.csv').open(newline='') as file:
        rows = [row for row in csv.DictReader(file) if row['loss']]
    assert len(rows) == 50
    # The light loss differs more from crop to crop than it falls in fifty steps.
    learnt = [k for k in rows[0] if k.startswith('loss/') and 'light' not in k and 'disc' not in k]
    losses = [sum(float(row[name]) for name in learnt) for row in rows]
    assert all(torch.isfinite(torch.tensor(float(v))) for row in rows for v in row.values() if v)
    assert mean(losses[-10:]) < 0.9 * mean(losses[:10])


@pytest.mark.usefixtures('shared_data')
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """DDP over two CPU processes: it ends, steps are counted once, weights are finite."""
    output = tmp_path / 'output'
    command = [
        sys.executable, '-m', 'training', 'fit',
        '--config', str(CONFIGS / 'dannet_paper.yaml'), '--config', str(OVERLAY),
        *TINY['dannet_paper'],
        '--data.source_transform.crop', '[64, 64]',
        '--data.pair_transform', '{crop: [64, 64], scale: [0.6, 1.0], resize: null}',
        '--data.workers', '0', '--data.measuring', '{}',
        '--output', str(output), '--steps', '3', '--log_every', '1', '--checkpoint_every', '3',
        '--accelerator', 'cpu', '--devices', '2',
    ]  # fmt: skip
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    checkpoint = torch.load(output / 'last.ckpt', map_location='cpu', weights_only=True)
    assert checkpoint['global_step'] == 3
    assert 'distributed_backend=gloo' in result.stderr
    assert all(torch.isfinite(value).all() for value in checkpoint['state_dict'].values())


def test_later_stages_learn_from_own_vehicles_and_labelled_nights(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    nights, labels = shared_data / 'roadscene_night', tmp_path / 'labels'
    labels.mkdir()
    for image in (nights / 'images').iterdir():
        height, width = cv2.imread(str(image)).shape[:2]
        cv2.imwrite(str(labels / f'{image.stem}.png'), np.zeros((height, width), np.uint8))
    frames = {
        'class_path': 'LabelledFrames',
        'init_args': {'root': str(nights), 'labels': str(labels)},
    }
    parts = ['night_student', *(f'night_student_{p}' for p in ('own_vehicle', 'nights', 'longer'))]
    stages = [CONFIGS / f'{part}.yaml' for part in parts]
    arguments = [
        *(part for path in stages for part in ('--config', str(path))),
        *TINY['night_student'],
        *('--initial', 'null', '--data.measuring', '{}', '--data.workers', '0'),
        *('--data.nights', json.dumps([frames]), '--data.rare_class_temperature', 'null'),
        *('--data.source_transform.crop', '[64, 96]', '--data.night_transform.crop', '[64, 96]'),
        *('--data.batch_size', '2', '--steps', '3', '--log_every', '1'),
        *('--output', str(tmp_path / 'out'), '--progress', 'false'),
    ]
    assert run(*arguments) == 0
    with (tmp_path / 'out' / 'logs' / 'metrics.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row['loss/dice']) > 0 for row in rows if row['loss']] == [True] * 3


def test_larger_student_is_the_smaller_one_s_recipe_with_another_net(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stages = [CONFIGS / 'night_student.yaml', CONFIGS / 'night_student_large.yaml']
    printed = []
    for files in (stages[:1], stages):
        with pytest.raises(SystemExit):
            run(*(part for path in files for part in ('--config', str(path))), '--print_config')
        printed.append(yaml.safe_load(capsys.readouterr().out))
    small, large = printed
    assert large['method']['init_args']['net']['init_args']['variant'] == 'lite2'
    assert large['output'] != small['output']
    # A mapping that is only half repeated in the second file must not lose its other half.
    for part in ('crop', 'scale', 'relight_probability', 'style'):
        before, after = (
            config['data']['init_args']['source_transform']['init_args'][part] for config in printed
        )
        assert after == before
    assert large['data']['init_args']['sources'] == small['data']['init_args']['sources']
