from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.evaluation import bag_command
from nightseg_ros.evaluation.bag_reader import open_bag


@pytest.mark.parametrize('options', [[], ['--storage', 'sqlite3'], ['--compressed']])
def test_make_writes_a_bag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((8, 8, 3), np.uint8))
    assert bag_command.main(['make', str(tmp_path), str(tmp_path / 'bag'), *options]) == 0
    assert '1 frames written' in capsys.readouterr().out
    with open_bag(tmp_path / 'bag') as bag:
        assert [topic.count for topic in bag.topics] == [1]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['make', '{}/nowhere', '{}/bag'], 'nowhere is no folder'),
        (['make', '{}', '{}/bag'], 'holds no'),
        (['make', '{}', '{}/bag', '--rate', '0'], '--rate must be above 0'),
    ],
)
def test_bad_input_exits_with_2_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert bag_command.main([a.format(tmp_path) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
