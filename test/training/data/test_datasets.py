from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from nightseg_ros.core.labels import UNLABELLED
from training.data.acdc import ACDCNight
from training.data.bdd100k import BDD100KNight
from training.data.camvid import CLASSES as CAMVID_CLASSES
from training.data.camvid import CamVid
from training.data.cityscapes import Cityscapes
from training.data.dark_zurich import DarkZurich
from training.data.dark_zurich import DarkZurichPairs
from training.data.dark_zurich import DarkZurichTest
from training.data.frames import DataError
from training.data.labelled_set import LabelledFrames
from training.data.matching import ReleasedSet
from training.data.matching import read_size
from training.data.nightcity import NightCity
from training.data.nighttime_driving import NighttimeDriving

HEIGHT, WIDTH = 4, 8
CAR_ID, CAR = 26, 13
CAMVID_CAR = (64, 0, 128)


def write_image(path: Path, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def write_ids(path: Path, value: int, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width), value, np.uint8))


def write_color(path: Path, rgb: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), rgb[::-1], np.uint8))


class Released(NamedTuple):
    """One split of a data set: how to make it, where its first two frames are, its count."""

    make: Callable[..., ReleasedSet]
    images: tuple[str, str]
    labels: tuple[str, str]
    count: int | None
    car: int | tuple[int, int, int] = CAR

    def write(self, root: Path) -> Released:
        for image, label in zip(self.images, self.labels, strict=True):
            write_image(root / image)
            if isinstance(self.car, int):
                write_ids(root / label, self.car)
            else:
                write_color(root / label, self.car)
        return self


def frames(form: str, *names: str) -> tuple[str, ...]:
    return tuple(form.replace('*', name) for name in names)


def nightcity(version: str) -> Callable[..., ReleasedSet]:
    return lambda root, **kwargs: NightCity(root, 'val', version, **kwargs)


def val(kind: type[ReleasedSet]) -> Callable[..., ReleasedSet]:
    return lambda root, **kwargs: kind(root, 'val', **kwargs)


AACHEN = ('aachen/aachen_000000_000019', 'bochum/bochum_000000_000313')
GOPR = ('GOPR0356/GOPR0356_frame_000321', 'GOPR0356/GOPR0356_frame_000324')
CITIES = ('Chicago_0004', 'Tokyo_0010')

RELEASED = {
    'cityscapes train': Released(
        Cityscapes,
        frames('leftImg8bit/train/*_leftImg8bit.png', *AACHEN),
        frames('gtFine/train/*_gtFine_labelIds.png', *AACHEN),
        2975,
        CAR_ID,
    ),
    'cityscapes val': Released(
        val(Cityscapes),
        frames('leftImg8bit/val/*_leftImg8bit.png', *AACHEN),
        frames('gtFine/val/*_gtFine_labelIds.png', *AACHEN),
        500,
        CAR_ID,
    ),
    'dark zurich val': Released(
        DarkZurich,
        frames('rgb_anon/val/night/*_rgb_anon.png', *GOPR),
        frames('gt/val/night/*_gt_labelTrainIds.png', *GOPR),
        50,
    ),
    'nighttime driving': Released(
        NighttimeDriving,
        frames('leftImg8bit/test/night/*_leftImg8bit.png', '01_frame_0555', '01_frame_0744'),
        frames(
            'gtCoarse_daytime_trainvaltest/test/night/*_gtCoarse_labelTrainIds.png',
            '01_frame_0555',
            '01_frame_0744',
        ),
        50,
    ),
    'nightcity val': Released(
        nightcity('original'),
        frames('images/val/*.png', *CITIES),
        frames('label/val/*_labelIds.png', *CITIES),
        1299,
        CAR_ID,
    ),
    'nightcity plus val': Released(
        nightcity('plus'),
        frames('images/val/*.png', *CITIES),
        frames('label/val/*_labelIds.png', *CITIES),
        1299,
        CAR_ID,
    ),
    'nightcity fine val': Released(
        nightcity('fine'),
        frames('val/img/*.png', *CITIES),
        frames('val/lbl/*_trainIds.png', *CITIES),
        1299,
    ),
    'acdc val': Released(
        val(ACDCNight),
        frames('rgb_anon/night/val/*_rgb_anon.png', *GOPR),
        frames('gt/night/val/*_gt_labelTrainIds.png', *GOPR),
        106,
    ),
    'camvid val': Released(
        val(CamVid),
        frames('701_StillsRaw_full/*.png', 'Seq05VD_f00000', 'Seq05VD_f00030'),
        frames('LabeledApproved_full/*_L.png', 'Seq05VD_f00000', 'Seq05VD_f00030'),
        171,
        CAMVID_CAR,
    ),
}


