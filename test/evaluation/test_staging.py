from __future__ import annotations

from pathlib import Path

import pytest

from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.staging import staging_folder


def test_a_folder_goes_away_however_it_ends(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), staging_folder(tmp_path / 'out', '.work-') as folder:
        (folder / 'file').touch()
        raise KeyboardInterrupt
    assert list((tmp_path / 'out').iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_another_works_in_stays(tmp_path: Path) -> None:
    (tmp_path / '.work-killed' / 'inside').mkdir(parents=True)
    with staging_folder(tmp_path, '.work-') as first:
        assert not (tmp_path / '.work-killed').exists()
        with staging_folder(tmp_path, '.work-') as second:
            assert first.is_dir() and second.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / 'out').touch()
    with (
        pytest.raises(BagError, match='out cannot be written'),
        staging_folder(tmp_path / 'out', '.work-'),
    ):
        pass
