from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.student import Student
from training.checkpoint import CheckpointError
from training.checkpoint import load_method
from training.data.driving_data import Batch
from training.methods.distill import Distill
from training.methods.supervised import Supervised


def make(teacher: Path, **arguments) -> Distill:
    torch.manual_seed(1)
    return Distill(Student(8, 4), teacher, **{'measure_size': (64, 128), **arguments})


def with_teacher(method: Distill) -> Distill:
    method._teacher = [load_method(method.teacher_path)]
    return method


def test_terms(trained: Path, batch: Batch, run: Callable) -> None:
    terms = run(with_teacher(make(trained / 'last.ckpt')), batch)
    assert list(terms) == [
        'segmentation', 'detail', 'boundary', 'exposure', 'distill/day', 'distill/night',
    ]  # fmt: skip
    assert all(value > 0 for value in terms.values())


def test_student_that_is_its_teacher_has_nothing_to_learn(trained: Path, batch: Batch) -> None:
    teacher = trained / 'last.ckpt'
    method = with_teacher(make(teacher, teacher_weight_std=None))
    method.generator.load_state_dict(load_method(teacher).generator.state_dict())
    method.eval()
    night = batch['target'][1]
    assert method.divergence(night).item() == pytest.approx(0, abs=1e-5)
    weighted = with_teacher(make(teacher))
    weighted.generator.load_state_dict(method.generator.state_dict())
    assert weighted.eval().divergence(night) > 1e-5


def test_divergence_by_hand(trained: Path, batch: Batch) -> None:
    method = with_teacher(make(trained / 'last.ckpt', temperature=3.0, teacher_weight_std=None))
    method.eval()
    night = batch['target'][1]
    with torch.no_grad():
        p = (method._teacher[0].predict_logits(night) / 3).softmax(1)
        q = (method.predict_logits(night) / 3).softmax(1)
        expected = 9 * (p * (p / q).log()).sum(1).mean()
        torch.testing.assert_close(method.divergence(night), expected, rtol=1e-3, atol=1e-6)


def test_student_leaves_its_teacher_behind(
    mini_fit: Callable[..., None], trained: Path, tmp_path: Path
) -> None:
    teacher = Path(shutil.copy(trained / 'last.ckpt', tmp_path / 'teacher.ckpt'))
    mini_fit(tmp_path / 'student', 1, make(teacher), pairs=True, measure_every=100)
    teacher.unlink()
    student = load_method(tmp_path / 'student' / 'last.ckpt')
    assert isinstance(student, Supervised)
    assert not any('teacher' in name for name in student.state_dict())


def test_missing_teacher_is_named(mini_fit: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='nowhere.ckpt does not exist: train first'):
        mini_fit(tmp_path, 1, make(tmp_path / 'nowhere.ckpt'), pairs=True)