@pytest.fixture(params=RELEASED)
def released(request: pytest.FixtureRequest, tmp_path: Path) -> Released:
    """Return each data set in turn, with two frames under tmp_path."""
    return RELEASED[request.param].write(tmp_path)


def problems_of(labelled: ReleasedSet) -> str:
    with pytest.raises(DataError) as error:
        labelled.list_files()
    return str(error.value)


def test_reads_images_and_train_ids(released: Released, tmp_path: Path) -> None:
    labelled = released.make(tmp_path, check_counts=False)
    assert [file.image for file in labelled.files] == [tmp_path / path for path in released.images]
    assert [file.labels for file in labelled.files] == [tmp_path / path for path in released.labels]
    image, labels = labelled[1]
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[CAR] * WIDTH] * HEIGHT


def test_names_are_unique_and_without_suffix(released: Released, tmp_path: Path) -> None:
    names = [file.name for file in released.make(tmp_path, check_counts=False).files]
    for name, image in zip(names, released.images, strict=True):
        assert Path(image).name.startswith(name)
        assert '.' not in name and '/' not in name and 'rgb_anon' not in name


def test_construction_touches_no_disk(released: Released, tmp_path: Path) -> None:
    message = problems_of(released.make(tmp_path / 'nowhere'))
    for path in (released.images[0], released.labels[0]):
        assert str(tmp_path / 'nowhere' / Path(path).parts[0]) in message
    assert 'there is no folder' in message
    assert 'root' in message


def test_wrong_count_tells_both(released: Released, tmp_path: Path) -> None:
    message = problems_of(released.make(tmp_path))
    assert f'2 frames, the released data set has {released.count}' in message
    assert 'check_counts=False' in message


def test_missing_label_is_named_with_both_counts(released: Released, tmp_path: Path) -> None:
    (tmp_path / released.labels[1]).unlink()
    message = problems_of(released.make(tmp_path, check_counts=False))
    assert '1 of 2 images' in message
    assert '(1 labels)' in message
    assert f'missing {tmp_path / released.labels[1]}' in message


def test_excess_label_is_named_with_both_counts(released: Released, tmp_path: Path) -> None:
    (tmp_path / released.images[0]).unlink()
    message = problems_of(released.make(tmp_path, check_counts=False))
    assert '1 of 2 labels have no image' in message
    assert '(1 images)' in message
    assert str(tmp_path / released.labels[0]) in message


def test_another_encoding_is_recognised_by_its_names(released: Released, tmp_path: Path) -> None:
    for label in released.labels:
        path = tmp_path / label
        path.rename(path.with_name(path.name.rsplit('_', 1)[0] + '_color.png'))
    message = problems_of(released.make(tmp_path, check_counts=False))
    assert 'there is no' in message
    assert '_color.png' in message
    assert 'another encoding' in message


def test_foreign_value_is_named(released: Released, tmp_path: Path) -> None:
    path = tmp_path / released.labels[0]
    if isinstance(released.car, int):
        write_ids(path, 77)
        expected = '[77]'
    else:
        write_color(path, (1, 2, 3))
        expected = '(1, 2, 3)'
    with pytest.raises(DataError) as error:
        released.make(tmp_path, check_counts=False)[0]
    assert str(path) in str(error.value)
    assert expected in str(error.value)


def test_many_missing_labels_are_counted(tmp_path: Path) -> None:
    names = [f'City_{index:04}' for index in range(12)]
    for image in frames('images/val/*.png', *names):
        write_image(tmp_path / image)
    write_ids(tmp_path / 'label/val/City_0000_labelIds.png', CAR_ID)
    message = problems_of(NightCity(tmp_path, 'val'))
    assert '11 of 12 images' in message
    assert 'and 6 more' in message


@pytest.mark.parametrize('kind', [Cityscapes, DarkZurich, NightCity, ACDCNight, CamVid])
def test_unknown_split_names_the_known(kind: type[ReleasedSet]) -> None:
    with pytest.raises(DataError, match='choose from') as error:
        kind('anywhere', 'all')
    assert all(split in str(error.value) for split in kind.counts)


