from __future__ import annotations

import numpy as np
import pytest

from nightseg_ros.core import labels


def test_train_ids_count_up_and_label_ids_are_cityscapes() -> None:
    assert [c.train_id for c in labels.CLASSES] == list(range(19))
    assert [c.label_id for c in labels.CLASSES] == [
        7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33,
    ]  # fmt: skip


def test_tables_invert_each_other_and_mark_everything_else() -> None:
    train_ids = np.arange(19, dtype=np.uint8)
    there = labels.TRAIN_ID_TO_LABEL_ID[train_ids]
    assert (labels.LABEL_ID_TO_TRAIN_ID[there] == train_ids).all()
    assert (labels.TRAIN_ID_TO_LABEL_ID[19:] == labels.UNLABELLED).all()
    assert (labels.LABEL_ID_TO_TRAIN_ID != labels.UNLABELLED).sum() == 19


def test_tables_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match='read-only'):
        labels.PALETTE[0] = 1


def test_static_and_dynamic_split_as_in_dannet() -> None:
    assert tuple(range(11)) == labels.STATIC_TRAIN_IDS
    assert tuple(range(11, 19)) == labels.DYNAMIC_TRAIN_IDS


def test_colours_are_distinct_and_unlabelled_is_black() -> None:
    assert len({c.color for c in labels.CLASSES}) == 19
    mask = np.array([[0, 13], [255, 18]], np.uint8)
    colours = labels.colorize(mask)
    assert colours.tolist() == [[[128, 64, 128], [0, 0, 142]], [[0, 0, 0], [119, 11, 32]]]


def test_colorizing_is_indexing_the_palette_for_every_id() -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(8, 32)
    assert (labels.colorize(mask) == labels.PALETTE[mask]).all()
    out = np.full((8, 32, 3), 9, np.uint8)
    assert labels.colorize(mask, out) is out
    assert (out == labels.PALETTE[mask]).all()


def test_ids_that_are_no_class_are_black() -> None:
    assert (labels.PALETTE[labels.NUM_CLASSES :] == 0).all()
