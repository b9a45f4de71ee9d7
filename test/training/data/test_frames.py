from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from training.data.frames import DataError
from training.data.frames import Sample
from training.data.frames import list_images
from training.data.frames import read_rgb
from training.data.frames import to_tensors
from training.data.labelled_set import LabelledFrames


@pytest.fixture
def root(tmp_path: Path, write: Callable[..., None]) -> Path:
    """Return a folder with one frame of 4x6: pure red, labelled 3."""
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0] = 250
    write(tmp_path, 'frame', Sample(image, np.full((4, 6), 3, np.uint8)))
    return tmp_path


@pytest.mark.parametrize('folder', ['labels', 'teacher_labels'])
def test_reads_rgb_and_labels_of_either_folder(root: Path, folder: str) -> None:
    (root / 'labels').rename(root / folder)
    frames = LabelledFrames(root)
    assert len(frames) == 1
    image, labels = frames[0]
    assert image.dtype == labels.dtype == np.uint8
    assert (image == (250, 0, 0)).all()
    assert (labels == 3).all()


def test_ground_truth_comes_before_the_teacher(root: Path, write: Callable[..., None]) -> None:
    write(root, 'frame', Sample(np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), np.uint8)), 'labels')
    (root / 'teacher_labels').mkdir()
    cv2.imwrite(str(root / 'teacher_labels' / 'frame.png'), np.zeros((4, 6), np.uint8))
    assert (LabelledFrames(root)[0].labels == 1).all()


def test_frames_are_sorted_and_other_files_are_no_frames(tmp_path: Path) -> None:
    for name in ('b.jpg', 'a.PNG', 'c.jpeg', 'notes.txt', '.hidden'):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ['a.PNG', 'b.jpg', 'c.jpeg']


def test_tensors_of_a_sample(root: Path) -> None:
    image, labels = to_tensors(LabelledFrames(root)[0])
    assert image.dtype == torch.uint8
    assert image.shape == (3, 4, 6)
    assert image[:, 0, 0].tolist() == [250, 0, 0]
    assert labels.dtype == torch.int64
    assert labels.tolist() == [[3] * 6] * 4


@pytest.mark.parametrize('cache', [True, False])
def test_cache_reads_each_file_once(root: Path, cache: bool) -> None:
    frames = LabelledFrames(root, cache=cache)
    first = frames[0]
    (root / 'images' / 'frame.png').unlink()
    if cache:
        assert frames[0] is first
    else:
        with pytest.raises(DataError, match='does not decode'):
            frames[0]


@pytest.mark.parametrize(
    ('value', 'extra', 'valid'),
    [
        (0, (), True),
        (18, (), True),
        (255, (), True),
        (19, (), False),
        (33, (), False),
        (253, (), False),
        (253, (253, 254), True),
        (252, (253, 254), False),
    ],
)
def test_label_values(root: Path, value: int, extra: tuple[int, ...], valid: bool) -> None:
    path = root / 'labels' / 'frame.png'
    cv2.imwrite(str(path), np.full((4, 6), value, np.uint8))
    frames = LabelledFrames(root, extra_labels=extra)
    if valid:
        assert (frames[0].labels == value).all()
    else:
        with pytest.raises(DataError) as error:
            frames[0]
        for part in (str(path), str(value), 'labelIds', 'Convert'):
            assert part in str(error.value)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def test_indices_of_a_palette_are_the_labels(root: Path) -> None:
    path = root / 'labels' / 'frame.png'
    image = Image.fromarray(np.full((4, 6), 13, np.uint8)).convert('P')
    image.putpalette([7, 8, 9] * 256)
    image.save(path)
    assert (LabelledFrames(root)[0].labels == 13).all()


def widen(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((4, 7), np.uint8))


def paint(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((4, 6, 3), np.uint8))


def deepen(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((4, 6), np.uint16))


@pytest.mark.parametrize(
    ('file', 'damage', 'remedy'),
    [
        ('images/frame.png', truncate, 'is it complete'),
        ('labels/frame.png', truncate, 'does not decode'),
        ('labels/frame.png', paint, 'trainIds, not colours'),
        ('labels/frame.png', deepen, 'trainIds, not colours'),
        ('labels/frame.png', widen, r'\(4, 7\), its image is \(4, 6\): a label needs the size'),
    ],
)
def test_damaged_files_are_named(
    root: Path, file: str, damage: Callable[[Path], None], remedy: str
) -> None:
    damage(root / file)
    with pytest.raises(DataError, match=remedy) as error:
        LabelledFrames(root)[0]
    assert str(root / file) in str(error.value)


def test_missing_label_names_the_image_and_where_it_was_sought(root: Path) -> None:
    (root / 'labels' / 'frame.png').unlink()
    with pytest.raises(DataError) as error:
        len(LabelledFrames(root))
    for part in (root / 'images' / 'frame.png', root / 'labels', root / 'teacher_labels'):
        assert str(part) in str(error.value)


@pytest.mark.parametrize(
    ('folder', 'remedy'),
    [
        ('nowhere', 'does not exist: set the root of the data set .*--data_root'),
        ('.', 'holds no .jpg'),
    ],
)
def test_folder_without_images(tmp_path: Path, folder: str, remedy: str) -> None:
    with pytest.raises(DataError, match=remedy) as error:
        list_images(tmp_path / folder)
    assert str(tmp_path / folder) in str(error.value)


def test_grey_image_is_read_as_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / 'grey.png'), np.full((2, 3), 77, np.uint8))
    image = read_rgb(tmp_path / 'grey.png')
    assert image.shape == (2, 3, 3)
    assert (image == 77).all()


@pytest.mark.parametrize(
    ('name', 'count', 'extra'),
    [
        ('camvid_day_train', 406, ()),
        ('night_dev', 2, ()),
        ('motorcycle_night_dev', 8, (253, 254)),
    ],
)
def test_real_sets_are_in_form(
    shared_data: Path, name: str, count: int, extra: tuple[int, ...]
) -> None:
    frames = LabelledFrames(shared_data / name, cache=False, extra_labels=extra)
    assert len(frames) == count
    assert set(np.unique(frames[0].labels)) <= set(frames.valid_labels)