def test_metadata_of_other_systems_is_no_frame(tmp_path: Path) -> None:
    released = RELEASED['nightcity val'].write(tmp_path)
    (tmp_path / released.images[0]).with_name('._Chicago_0004.png').touch()
    assert len(released.make(tmp_path, check_counts=False)) == 2


# NightCity


@pytest.mark.parametrize('version', ['original', 'plus'])
@pytest.mark.parametrize('split', ['train', 'val'])
def test_the_misplaced_frame_of_one_upload_is_named(
    tmp_path: Path, version: str, split: str
) -> None:
    for part, name in (('train', 'Chicago_0001'), ('val', 'Dubai_0016')):
        write_image(tmp_path / 'images' / part / f'{name}.png')
        write_ids(tmp_path / 'label' / part / f'{name}_labelIds.png', CAR_ID)
    message = problems_of(NightCity(tmp_path, split, version, check_counts=False))
    for part in (
        tmp_path / 'images/val/Dubai_0016.png',
        tmp_path / 'label/val/Dubai_0016_labelIds.png',
        '2,997/1,300',
        f'Move Dubai_0016 to {tmp_path}/images/train',
    ):
        assert str(part) in message


def test_the_misplaced_label_of_nightcity_plus_is_named(tmp_path: Path) -> None:
    RELEASED['nightcity plus val'].write(tmp_path)
    write_ids(tmp_path / 'label/val/Dubai_0016_labelIds.png', CAR_ID)
    message = problems_of(NightCity(tmp_path, 'val', 'plus', check_counts=False))
    assert message.startswith(f'{tmp_path}/label/val/Dubai_0016_labelIds.png belongs to train')


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('version', ['original', 'fine'])
def test_a_frame_in_both_splits_is_named(tmp_path: Path, version: str, split: str) -> None:
    for part in ('train', 'val'):
        if version == 'fine':
            write_image(tmp_path / part / 'img' / 'Rome_0001.png')
            write_ids(tmp_path / part / 'lbl' / 'Rome_0001_trainIds.png', CAR)
        else:
            write_image(tmp_path / 'images' / part / 'Rome_0001.png')
            write_ids(tmp_path / 'label' / part / 'Rome_0001_labelIds.png', CAR_ID)
    message = problems_of(NightCity(tmp_path, split, version, check_counts=False))
    assert 'Rome_0001: val would be trained on' in message


def test_plus_labels_twice_as_large_fit_their_images(tmp_path: Path) -> None:
    released = RELEASED['nightcity plus val'].write(tmp_path)
    labels = np.full((2 * HEIGHT, 2 * WIDTH), CAR_ID, np.uint8)
    labels[1::2] = 7
    cv2.imwrite(str(tmp_path / released.labels[0]), labels)
    image, train_ids = released.make(tmp_path, check_counts=False)[0]
    assert train_ids.shape == image.shape[:2]
    assert (train_ids == CAR).all()
    with pytest.raises(DataError, match="choose the version 'plus'"):
        NightCity(tmp_path, 'val', 'original', check_counts=False)[0]


def test_label_ids_in_nightcity_fine_are_refused(tmp_path: Path) -> None:
    released = RELEASED['nightcity fine val'].write(tmp_path)
    write_ids(tmp_path / released.labels[0], CAR_ID)
    with pytest.raises(DataError, match='labelIds where trainIds belong'):
        released.make(tmp_path, check_counts=False)[0]


def test_unknown_version_names_the_known() -> None:
    with pytest.raises(DataError, match='original, plus, fine'):
        NightCity('anywhere', 'val', 'coarse')


# Dark Zurich


def pair_line(night: int, day: int) -> str:
    return (
        f'train/night/GOPR0351/GOPR0351_frame_{night:06},train/day/GOPR0345/GOPR0345_frame_{day:06}'
    )


@pytest.fixture
def zurich(tmp_path: Path) -> Path:
    """Return a root with three night frames, two day frames, and the list that pairs them."""
    for night in (1, 2, 3):
        write_image(
            tmp_path / f'rgb_anon/train/night/GOPR0351/GOPR0351_frame_{night:06}_rgb_anon.png'
        )
    for day in (81, 82):
        write_image(
            tmp_path / f'rgb_anon/train/day/GOPR0345/GOPR0345_frame_{day:06}_rgb_anon.png', 2, 4
        )
    write_list(tmp_path, pair_line(1, 81), pair_line(2, 81), pair_line(3, 82))
    return tmp_path


