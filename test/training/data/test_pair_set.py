from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.core.labels import UNLABELLED
from training.data.frames import DataError
from training.data.labelled_set import LabelledFrames
from training.data.pair_set import PairedFiles
from training.data.pair_set import PairedFileSet
from training.data.pair_set import RelitPairs
from training.data.pair_set import SimilarPairs
from training.data.pair_set import UnpairedNights

ROAD, SKY = 0, 10
REAL_NIGHTS = 12


def write_scene(path: Path, place: int, brightness: float, size: tuple[int, int]) -> None:
    """Write what a place looks like: the same edges by day and by night."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(place)
    scene = np.zeros((96, 128), np.float32)
    for _ in range(6):
        row, column = rng.integers(0, 80), rng.integers(0, 110)
        scene[row : row + 16, column : column + 18] = rng.uniform(0.3, 1)
    scene = cv2.resize(scene, size, interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(place + 100).normal(0, 2, scene.shape)
    pixels = np.clip(scene * 255 * brightness + noise, 0, 255).astype(np.uint8)
    cv2.imwrite(str(path), cv2.merge([pixels] * 3))


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """Return four places by day; two of them by night, darker, larger and in another order."""
    for index, place in enumerate((1, 2, 3, 4)):
        write_scene(tmp_path / 'day' / 'images' / f'{index}.png', place, 0.9, (128, 96))
    for index, place in enumerate((4, 2)):
        write_scene(tmp_path / 'night' / 'images' / f'{index}.png', place, 0.3, (192, 144))
    return tmp_path


def test_each_night_frame_is_beside_its_place(places: Path) -> None:
    pairs = SimilarPairs(places, 'day', 'night')
    assert [(pair.day.name, pair.night.name) for pair in pairs.pairs] == [
        ('3.png', '0.png'),
        ('1.png', '1.png'),
    ]


def test_a_pair_has_the_size_of_its_night_frame(places: Path) -> None:
    day, night = SimilarPairs(places, 'day', 'night')[0]
    assert day.shape == night.shape == (144, 192, 3)
    assert day.dtype == night.dtype == np.uint8
    assert day.mean() > 2 * night.mean()


@pytest.mark.parametrize(('day', 'night', 'count'), [('day', 'night', 2), ('night', 'day', 4)])
def test_sets_may_differ_in_size(places: Path, day: str, night: str, count: int) -> None:
    pairs = SimilarPairs(places, day, night)
    assert len(pairs) == count
    assert len({pair.night for pair in pairs.pairs}) == count


def test_similar_pairs_are_found_once_and_alike(places: Path) -> None:
    pairs = SimilarPairs(places, 'day', 'night')
    assert pairs.pairs is pairs.pairs
    assert pairs.pairs == SimilarPairs(places, 'day', 'night').pairs


def test_uniform_frames_have_no_likeness_but_a_pair(tmp_path: Path) -> None:
    for folder in ('day', 'night'):
        (tmp_path / folder / 'images').mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / 'images' / 'a.png'), np.zeros((24, 32, 3), np.uint8))
    assert len(SimilarPairs(tmp_path, 'day', 'night')) == 1


@pytest.mark.parametrize('missing', ['day', 'night'])
def test_missing_folder_is_named_when_first_used(places: Path, missing: str) -> None:
    folders = {'day': 'day', 'night': 'night', missing: 'nowhere'}
    pairs = SimilarPairs(places, **folders)
    with pytest.raises(DataError, match='does not exist') as error:
        len(pairs)
    assert str(places / 'nowhere' / 'images') in str(error.value)


def test_damaged_frame_is_named(places: Path) -> None:
    path = places / 'night' / 'images' / '1.png'
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DataError, match='does not decode') as error:
        len(SimilarPairs(places, 'day', 'night'))
    assert str(path) in str(error.value)


def test_files_of_a_pair_may_differ_in_size(places: Path) -> None:
    class Fixed(PairedFileSet):
        def list_pairs(self) -> list[PairedFiles]:
            return [
                PairedFiles(
                    self.root / 'day' / 'images' / '0.png', self.root / 'night' / 'images' / '0.png'
                )
            ]

    assert Fixed(places)[0].day.shape == (144, 192, 3)


@pytest.fixture
def days(tmp_path: Path) -> LabelledFrames:
    """Return three labelled day frames of different sizes."""
    for index in range(3):
        height, width = 64 + 8 * index, 96
        labels = np.full((height, width), ROAD, np.uint8)
        labels[:20] = SKY
        labels[-2:] = UNLABELLED
        image = np.full((height, width, 3), 150, np.uint8)
        image[:20] = 230
        for folder, pixels in (('images', image), ('labels', labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f'{index}.png'), pixels)
    return LabelledFrames(tmp_path)


def test_relit_pairs_are_deterministic_in_any_order(days: LabelledFrames) -> None:
    first = [RelitPairs(days, seed=3)[index].night for index in range(3)]
    again = RelitPairs(days, seed=3)
    for index in (2, 0, 1, 1):
        np.testing.assert_array_equal(again[index].night, first[index])


def test_relit_pairs_differ_by_seed_and_frame(days: LabelledFrames) -> None:
    night = RelitPairs(days, seed=0)[0].night
    assert not np.array_equal(night, RelitPairs(days, seed=1)[0].night)
    assert not np.array_equal(night[:64], RelitPairs(days, seed=0)[1].night[:64])


def test_relit_pairs_keep_day_frames_as_they_are(days: LabelledFrames) -> None:
    before = [days[index].image.copy() for index in range(3)]
    pairs = RelitPairs(days)
    assert len(pairs) == 3
    for index, image in enumerate(before):
        day, night = pairs[index]
        np.testing.assert_array_equal(day, image)
        np.testing.assert_array_equal(days[index].image, image)
        assert night.shape == day.shape
        assert night.dtype == np.uint8


# Real frames


@pytest.fixture
def campus(shared_data: Path, tmp_path: Path) -> Path:
    """Return a root that links to real frames: all by day, a few by night."""
    for folder, count in (('campus_day', None), ('campus_night', REAL_NIGHTS)):
        images = tmp_path / folder / 'images'
        images.mkdir(parents=True)
        for path in sorted((shared_data / folder / 'images').iterdir())[:count]:
            (images / path.name).symlink_to(path)
    return tmp_path


def test_real_frames_are_paired_alike_each_time(campus: Path) -> None:
    pairs = SimilarPairs(campus, 'campus_day', 'campus_night')
    assert len(pairs) == REAL_NIGHTS
    assert pairs.pairs == SimilarPairs(campus, 'campus_day', 'campus_night').pairs
    day, night = pairs[0]
    assert day.shape == night.shape
    assert day.mean() > night.mean()


def test_a_real_frame_is_most_like_itself(campus: Path) -> None:
    pairs = SimilarPairs(campus, 'campus_night', 'campus_night')
    assert all(pair.day == pair.night for pair in pairs.pairs)


def _edges(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    edges = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.log1p(edges)


def test_real_frames_relit_stay_in_place(shared_data: Path) -> None:
    days = LabelledFrames(shared_data / 'camvid_day_val', cache=False)
    pairs = RelitPairs(days, seed=1)  # some nights are too dark to have edges
    darkened = []
    for index in range(0, 60, 10):
        day, night = pairs[index]
        assert night.shape == day.shape
        darkened.append(day.mean() - night.mean())
        # Of all shifts, none must bring the edges closer together than no shift.
        product = np.fft.fft2(_edges(day)) * np.fft.fft2(_edges(night)).conj()
        likeness = np.fft.ifft2(product / np.maximum(np.abs(product), 1e-6)).real
        row, column = np.unravel_index(likeness.argmax(), likeness.shape)
        assert (row, column) == (0, 0)
    # Some nights are bright: cameras overexpose.
    assert np.median(darkened) > 0


def test_unpaired_nights_are_all_images_of_all_folders(places: Path) -> None:
    folders = sorted(path for path in places.glob('*/images'))
    nights = UnpairedNights([str(folder) for folder in folders])
    count = sum(len(list(folder.iterdir())) for folder in folders)
    assert len(nights) == count > 1
    day, night = nights[count - 1]
    assert day is night
    assert night.dtype == np.uint8


def test_unpaired_nights_name_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='nowhere'):
        len(UnpairedNights([str(tmp_path / 'nowhere')]))
