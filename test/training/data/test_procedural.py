from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data import procedural
from training.data.labelled_set import LabelledFrames
from training.data.pair_set import PairedFolders
from training.data.procedural import Part
from training.data.procedural import render


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two frames of one street for each part."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ('SOURCE', 'TARGET', 'MEASURED'):
            streets = getattr(procedural, name).streets
            patch.setattr(procedural, name, Part(streets[:1], 2))
        return render(tmp_path_factory.mktemp('streets'), 64, 128)


def test_folders_hold_what_they_say(root: Path) -> None:
    assert {path.name for path in root.iterdir()} == {
        'source', 'target_day', 'target_day_shifted', 'target_night', 'measured_day',
        'measured_night',
    }  # fmt: skip
    for folder in root.iterdir():
        assert len(list((folder / 'images').iterdir())) == 2
        # What adapts has no labels that it could cheat with.
        assert (folder / 'labels').is_dir() != folder.name.startswith('target')
    for name in ('source', 'measured_day', 'measured_night'):
        frames = LabelledFrames(root / name)
        assert frames[0].image.shape == (64, 128, 3)
        assert len(np.unique(frames[0].labels)) > 4


def test_no_street_is_in_two_parts() -> None:
    streets = [set(p.streets) for p in (procedural.SOURCE, procedural.TARGET, procedural.MEASURED)]
    assert len(set.union(*streets)) == sum(map(len, streets))


def test_night_is_darker_than_its_day_and_shifted_days_are_elsewhere(root: Path) -> None:
    aligned = PairedFolders(root, 'target_day', 'target_night')
    shifted = PairedFolders(root, 'target_day_shifted', 'target_night')
    assert len(aligned) == len(shifted) == 2
    for index in range(2):
        day, night = aligned[index]
        assert night.mean() < 0.7 * day.mean()
        assert np.array_equal(night, shifted[index].night)
        assert not np.array_equal(day, shifted[index].day)


def test_rendering_again_writes_only_what_is_missing(root: Path) -> None:
    first, second = sorted((root / 'source' / 'images').iterdir())
    kept, lost = cv2.imread(str(first)), cv2.imread(str(second))
    written = first.stat().st_mtime_ns
    second.unlink()
    with pytest.MonkeyPatch.context() as patch:
        for name in ('SOURCE', 'TARGET', 'MEASURED'):
            streets = getattr(procedural, name).streets
            patch.setattr(procedural, name, Part(streets[:1], 2))
        render(root, 64, 128)
    assert first.stat().st_mtime_ns == written
    assert np.array_equal(cv2.imread(str(second)), lost)
    assert not np.array_equal(kept, lost)
