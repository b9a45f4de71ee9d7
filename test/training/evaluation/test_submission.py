from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.frames import DataError
from training.evaluation import submission
from training.evaluation.submission import CONFIDENCE
from training.evaluation.submission import FOLDERS
from training.evaluation.submission import INVALID
from training.evaluation.submission import LABELS
from training.evaluation.submission import frame_name
from training.evaluation.submission import inspect
from training.evaluation.submission import pack
from training.evaluation.submission import read_names
from training.evaluation.submission import verify
from training.evaluation.submission import write_prediction

NAMES = [f'GOPR0364_frame_{n:06d}' for n in (1, 41)] + ['GP010364_frame_000001']
SIZE = (6, 8)
REAL = (submission.FRAMES, submission.SIZE)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, 'FRAMES', len(NAMES))
    monkeypatch.setattr(submission, 'SIZE', SIZE)


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / 'predictions'
    for name in NAMES:
        labels = rng.integers(0, 19, SIZE, np.uint8)
        write_prediction(folder, name, labels, rng.uniform(0.05, 1, SIZE), invalid_below=0.3)
    return folder


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / 'test.txt'
    path.write_text(''.join(f'test/night/{n[:8]}/{n}_rgb_anon.png\n' for n in NAMES))
    return path


def _zip(folder: Path, archive: Path, prefix: str = '') -> Path:
    with zipfile.ZipFile(archive, 'w') as target:
        for path in sorted(folder.rglob('*')):
            if path.is_file():
                target.write(path, prefix + path.relative_to(folder).as_posix())
    return archive


def test_what_the_server_expects() -> None:
    assert REAL == (151, (1080, 1920))


@pytest.mark.parametrize(
    ('file', 'expected'),
    [
        ('GOPR0364_frame_000001.png', 'GOPR0364_frame_000001'),
        ('GOPR0364_frame_000001_rgb_anon.png', 'GOPR0364_frame_000001'),
        ('test/night/GP010364/GP010364_frame_000041_rgb_anon.png', 'GP010364_frame_000041'),
        ('GOPR0364_frame_1.png', 'GOPR0364_frame_000001'),
        ('GOPR0364_frame_000001_gt_labelTrainIds.png', 'GOPR0364_frame_000001'),
        ('GOPR0364_frame_000001_rgb_anon_pred.png', 'GOPR0364_frame_000001'),
        ('GOPR0364_frame_000001', 'GOPR0364_frame_000001'),
        ('GOPR0364_frame_000001_color.png', None),
        ('GOPR0364_frame_000001_rgb_anon_color.png', None),
        ('frame_000001.png', None),
        ('0001TP_006690.png', None),
    ],
)
def test_frame_name(file: str, expected: str | None) -> None:
    assert frame_name(file) == expected


def test_written_as_the_server_reads(tmp_path: Path) -> None:
    labels = np.array([[0, 18], [7, 3]], np.uint8)
    confidence = np.array([[1.0, 0.25], [0.5, 1 / 3]])
    write_prediction(tmp_path, 'GOPR0364_frame_1_rgb_anon', labels, confidence, 0.4)
    found = {
        folder: cv2.imread(str(tmp_path / folder / f'{NAMES[0]}.png'), cv2.IMREAD_UNCHANGED)
        for folder in FOLDERS
    }
    assert found[LABELS].dtype == np.uint8
    assert found[LABELS].tolist() == labels.tolist()
    assert found[CONFIDENCE].dtype == np.uint16
    assert found[CONFIDENCE].tolist() == [[65535, 16384], [32768, 21845]]
    assert found[INVALID].tolist() == [[0, 255], [7, 255]]
    assert len(list(tmp_path.rglob('*'))) == 6


