from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.evaluation import bags
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.bags import Frame


def drive(count: int = 5, height: int = 24, width: int = 40, labels: bool = True) -> list[Frame]:
    rng = np.random.default_rng(0)
    frames = []
    for index in range(count):
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = cv2.GaussianBlur(noise, (0, 0), 5)
        truth = rng.integers(0, 19, (height, width), dtype=np.uint8) if labels else None
        frames.append(Frame(bags.stamp_of(index, 10.0), image, truth))
    return frames


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_drive_comes_back_as_it_was(tmp_path: Path, storage) -> None:
    written = drive()
    assert bags.write_drive(tmp_path / 'bag', written, storage) == 5
    suffix = {'mcap': '.mcap', 'sqlite3': '.db3'}[storage]
    assert [p.name for p in (tmp_path / 'bag').glob(f'*{suffix}')] == [f'bag{suffix}']
    read = list(bags.read_drive(tmp_path / 'bag'))
    assert len(read) == 5
    for before, after in zip(written, read, strict=True):
        assert after.stamp_ns == before.stamp_ns
        assert (after.image == before.image).all()
        assert (after.labels == before.labels).all()


def test_compressed_images_come_back_nearly_as_they_were(tmp_path: Path) -> None:
    written = drive()
    bags.write_drive(tmp_path / 'bag', written, compressed=True)
    with bags.open_bag(tmp_path / 'bag') as reader:
        assert {c.topic for c in reader.connections} == {
            '/camera/image_raw/compressed',
            '/camera/labels',
        }
    for before, after in zip(written, bags.read_drive(tmp_path / 'bag'), strict=True):
        assert np.abs(after.image.astype(int) - before.image).mean() < 4
        assert (after.labels == before.labels).all()  # never through JPEG


def test_frames_without_truth_are_mixed_in(tmp_path: Path) -> None:
    frames = drive()
    frames[2] = Frame(frames[2].stamp_ns, frames[2].image)
    bags.write_drive(tmp_path / 'bag', frames)
    assert [f.labels is None for f in bags.read_drive(tmp_path / 'bag')] == [
        False, False, True, False, False,
    ]  # fmt: skip


def test_a_bag_gets_its_name_only_when_complete(tmp_path: Path) -> None:
    bags.write_drive(tmp_path / 'bag', drive(2))

    def broken():
        yield from drive(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bags.write_drive(tmp_path / 'bag', broken())
    assert len(list(bags.read_drive(tmp_path / 'bag'))) == 2
    assert [p.name for p in tmp_path.iterdir()] == ['bag']
    bags.write_drive(tmp_path / 'bag', drive(3))
    assert len(list(bags.read_drive(tmp_path / 'bag'))) == 3


def test_what_is_no_bag_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / 'photos').mkdir()
    with pytest.raises(BagError, match='is no bag'):
        bags.write_drive(tmp_path / 'photos', drive(1))
    assert (tmp_path / 'photos').is_dir()


def test_missing_and_broken_bags_are_named(tmp_path: Path) -> None:
    with pytest.raises(BagError, match='nowhere does not exist'):
        list(bags.read_drive(tmp_path / 'nowhere'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(BagError, match='empty cannot be read'):
        list(bags.read_drive(tmp_path / 'empty'))
    bags.write_drive(tmp_path / 'bag', drive(2))
    file = tmp_path / 'bag' / 'bag.mcap'
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BagError, match='bag cannot be read'):
        list(bags.read_drive(tmp_path / 'bag'))


def test_a_missing_topic_lists_those_there_are(tmp_path: Path) -> None:
    bags.write_drive(tmp_path / 'bag', drive(1))
    with pytest.raises(BagError, match=r"'/front'.*/camera/image_raw \(sensor_msgs/msg/Image\)"):
        list(bags.read_drive(tmp_path / 'bag', '/front'))
    with bags.new_bag(tmp_path / 'text') as bag:
        bag.add_connection('/text', 'std_msgs/msg/String', typestore=bags.TYPESTORE)
    with pytest.raises(BagError, match='has 0 image topics'):
        list(bags.read_drive(tmp_path / 'text'))


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