def write_list(root: Path, *lines: str) -> None:
    (root / 'lists').mkdir(exist_ok=True)
    (root / 'lists' / 'zurich_dn_pair_train.csv').write_text(''.join(f'{x}\n' for x in lines))


def problems_of_pairs(root: Path, check_counts: bool = False) -> str:
    with pytest.raises(DataError) as error:
        DarkZurichPairs(root, check_counts=check_counts).list_pairs()
    return str(error.value)


def test_pairs_are_those_of_the_list_in_order(zurich: Path) -> None:
    pairs = DarkZurichPairs(zurich, check_counts=False)
    assert [(pair.night.name, pair.day.name) for pair in pairs.pairs] == [
        ('GOPR0351_frame_000001_rgb_anon.png', 'GOPR0345_frame_000081_rgb_anon.png'),
        ('GOPR0351_frame_000002_rgb_anon.png', 'GOPR0345_frame_000081_rgb_anon.png'),
        ('GOPR0351_frame_000003_rgb_anon.png', 'GOPR0345_frame_000082_rgb_anon.png'),
    ]
    assert pairs[0].day.shape == pairs[0].night.shape == (HEIGHT, WIDTH, 3)


def test_the_list_may_lie_elsewhere(zurich: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp('lists') / 'mine.csv'
    path.write_text(f'{pair_line(2, 82)}\n\n')
    assert len(DarkZurichPairs(zurich, path, check_counts=False)) == 1


def test_missing_list_tells_where_to_get_it(tmp_path: Path) -> None:
    message = problems_of_pairs(tmp_path)
    assert str(tmp_path / 'lists' / 'zurich_dn_pair_train.csv') in message
    assert 'W-zx-Y/DANNet' in message


@pytest.mark.parametrize(
    'line',
    [
        pytest.param('train/night/GOPR0351/GOPR0351_frame_000002', id='no day'),
        pytest.param(pair_line(2, 81) + ',train/day/GOPR0345/GOPR0345_frame_000082', id='three'),
        pytest.param(','.join(reversed(pair_line(2, 81).split(','))), id='day first'),
        pytest.param(pair_line(2, 81) + '_rgb_anon.png', id='suffix'),
        pytest.param('night,day', id='header'),
        pytest.param('night/GOPR0356/GOPR0356_frame_000321_rgb_anon.png', id='val list'),
    ],
)
def test_malformed_line_is_named(zurich: Path, line: str) -> None:
    write_list(zurich, pair_line(1, 81), line, pair_line(3, 82))
    message = problems_of_pairs(zurich)
    assert str(zurich / 'lists' / 'zurich_dn_pair_train.csv') in message
    assert f'line 2 {line!r}' in message
    assert 'expected NIGHT,DAY without suffix' in message


def test_night_frame_named_twice(zurich: Path) -> None:
    write_list(zurich, pair_line(1, 81), pair_line(1, 82))
    assert 'night frames twice: train/night/GOPR0351/GOPR0351_frame_000001' in problems_of_pairs(
        zurich
    )


@pytest.mark.parametrize('side', ['night/GOPR0351/GOPR0351', 'day/GOPR0345/GOPR0345'])
def test_missing_file_of_a_pair_is_named(zurich: Path, side: str) -> None:
    frame = 2 if side.startswith('night') else 81
    path = zurich / f'rgb_anon/train/{side}_frame_{frame:06}_rgb_anon.png'
    path.unlink()
    message = problems_of_pairs(zurich)
    assert f'1 frames of {zurich}/lists/zurich_dn_pair_train.csv are missing: {path}' in message
    assert 'Dark_Zurich_train_anon.zip' in message


def test_all_problems_of_pairs_are_told(zurich: Path) -> None:
    write_list(zurich, pair_line(1, 81), 'nonsense', pair_line(1, 99))
    lines = problems_of_pairs(zurich, check_counts=True).splitlines()
    assert len(lines) == 4
    assert '2 frames, the released data set has 2416' in lines[-1]


@pytest.mark.parametrize('value', [1, 128, 255])
def test_invalid_mask(tmp_path: Path, value: int) -> None:
    RELEASED['dark zurich val'].write(tmp_path)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[1] = value
    path = tmp_path / f'gt/val/night/{GOPR[0]}_gt_invGray.png'
    cv2.imwrite(str(path), mask)
    frames = DarkZurich(tmp_path, check_counts=False)
    assert frames.invalid_mask(0).dtype == bool
    assert frames.invalid_mask(0).tolist() == (mask > 0).tolist()
    assert frames.invalid_mask(1) is None


@pytest.mark.parametrize(('damage', 'expected'), [(b'no png', 'decode'), (None, r'\[0, 7, 9\]')])
def test_damaged_invalid_mask_is_named(tmp_path: Path, damage: bytes | None, expected: str) -> None:
    RELEASED['dark zurich val'].write(tmp_path)
    path = tmp_path / f'gt/val/night/{GOPR[0]}_gt_invGray.png'
    cv2.imwrite(str(path), np.array([[0, 7, 9]], np.uint8))
    if damage:
        path.write_bytes(damage)
    with pytest.raises(DataError, match=expected) as error:
        DarkZurich(tmp_path, check_counts=False).invalid_mask(0)
    assert str(path) in str(error.value)


def test_test_images_have_the_names_of_the_submission(tmp_path: Path) -> None:
    for name in ('GOPR0364/GOPR0364_frame_000021', 'GOPR0364/GOPR0364_frame_000001'):
        write_image(tmp_path / f'rgb_anon/test/night/{name}_rgb_anon.png')
    test = DarkZurichTest(tmp_path, check_counts=False)
    assert test.names == ['GOPR0364_frame_000001', 'GOPR0364_frame_000021']
    assert [read_size(path) for path in test.images] == [(HEIGHT, WIDTH)] * len(test)
    with pytest.raises(DataError, match='2 frames, the released data set has 151'):
        len(DarkZurichTest(tmp_path))


def test_missing_test_images_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='Dark_Zurich_test_anon_withoutGt.zip') as error:
        _ = DarkZurichTest(tmp_path).images
    assert str(tmp_path / 'rgb_anon/test/night') in str(error.value)