def test_round_trip(predictions: Path, names: Path, tmp_path: Path) -> None:
    archive = tmp_path / 'out' / 'submission.zip'
    pack(predictions, archive, names)
    verify(archive, names)
    verify(archive)
    with zipfile.ZipFile(archive) as source:
        assert sorted(source.namelist()) == sorted(f'{f}/{n}.png' for f in FOLDERS for n in NAMES)
        for name in source.namelist():
            assert source.read(name) == (predictions / name).read_bytes()
    assert [path.name for path in archive.parent.iterdir()] == ['submission.zip']


def test_pack_renames_and_flattens(predictions: Path, names: Path, tmp_path: Path) -> None:
    for folder in FOLDERS:
        for name in NAMES:
            target = predictions / folder / 'test' / 'night' / name[:8]
            target.mkdir(parents=True, exist_ok=True)
            file = predictions / folder / f'{name}.png'
            file.rename(target / f'{name}_rgb_anon.png')
    archive = tmp_path / 'submission.zip'
    pack(predictions, archive, names)
    verify(archive, names)


def _rename(folder: Path) -> None:
    for path in (folder / LABELS).iterdir():
        path.rename(path.with_name(path.stem + '_rgb_anon.png'))


def _nest(folder: Path) -> None:
    (folder / LABELS / 'GOPR0364').mkdir()
    for path in (folder / LABELS).glob('*.png'):
        path.rename(folder / LABELS / 'GOPR0364' / path.name)


def _write(file: str, image: np.ndarray) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        assert cv2.imwrite(str(folder / file), image)

    return change


