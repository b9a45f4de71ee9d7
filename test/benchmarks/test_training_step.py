from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.training_step import LAYOUTS
from benchmarks.training_step import Step
from benchmarks.training_step import methods


def test_measures_every_method_of_the_papers() -> None:
    names = {'source_only', 'adaptsegnet', 'dannet', 'bimix', 'egnet', 'selftrain'}
    assert set(methods(small=True)) == names


@pytest.mark.parametrize('layout', LAYOUTS)
def test_step_is_timed_weighed_and_profiled(layout: str, tmp_path: Path) -> None:
    make = methods(small=True)['adaptsegnet']
    step = Step(make, 64, 2, LAYOUTS[layout], None, torch.device('cpu'))
    before = step.method.generator.net.head[1].weight.clone()
    assert step() > 0
    assert not torch.equal(before, step.method.generator.net.head[1].weight)
    # At least the gradients, and no more than a small network can hold.
    weights = sum(p.numel() * 4 for p in step.method.generator.parameters()) / 2**20
    assert weights < step.peak_memory() < 1000
    assert '%' in step.profile(tmp_path / 'profile.txt')
    assert 'convolution' in (tmp_path / 'profile.txt').read_text()
