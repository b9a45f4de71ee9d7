from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from training import ablation as module
from training.ablation import METHODS
from training.ablation import ablation
from training.data import procedural
from training.data.procedural import Part


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be four frames of each part, and two methods."""
    few = {name: METHODS[name] for name in ('source_only', 'selftrain')}
    monkeypatch.setattr(module, 'METHODS', few)
    monkeypatch.setattr(module, 'CROP', (64, 64))
    for name in ('SOURCE', 'TARGET', 'MEASURED'):
        streets = getattr(procedural, name).streets
        monkeypatch.setattr(procedural, name, Part(streets[:1], 4))


@pytest.mark.usefixtures('small')
def test_compares_methods_over_seeds_and_repeats_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ablation(tmp_path, pretraining_steps=1, steps=1, seeds=2, workers=1)
    scores = json.loads((tmp_path / 'results_aligned.json').read_text())
    assert list(scores) == ['source_only', 'selftrain']
    for values in scores.values():
        assert set(values) == {'night', 'night, recalibrated', 'day'}
        for each in values.values():
            assert len(each) == 2
            assert all(0 <= value <= 1 for value in each)
    shown = capsys.readouterr().out
    assert 'source_only' in shown
    assert 'selftrain' in shown
    assert '±' in shown
    assert cv2.imread(str(tmp_path / 'ablation_aligned.png')) is not None
    # What is done is not trained again.
    monkeypatch.setattr(module, 'fit', None)
    ablation(tmp_path, pretraining_steps=1, steps=1, seeds=2, workers=1)
    assert json.loads((tmp_path / 'results_aligned.json').read_text()) == scores


def test_variants_leave_out_what_they_say() -> None:
    made = {name: make() for name, make in module.WHY.items()}
    assert made['dannet w/o static'].static is None
    assert made['dannet w/o adversaries'].night_adversary.weight == 0
    assert made['dannet w/o relighting'].generator.relighting is None
    assert made['dannet + selftrain'].self_training is not None
    assert made['bimix, mixing x1000'].mix_to_segmentation == 1
    assert made['selftrain w/o mixing'].self_training.mix_weight == 0
    assert made['selftrain w/o masks'].self_training.masked_weight == 0