# BDD100K


@pytest.fixture
def bdd(tmp_path: Path) -> Path:
    """Return a root with three frames of val."""
    for name in ('aaaa-1', 'bbbb-2', 'cccc-3'):
        write_image(tmp_path / f'images/10k/val/{name}.jpg')
        write_ids(tmp_path / f'labels/sem_seg/masks/val/{name}.png', CAR)
    return tmp_path


@pytest.mark.parametrize(
    'text',
    [
        'aaaa-1\ncccc-3\n',
        'aaaa-1.jpg\ncccc-3.jpg',
        'seg/images/val/aaaa-1.jpg\nseg/images/train/dddd-4.jpg\nseg/images/val/cccc-3.jpg\n',
        'images/10k/val/aaaa-1.jpg,labels/sem_seg/masks/val/aaaa-1.png\ncccc-3,x.png\n',
    ],
)
@pytest.mark.parametrize('by_default', [True, False])
def test_night_frames_by_list(bdd: Path, text: str, by_default: bool) -> None:
    path = bdd / 'lists' / ('night_val.txt' if by_default else 'mine.txt')
    path.parent.mkdir()
    path.write_text(text)
    frames = BDD100KNight(bdd, 'val', None if by_default else path)
    assert [file.name for file in frames.files] == ['aaaa-1', 'cccc-3']
    assert (frames[0].labels == CAR).all()


@pytest.mark.parametrize(
    'file', ['det_20/det_val.json', 'det_20/det_train.json', 'bdd100k_labels_images_val.json']
)
def test_night_frames_by_attribute(bdd: Path, file: str) -> None:
    path = bdd / 'labels' / file
    path.parent.mkdir(exist_ok=True)
    times = {'aaaa-1': 'daytime', 'bbbb-2': 'night', 'elsewhere': 'night'}
    path.write_text(
        json.dumps(
            [{'name': f'{n}.jpg', 'attributes': {'timeofday': t}} for n, t in times.items()]
            + [{'name': 'cccc-3.jpg'}]
        )
    )
    assert [file.name for file in BDD100KNight(bdd, 'val').files] == ['bbbb-2']


def test_without_list_or_attributes_the_ways_are_told(bdd: Path) -> None:
    message = problems_of(BDD100KNight(bdd, 'val'))
    assert f'{bdd}/lists/night_val.txt' in message
    assert f'{bdd}/labels/det_20/det_val.json' in message


