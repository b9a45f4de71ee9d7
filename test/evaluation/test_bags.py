from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.core.image_codec import to_rgb
from nightseg_ros.evaluation import bags
from nightseg_ros.evaluation.bag_reader import deserialize
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.bags import Frame
from nightseg_ros.evaluation.frames import decode


def drive(count: int = 5, height: int = 24, width: int = 40, labels: bool = True) -> list[Frame]:
    rng = np.random.default_rng(0)
    frames = []
    for index in range(count):
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = cv2.GaussianBlur(noise, (0, 0), 5)
        truth = rng.integers(0, 19, (height, width), dtype=np.uint8) if labels else None
        frames.append(Frame(bags.stamp_of(index, 10.0), image, truth))
    return frames


def read_drive(path: Path) -> list[Frame]:
    """Return the images of a bag, with the labels of the same stamp."""
    labels: dict[int, np.ndarray] = {}
    images: dict[int, np.ndarray] = {}
    with open_bag(path) as bag:
        for raw in bag.messages():
            message, pixels = deserialize(raw), to_rgb(decode(raw))
            of_truth = getattr(message, 'encoding', '') == 'mono8'
            assert message.header.frame_id == 'camera'
            if of_truth:
                labels[bags.stamp_ns(message)] = pixels[..., 0]
            else:
                images[bags.stamp_ns(message)] = pixels
    return [Frame(stamp, image, labels.get(stamp)) for stamp, image in images.items()]


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_drive_comes_back_as_it_was(tmp_path: Path, storage) -> None:
    written = drive()
    assert bags.write_drive(tmp_path / 'bag', written, storage) == 5
    suffix = {'mcap': '.mcap', 'sqlite3': '.db3'}[storage]
    assert [p.name for p in (tmp_path / 'bag').glob(f'*{suffix}')] == [f'bag{suffix}']
    read = read_drive(tmp_path / 'bag')
    assert len(read) == 5
    for before, after in zip(written, read, strict=True):
        assert after.stamp_ns == before.stamp_ns
        assert (after.image == before.image).all()
        assert (after.labels == before.labels).all()


def test_compressed_images_come_back_nearly_as_they_were(tmp_path: Path) -> None:
    written = drive()
    bags.write_drive(tmp_path / 'bag', written, compressed=True)
    with open_bag(tmp_path / 'bag') as bag:
        assert [topic.name for topic in bag.topics] == [
            '/camera/image_raw/compressed',
            '/camera/labels',
        ]
    for before, after in zip(written, read_drive(tmp_path / 'bag'), strict=True):
        assert np.abs(after.image.astype(int) - before.image).mean() < 4
        assert (after.labels == before.labels).all()  # never through JPEG


def test_frames_without_truth_are_mixed_in(tmp_path: Path) -> None:
    frames = drive()
    frames[2] = Frame(frames[2].stamp_ns, frames[2].image)
    bags.write_drive(tmp_path / 'bag', frames)
    assert [f.labels is None for f in read_drive(tmp_path / 'bag')] == [
        False, False, True, False, False,
    ]  # fmt: skip


def test_a_bag_gets_its_name_only_when_complete(tmp_path: Path) -> None:
    bags.write_drive(tmp_path / 'bag', drive(2))

    def broken():
        yield from drive(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bags.write_drive(tmp_path / 'bag', broken())
    assert len(read_drive(tmp_path / 'bag')) == 2
    assert [p.name for p in tmp_path.iterdir()] == ['bag']
    bags.write_drive(tmp_path / 'bag', drive(3))
    assert len(read_drive(tmp_path / 'bag')) == 3
    assert [p.name for p in tmp_path.iterdir()] == ['bag']


@pytest.mark.parametrize(
    'error',
    [
        OSError(errno.ENOSPC, 'No space left on device'),
        OSError(errno.EDQUOT, 'Disk quota exceeded'),
        sqlite3.OperationalError('database or disk is full'),
    ],
)
def test_a_full_disk_is_said_and_leaves_the_earlier_bag(tmp_path: Path, error) -> None:
    bags.write_drive(tmp_path / 'bag', drive(2))
    with (
        pytest.raises(BagError, match='the disk is full: .*bag was not written; free space'),
        bags.new_bag(tmp_path / 'bag'),
    ):
        raise error
    assert len(read_drive(tmp_path / 'bag')) == 2
    assert [p.name for p in tmp_path.iterdir()] == ['bag']


def test_other_errors_of_writing_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), bags.new_bag(tmp_path / 'bag'):
        raise PermissionError(errno.EACCES, 'Permission denied')


def test_what_is_no_bag_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / 'photos').mkdir()
    with pytest.raises(BagError, match='is no bag'):
        bags.write_drive(tmp_path / 'photos', drive(1))
    assert (tmp_path / 'photos').is_dir()


def write_folder(folder: Path, names: list[str]) -> None:
    (folder / 'images').mkdir(parents=True)
    (folder / 'labels').mkdir()
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / 'images' / f'{name}.png'), np.full((8, 9, 3), index, np.uint8))
        cv2.imwrite(str(folder / 'labels' / f'{name}.png'), np.full((8, 9), index, np.uint8))


def test_a_folder_becomes_a_drive_in_the_order_of_names(tmp_path: Path) -> None:
    write_folder(tmp_path, ['b', 'c', 'a'])
    frames = list(bags.folder_frames(tmp_path, rate_hz=5))
    assert [int(f.image[0, 0, 0]) for f in frames] == [2, 0, 1]
    assert [int(f.labels[0, 0]) for f in frames] == [2, 0, 1]
    assert np.diff([f.stamp_ns for f in frames]).tolist() == [200_000_000] * 2
    assert frames[0].stamp_ns > 0


def test_images_may_lie_in_the_folder_itself(tmp_path: Path) -> None:
    write_folder(tmp_path, ['a'])
    frames = list(bags.folder_frames(tmp_path / 'images'))
    assert len(frames) == 1
    assert frames[0].labels is None


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(BagError, match='no folder'):
        list(bags.folder_frames(tmp_path / 'nowhere'))
    with pytest.raises(BagError, match='holds no'):
        list(bags.folder_frames(tmp_path))
    write_folder(tmp_path, ['a'])
    cv2.imwrite(str(tmp_path / 'labels' / 'a.png'), np.zeros((3, 3), np.uint8))
    with pytest.raises(BagError, match=r'labels/a.png is no 8-bit mask of the size of a.png'):
        list(bags.folder_frames(tmp_path))
    (tmp_path / 'images' / 'a.png').write_bytes(b'no png')
    with pytest.raises(BagError, match='a.png does not decode'):
        list(bags.folder_frames(tmp_path))