def _remove(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def _extra(file: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(b'x')

    return change


FIRST = f'{NAMES[0]}.png'
GREY = np.zeros(SIZE, np.uint8)
FAULTS = {
    'wrong names': (_rename, r'wrong names .*GOPR0364_frame_000001_rgb_anon.*pack does'),
    'nested': (_nest, r'files in sub-folders .*straight into their folder'),
    'missing': (_remove(f'{CONFIDENCE}/{FIRST}'), rf'1 frames missing \({CONFIDENCE}/GOPR'),
    'colour': (_write(f'{LABELS}/{FIRST}', np.zeros((*SIZE, 3), np.uint8)), 'images in colour'),
    'uint8 confidence': (_write(f'{CONFIDENCE}/{FIRST}', GREY), r'uint8 where uint16.*65535'),
    'uint16 labels': (_write(f'{LABELS}/{FIRST}', GREY.astype(np.uint16)), 'uint16 where uint8'),
    'half size': (_write(f'{LABELS}/{FIRST}', GREY[::2, ::2]), r'images of 4x3 .*resize'),
    'label ids': (_write(f'{INVALID}/{FIRST}', GREY + 33), r'values \[33\] .*not Cityscapes'),
    '255': (_write(f'{LABELS}/{FIRST}', GREY + 255), r'255 in labelTrainIds/ .*labelTrainIds_inv'),
    'rubbish': (_extra(f'{LABELS}/{FIRST}'), 'do not decode'),
    'no folder': (lambda f: shutil.rmtree(f / CONFIDENCE), r'no frame in confidence/: .*uint16'),
    'other frame': (_write(f'{LABELS}/GOPR0999_frame_000001.png', GREY), 'not in the list'),
    'strange name': (_write(f'{LABELS}/night1.png', GREY), r'no Dark Zurich frame .*night1'),
    'extra': (_extra(f'{LABELS}/notes.txt'), r'extra files .*notes\.txt'),
    'mac': (_extra('__MACOSX/._x.png'), r'extra files .*__MACOSX'),
    'hidden': (_extra(f'{LABELS}/._{FIRST}'), 'extra files'),
    'top': (_extra('readme.txt'), r'extra files .*readme\.txt'),
}


@pytest.mark.parametrize(('change', 'message'), FAULTS.values(), ids=FAULTS)
def test_verify_names_the_fault_and_the_remedy(
    change: Callable[[Path], None], message: str, predictions: Path, names: Path, tmp_path: Path
) -> None:
    change(predictions)
    archive = _zip(predictions, tmp_path / 'mine.zip')
    with pytest.raises(DataError, match=message):
        verify(archive, names)
    problems = inspect(archive, read_names(names))
    assert len(problems) == 1
    assert problems[0].remedy


def test_verify_says_that_a_folder_is_around(
    predictions: Path, names: Path, tmp_path: Path
) -> None:
    archive = _zip(predictions, tmp_path / 'mine.zip', 'mine/')
    (problem,) = inspect(archive, read_names(names))
    assert 'everything lies inside' in problem.what
    assert 'cd mine/' in problem.remedy


def test_verify_lists_everything_at_once(predictions: Path, names: Path, tmp_path: Path) -> None:
    for change in ('uint8 confidence', 'extra', 'label ids'):
        FAULTS[change][0](predictions)
    (predictions / LABELS / FIRST).unlink()
    with pytest.raises(DataError) as caught:
        verify(_zip(predictions, tmp_path / 'mine.zip', 'mine/'), names)
    assert str(caught.value).count('\n- ') == 5


def test_without_a_list_the_number_counts(predictions: Path, tmp_path: Path) -> None:
    (predictions / LABELS / FIRST).unlink()
    with pytest.raises(DataError, match='2 frames in labelTrainIds/.*test set has 3'):
        verify(_zip(predictions, tmp_path / 'mine.zip'))


def test_long_lists_are_cut(predictions: Path) -> None:
    problem = submission.Problem('bad', 'mend', tuple('abcde'))
    assert str(problem) == 'bad (a, b, c and 2 more): mend'


@pytest.mark.parametrize(
    'fault', ['missing', 'colour', 'half size', 'label ids', 'uint8 confidence', 'strange name']
)
def test_pack_refuses_and_writes_nothing(
    fault: str, predictions: Path, names: Path, tmp_path: Path
) -> None:
    FAULTS[fault][0](predictions)
    archive = tmp_path / 'out' / 'submission.zip'
    archive.parent.mkdir()
    archive.write_bytes(b'former')
    with pytest.raises(DataError, match=FAULTS[fault][1]):
        pack(predictions, archive, names)
    assert [path.read_bytes() for path in archive.parent.iterdir()] == [b'former']


def test_pack_refuses_two_files_for_one_frame(predictions: Path, tmp_path: Path) -> None:
    _write(f'{LABELS}/{NAMES[0]}_rgb_anon.png', GREY)(predictions)
    with pytest.raises(DataError, match='several files for one frame'):
        pack(predictions, tmp_path / 'submission.zip')


def test_pack_ignores_other_folders_and_files(predictions: Path, tmp_path: Path) -> None:
    _extra('readme.txt')(predictions)
    _extra(f'{LABELS}/notes.txt')(predictions)
    pack(predictions, tmp_path / 'submission.zip')
    verify(tmp_path / 'submission.zip')


def test_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='predict first'):
        pack(tmp_path / 'none', tmp_path / 'out.zip')
    with pytest.raises(DataError, match='pack first'):
        verify(tmp_path / 'none.zip')
    (tmp_path / 'broken.zip').write_bytes(b'Rar!')
    with pytest.raises(DataError, match='no readable zip'):
        verify(tmp_path / 'broken.zip')
    with pytest.raises(DataError, match='does not exist'):
        read_names(tmp_path / 'none.txt')
    (tmp_path / 'empty.txt').write_text('\n')
    with pytest.raises(DataError, match='is empty'):
        read_names(tmp_path / 'empty.txt')
    (tmp_path / 'strange.txt').write_text('cat.png\n')
    with pytest.raises(DataError, match='cat.png'):
        read_names(tmp_path / 'strange.txt')


def test_damaged_entry(predictions: Path, names: Path, tmp_path: Path) -> None:
    archive = tmp_path / 'submission.zip'
    pack(predictions, archive, names)
    data = bytearray(archive.read_bytes())
    place = data.index(b'IDAT') + 6
    data[place] ^= 0xFF
    archive.write_bytes(data)
    (problem,) = inspect(archive, read_names(names))
    assert 'do not decode' in problem.what