def test_listed_night_frame_that_is_missing(bdd: Path) -> None:
    path = bdd / 'mine.txt'
    path.write_text('seg/images/val/aaaa-1.jpg\nseg/images/val/eeee-5.jpg\n')
    assert '1 night frames of the list are not in' in problems_of(BDD100KNight(bdd, 'val', path))
    assert len(BDD100KNight(bdd, 'val', path, check_counts=False)) == 1
    path.unlink()
    assert f'{path}, the list of night frames, does not exist' in problems_of(
        BDD100KNight(bdd, 'val', path)
    )


def test_a_list_without_night_frames(bdd: Path) -> None:
    path = bdd / 'mine.txt'
    path.write_text('seg/images/train/ffff-6.jpg\n')
    assert 'none of the 3 frames' in problems_of(BDD100KNight(bdd, 'val', path))


# CamVid


def test_every_camvid_class_has_its_color() -> None:
    assert len(CAMVID_CLASSES) == 32
    assert len({c.color for c in CAMVID_CLASSES}) == 32
    assert {c.train_id for c in CAMVID_CLASSES} <= {*range(19), UNLABELLED}


def test_camvid_colors_become_train_ids(tmp_path: Path) -> None:
    colors = np.array([[c.color for c in CAMVID_CLASSES]], np.uint8)
    for name, pixels in (
        ('701_StillsRaw_full/0016E5_00390.png', colors),
        ('LabeledApproved_full/0016E5_00390_L.png', colors[..., ::-1]),
    ):
        (tmp_path / name).parent.mkdir()
        cv2.imwrite(str(tmp_path / name), pixels)
    labels = CamVid(tmp_path, check_counts=False)[0].labels
    assert labels[0].tolist() == [c.train_id for c in CAMVID_CLASSES]
    by_name = {c.name: c.train_id for c in CAMVID_CLASSES}
    expected = {'Bicyclist': 18, 'Tree': 8, 'Column_Pole': 5, 'SignSymbol': 7, 'Void': 255}
    assert expected.items() <= by_name.items()


def test_camvid_is_split_by_drive(tmp_path: Path) -> None:
    names = {
        'train': ['0006R0_f00930', '0016E5_00390'],
        'val': ['Seq05VD_f00000'],
        'dusk': ['0001TP_006690'],
    }
    for name in sum(names.values(), []):
        write_image(tmp_path / '701_StillsRaw_full' / f'{name}.png')
        write_color(tmp_path / 'LabeledApproved_full' / f'{name}_L.png', CAMVID_CAR)
    for split, expected in names.items():
        files = CamVid(tmp_path, split, check_counts=False).files
        assert [file.name for file in files] == expected
    (tmp_path / 'LabeledApproved_full' / 'Seq05VD_f00000_L.png').unlink()
    assert 'Seq05VD' in problems_of(CamVid(tmp_path, 'val', check_counts=False))


def test_camvid_ids_are_refused(tmp_path: Path) -> None:
    released = RELEASED['camvid val'].write(tmp_path)
    write_ids(tmp_path / released.labels[0], CAR)
    with pytest.raises(DataError, match='holds ids: this data set has colours'):
        released.make(tmp_path, check_counts=False)[0]


# Headers


@pytest.mark.parametrize(('suffix', 'cut'), [('.png', 12), ('.jpg', 2)])
def test_size_of_a_header(tmp_path: Path, suffix: str, cut: int) -> None:
    path = tmp_path / f'frame{suffix}'
    write_image(path)
    assert read_size(path) == (HEIGHT, WIDTH)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with pytest.raises(DataError, match='is cut off') as error:
        read_size(path)
    assert str(path) in str(error.value)
    path.write_bytes(b'')
    with pytest.raises(DataError, match='is no image'):
        read_size(path)
    path.unlink()
    with pytest.raises(DataError, match='is no image'):
        read_size(path)


def test_every_nth_frame_is_held_out_and_none_is_in_both(tmp_path: Path) -> None:
    for index in range(7):
        for folder in ('images', 'labels'):
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f'{index}.png'), np.zeros((4, 4), np.uint8))
    trained = LabelledFrames(tmp_path, hold_out=3)
    held = LabelledFrames(tmp_path, hold_out=3, held_out=True)
    assert [file.name for file in held.files] == ['2', '5']
    assert [file.name for file in trained.files] == ['0', '1', '3', '4', '6']
    assert len(LabelledFrames(tmp_path)) == 7
