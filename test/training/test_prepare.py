from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest

from training import prepare as module
from training.data.acdc import ACDCNight
from training.data.bdd100k import BDD100KNight
from training.data.camvid import CamVid
from training.data.cityscapes import Cityscapes
from training.data.dark_zurich import DarkZurich
from training.data.frames import DataError
from training.data.nightcity import NightCity
from training.data.nighttime_driving import NighttimeDriving
from training.data.shared_frames import SharedFrames
from training.prepare import DatasetName
from training.prepare import prepare

HEIGHT, WIDTH = 4, 8
ROAD_ID, CAR_ID = 7, 26
ROAD, CAR = 0, 13


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)


def write_frame(root: Path, image: str, label: str, car: int, road: int) -> None:
    """Write a frame: three quarters road, one quarter car."""
    write(root / image, np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    labels = np.full((HEIGHT, WIDTH), road, np.uint8)
    labels[0] = car
    write(root / label, labels)


def write_ids(root: Path, image: str, label: str) -> None:
    write_frame(root, image, label, CAR_ID, ROAD_ID)


def write_train_ids(root: Path, image: str, label: str) -> None:
    write_frame(root, image, label, CAR, ROAD)


def cityscapes(root: Path) -> None:
    for split, city in (('train', 'aachen'), ('val', 'lindau')):
        for index in range(2):
            name = f'{split}/{city}/{city}_{index:06}_000019'
            write_ids(
                root, f'leftImg8bit/{name}_leftImg8bit.png', f'gtFine/{name}_gtFine_labelIds.png'
            )


def dark_zurich(root: Path) -> None:
    for index in range(2):
        name = f'val/night/GOPR0356/GOPR0356_frame_{index:06}'
        write_train_ids(root, f'rgb_anon/{name}_rgb_anon.png', f'gt/{name}_gt_labelTrainIds.png')
    pixels = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
    pairs = []
    for index in range(3):
        night = f'train/night/GOPR0351/GOPR0351_frame_{index:06}'
        day = 'train/day/GOPR0345/GOPR0345_frame_000081'
        pairs.append(f'{night},{day}\n')
        for name in (night, day):
            write(root / f'rgb_anon/{name}_rgb_anon.png', pixels)
    (root / 'lists').mkdir()
    (root / 'lists/zurich_dn_pair_train.csv').write_text(''.join(pairs))
    write(root / 'rgb_anon/test/night/GOPR0364/GOPR0364_frame_000001_rgb_anon.png', pixels)


def nighttime_driving(root: Path) -> None:
    write_train_ids(
        root,
        'leftImg8bit/test/night/01_frame_0555_leftImg8bit.png',
        'gtCoarse_daytime_trainvaltest/test/night/01_frame_0555_gtCoarse_labelTrainIds.png',
    )


def nightcity(root: Path) -> None:
    for split, name in (('train', 'Chicago_0001'), ('val', 'Rome_0002')):
        write_ids(root, f'images/{split}/{name}.png', f'label/{split}/{name}_labelIds.png')


def nightcity_plus(root: Path) -> None:
    nightcity(root)
    write(root / 'label/val/Rome_0002_labelIds.png', np.full((8, 16), CAR_ID, np.uint8))


def nightcity_fine(root: Path) -> None:
    for split, name in (('train', 'Chicago_0001'), ('val', 'Rome_0002')):
        write_train_ids(root, f'{split}/img/{name}.png', f'{split}/lbl/{name}_trainIds.png')


def acdc_night(root: Path) -> None:
    for split in ('train', 'val'):
        name = f'night/{split}/GOPR0122/GOPR0122_frame_000161'
        write_train_ids(root, f'rgb_anon/{name}_rgb_anon.png', f'gt/{name}_gt_labelTrainIds.png')


def bdd100k_night(root: Path) -> None:
    (root / 'lists').mkdir(parents=True)
    for split in ('train', 'val'):
        write_train_ids(
            root, f'images/10k/{split}/{split}-1.jpg', f'labels/sem_seg/masks/{split}/{split}-1.png'
        )
        (root / f'lists/night_{split}.txt').write_text(f'{split}-1\n')


def camvid(root: Path) -> None:
    pixels = np.full((HEIGHT, WIDTH, 3), (128, 64, 128), np.uint8)
    for name in ('0006R0_f00930', 'Seq05VD_f00000', '0001TP_006690'):
        write(root / f'701_StillsRaw_full/{name}.png', pixels)
        write(root / f'LabeledApproved_full/{name}_L.png', pixels)


WRITERS: dict[str, Callable[[Path], None]] = {
    'cityscapes': cityscapes,
    'dark_zurich': dark_zurich,
    'nighttime_driving': nighttime_driving,
    'nightcity': nightcity,
    'nightcity_plus': nightcity_plus,
    'nightcity_fine': nightcity_fine,
    'acdc_night': acdc_night,
    'bdd100k_night': bdd100k_night,
    'camvid': camvid,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return an empty root that has no space in its name."""
    (tmp_path / 'data').mkdir()
    return tmp_path / 'data'


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return a folder for lists that does not exist yet."""
    return tmp_path / 'lists' / 'new'


@pytest.fixture(autouse=True)
def miniature_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expect as many frames as the miniatures have."""
    monkeypatch.setattr(Cityscapes, 'counts', {'train': 2, 'val': 2})
    monkeypatch.setattr(DarkZurich, 'counts', {'val': 2})
    monkeypatch.setattr('training.data.dark_zurich.PAIRS', 3)
    monkeypatch.setattr('training.data.dark_zurich.TESTS', 1)
    monkeypatch.setattr(NighttimeDriving, 'counts', {'test': 1})
    monkeypatch.setattr(NightCity, 'counts', {'train': 1, 'val': 1})
    monkeypatch.setattr(ACDCNight, 'counts', {'train': 1, 'val': 1})
    monkeypatch.setattr(CamVid, 'counts', {'train': 1, 'val': 1, 'dusk': 1})
    monkeypatch.setenv('COLUMNS', '200')


def problems_of(dataset: str, root: Path, output: Path, **kwargs: bool) -> list[str]:
    with pytest.raises(DataError) as error:
        prepare(dataset, root, output, **kwargs)
    first, *problems = str(error.value).splitlines()
    assert first.startswith(f'{dataset} in {root}: ')
    return problems


def read_lists(output: Path) -> dict[str, list[str]]:
    return {path.stem: path.read_text().splitlines() for path in sorted(output.glob('*'))}


def test_every_data_set_is_tested() -> None:
    assert set(WRITERS) == set(get_args(DatasetName)) - {'shared_frames'}


@pytest.mark.parametrize('dataset', WRITERS)
def test_whole_data_set_is_listed(dataset: str, root: Path, output: Path) -> None:
    WRITERS[dataset](root)
    before = sorted(root.rglob('*'))
    prepare(dataset, root, output)
    for lines in read_lists(output).values():
        assert lines
        for line in lines:
            for path in line.split(','):
                assert (root / path).is_file()
    assert sorted(root.rglob('*')) == before


def test_lists_of_dark_zurich(root: Path, output: Path) -> None:
    dark_zurich(root)
    prepare('dark_zurich', root, output)
    lists = read_lists(output)
    assert {name: len(lines) for name, lines in lists.items()} == {
        'test': 1,
        'train_pairs': 3,
        'val': 2,
    }
    assert lists['val'][0] == (
        'rgb_anon/val/night/GOPR0356/GOPR0356_frame_000000_rgb_anon.png,'
        'gt/val/night/GOPR0356/GOPR0356_frame_000000_gt_labelTrainIds.png'
    )
    assert lists['train_pairs'][0] == (
        'rgb_anon/train/night/GOPR0351/GOPR0351_frame_000000_rgb_anon.png,'
        'rgb_anon/train/day/GOPR0345/GOPR0345_frame_000081_rgb_anon.png'
    )
    assert lists['test'] == ['rgb_anon/test/night/GOPR0364/GOPR0364_frame_000001_rgb_anon.png']


@pytest.mark.parametrize('dataset', ['cityscapes', 'dark_zurich', 'nightcity'])
def test_table_tells_frames_sizes_and_shares(
    dataset: str, root: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WRITERS[dataset](root)
    prepare(dataset, root, output)
    printed = capsys.readouterr().out
    for part in ('val', '8x4', 'road 75.00%', 'car 25.00%', '0.0% of all pixels ignored'):
        assert part in printed


def test_lists_can_be_read_back_as_night_frames(root: Path, output: Path) -> None:
    bdd100k_night(root)
    prepare('bdd100k_night', root, output)
    files = BDD100KNight(root, 'val', output / 'val.csv').files
    assert [file.name for file in files] == ['val-1']


def test_default_output_is_below_build(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nightcity(root)
    prepare('nightcity', root)
    assert sorted(read_lists(tmp_path / 'build/lists/nightcity')) == ['train', 'val']


@pytest.mark.parametrize('inside', ['', 'lists'])
def test_the_data_set_is_not_written_to(root: Path, inside: str) -> None:
    nightcity(root)
    with pytest.raises(DataError, match='not written to'):
        prepare('nightcity', root, root / inside)


@pytest.mark.parametrize('dataset', WRITERS)
def test_empty_root_names_what_is_missing(dataset: str, root: Path, output: Path) -> None:
    problems = problems_of(dataset, root, output)
    assert problems
    assert all(str(root) in problem for problem in problems)
    assert not output.exists()


def test_wrong_count_can_be_allowed(root: Path, output: Path) -> None:
    cityscapes(root)
    name = 'aachen/aachen_000000_000019'
    (root / f'leftImg8bit/train/{name}_leftImg8bit.png').unlink()
    (root / f'gtFine/train/{name}_gtFine_labelIds.png').unlink()
    (problem,) = problems_of('cityscapes', root, output)
    assert 'leftImg8bit/train (train): 1 frames, the released data set has 2' in problem
    assert sorted(read_lists(output)) == ['val']
    prepare('cityscapes', root, output, check_counts=False)
    assert sorted(read_lists(output)) == ['train', 'val']


def test_all_problems_are_told(root: Path, output: Path) -> None:
    cityscapes(root)
    image, label = 'leftImg8bit/train/aachen/aachen', 'gtFine/val/lindau/lindau'
    cut = root / f'{image}_000000_000019_leftImg8bit.png'
    cut.write_bytes(cut.read_bytes()[:-20])
    foreign = root / f'{label}_000000_000019_gtFine_labelIds.png'
    write(foreign, np.array([[40] * WIDTH, [CAR_ID] * WIDTH] * 2, np.uint8))
    narrow = root / f'{label}_000001_000019_gtFine_labelIds.png'
    write(narrow, np.full((HEIGHT, 3), CAR_ID, np.uint8))
    write(root / 'gtFine/val/lindau/extra_gtFine_labelIds.png', np.zeros((2, 2), np.uint8))
    problems = problems_of('cityscapes', root, output)
    for part in (
        f'{cut} is cut off',
        f'{foreign} holds [40]',
        f'{narrow} is (4, 3), its image is (4, 8)',
        'extra_gtFine_labelIds.png',
    ):
        assert any(part in problem for problem in problems), part
    assert len(problems) == 4


def test_many_problems_are_counted(
    root: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cityscapes(root)
    for path in root.glob('leftImg8bit/**/*.png'):
        path.write_bytes(b'')
    monkeypatch.setattr(module, 'MAX_PROBLEMS', 3)
    problems = problems_of('cityscapes', root, output)
    assert len(problems) == 4
    assert problems[-1] == 'and 1 more'


@pytest.mark.parametrize('dataset', ['cityscapes', 'nightcity'])
def test_train_ids_where_label_ids_belong(
    dataset: str, root: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f'{__name__}.write_ids', write_train_ids)
    WRITERS[dataset](root)
    problems = problems_of(dataset, root, output)
    assert len(problems) == 2
    folder = root / ('gtFine' if dataset == 'cityscapes' else 'label')
    for split, problem in zip(('train', 'val'), problems, strict=True):
        assert problem.startswith(f'{folder / split}: none of ')
        assert 'trainIds where labelIds belong' in problem


@pytest.mark.parametrize(
    ('dataset', 'folder'),
    [
        ('nightcity_fine', '{}/lbl'),
        ('acdc_night', 'gt/night/{}'),
        ('bdd100k_night', 'labels/sem_seg/masks/{}'),
    ],
)
def test_label_ids_where_train_ids_belong(
    dataset: str, folder: str, root: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f'{__name__}.write_train_ids', write_ids)
    WRITERS[dataset](root)
    problems = problems_of(dataset, root, output)
    assert len(problems) == 2
    for split, problem in zip(('train', 'val'), problems, strict=True):
        assert problem.startswith(f'{root / folder.format(split)}: 1 of 1 labels hold values')
        assert 'labelIds where trainIds belong' in problem
        assert 'convert them' in problem


def test_colors_where_ids_belong(root: Path, output: Path) -> None:
    cityscapes(root)
    for path in root.glob('gtFine/val/**/*.png'):
        write(path, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (problem,) = problems_of('cityscapes', root, output)
    assert problem.startswith(f'{root}/gtFine/val: 2 of 2 labels are colours')
    assert 'take the files with ids' in problem


def test_unknown_color_of_camvid(root: Path, output: Path) -> None:
    camvid(root)
    path = root / 'LabeledApproved_full/Seq05VD_f00000_L.png'
    write(path, np.full((HEIGHT, WIDTH, 3), (3, 2, 1), np.uint8))
    (problem,) = problems_of('camvid', root, output)
    assert str(path) in problem
    assert '(1, 2, 3)' in problem


def test_problems_of_pairs_and_test(root: Path, output: Path) -> None:
    dark_zurich(root)
    missing = root / 'rgb_anon/train/night/GOPR0351/GOPR0351_frame_000001_rgb_anon.png'
    missing.unlink()
    cut = root / 'rgb_anon/test/night/GOPR0364/GOPR0364_frame_000001_rgb_anon.png'
    cut.write_bytes(cut.read_bytes()[:-20])
    pairs, test = problems_of('dark_zurich', root, output)
    assert str(missing) in pairs
    assert test == f'{cut} is cut off: copy or unpack it again'
    assert sorted(read_lists(output)) == ['val']


def test_the_misplaced_frame_is_told_once(root: Path, output: Path) -> None:
    nightcity(root)
    write_ids(root, 'images/val/Dubai_0016.png', 'label/val/Dubai_0016_labelIds.png')
    problems = problems_of('nightcity', root, output)
    assert sum('Dubai_0016' in problem for problem in problems) == 1


def test_the_frames_of_this_project_are_in_form(shared_data: Path, tmp_path: Path) -> None:
    prepare('shared_frames', shared_data, tmp_path / 'lists')
    lists = {path.stem: path.read_text().splitlines() for path in (tmp_path / 'lists').iterdir()}
    assert {name: len(lines) for name, lines in lists.items()} == SharedFrames.counts
    image, label = lists['campus_day'][0].split(',')
    assert (shared_data / image).is_file()
    assert (shared_data / label).is_file()
