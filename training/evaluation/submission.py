"""The zip that the Dark Zurich test server takes: written, packed and checked.

The server (CodaLab competition 3783, formerly 23553) wants three folders at the top of the zip,
each with one PNG of 1920x1080 per test image, named like ``GOPR0364_frame_000001.png``:

- ``labelTrainIds``: uint8, trainIds 0..18; gives IoU.
- ``confidence``: uint16, 0..65535 for 0..1; with labelTrainIds gives the average UIoU.
- ``labelTrainIds_invalid``: as labelTrainIds, 255 where the prediction is "invalid"; gives UIoU.

Its answer to nearly every mistake is "Missing prediction for ground truth file ...": see `verify`.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from pathlib import PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED
from training.data.frames import DataError

LABELS = 'labelTrainIds'
CONFIDENCE = 'confidence'
INVALID = 'labelTrainIds_invalid'
FOLDERS = (LABELS, CONFIDENCE, INVALID)

FRAMES = 151
SIZE = (1080, 1920)
"""Height and width of the test images."""

MAX_CONFIDENCE = 65535

_FRAME = re.compile(r'(G(?:OPR|P\d\d)\d{4})_frame_(\d{1,6})')
_SUFFIXES = re.compile(
    r'(?:_(?:rgb|anon|gt|leftImg8bit|labelTrainIds|labelTrainIds_invalid|trainIds|confidence|pred))*'
)
_SHOWN = 3


@dataclass(frozen=True)
class Problem:
    """Something wrong with a submission.

    Attributes:
        what: what is wrong.
        remedy: what to do about it.
        files: the files concerned; empty where it is about the whole.
    """

    what: str
    remedy: str
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = ', '.join(self.files[:_SHOWN])
        more = len(self.files) - _SHOWN
        where = f' ({shown}{f" and {more} more" if more > 0 else ""})' if self.files else ''
        return f'{self.what}{where}: {self.remedy}'


def frame_name(file: str) -> str | None:
    """Return the server's name of a frame, ``GOPR0364_frame_000001``, from a common variant.

    Known endings (``_rgb_anon``, ``_labelTrainIds``, ``_pred`` and so on) and the suffix are
    dropped, the frame number is padded to six digits.

    Args:
        file: name of a file, with or without folders.

    Returns:
        The name without suffix, or None where it is no Dark Zurich frame.
    """
    stem = PurePosixPath(file).name.partition('.')[0]
    match = _FRAME.match(stem)
    if not match or not _SUFFIXES.fullmatch(stem[match.end() :]):
        return None
    return f'{match[1]}_frame_{int(match[2]):06d}'


def read_names(names: Path) -> list[str]:
    """Return the frames of a list of test images, one per line, as the server names them.

    Raises:
        DataError: when the list is missing, empty, or a line is no Dark Zurich frame.
    """
    if not names.is_file():
        raise DataError(f'{names} does not exist: give the list of test images of Dark Zurich')
    lines = [line.strip() for line in names.read_text().splitlines() if line.strip()]
    frames = [frame_name(line) for line in lines]
    strange = [line for line, frame in zip(lines, frames, strict=True) if frame is None]
    if strange or not lines:
        found = f'holds {strange[0]!r}' if strange else 'is empty'
        raise DataError(f'{names} {found}: give the list of test images, one per line')
    return sorted({frame for frame in frames if frame})


def write_prediction(
    predictions: Path,
    name: str,
    labels: NDArray[np.uint8],
    confidence: NDArray[np.floating],
    invalid_below: float = 0.0,
) -> None:
    """Write one prediction into the three folders.

    Args:
        predictions: folder of the three folders.
        name: of the frame; Dark Zurich names are brought to the server's form.
        labels: trainIds uint8 [H, W].
        confidence: float [H, W] in [0, 1].
        invalid_below: predictions less confident than this are 255 in labelTrainIds_invalid.

    Raises:
        DataError: when a file cannot be written.
    """
    images = {
        LABELS: labels,
        CONFIDENCE: np.rint(np.clip(confidence, 0, 1) * MAX_CONFIDENCE).astype(np.uint16),
        INVALID: np.where(confidence < invalid_below, np.uint8(UNLABELLED), labels),
    }
    for folder, image in images.items():
        path = predictions / folder / f'{frame_name(name) or name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(path), image):
            raise DataError(f'{path} cannot be written')


def pack(
    predictions: Path = Path('build/predictions'),
    output: Path = Path('build/submission.zip'),
    names: Path | None = None,
) -> None:
    """Pack predictions into the zip that the Dark Zurich test server takes.

    Files may lie in sub-folders and carry other common names (``..._rgb_anon.png``): they are
    renamed.

    Args:
        predictions: folder with labelTrainIds, confidence and labelTrainIds_invalid, as
            ``python -m training predict`` writes it; other common file names are mended.
        output: the zip, written only when everything is as the server wants it.
        names: list of test images (one per line) that must all be there; null: only their number
            is checked.

    Raises:
        DataError: listing every problem and its remedy.
    """
    if not predictions.is_dir():
        raise DataError(f'{predictions} does not exist: predict first (python -m training predict)')
    expected = None if names is None else read_names(names)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix='.pack-') as folder:
        draft = Path(folder) / output.name
        problems = _pack(predictions, draft)
        _refuse(predictions, problems or inspect(draft, expected))
        draft.replace(output)
    size = output.stat().st_size / 1e6
    Console().print(f'{output}: {FRAMES} frames, {size:.1f} MB; upload it as it is')


def _pack(predictions: Path, archive: Path) -> list[Problem]:
    """Write what can be packed; return why anything cannot."""
    problems = []
    # PNG does not compress further.
    with zipfile.ZipFile(archive, 'w', zipfile.ZIP_STORED) as target:
        for folder in FOLDERS:
            files = sorted((predictions / folder).rglob('*.png'))
            named = [(path, frame_name(path.name)) for path in files]
            strange = tuple(f'{folder}/{path.name}' for path, name in named if name is None)
            if strange:
                problems.append(_strange(strange))
            counts = Counter(name for _, name in named if name)
            doubled = tuple(f'{folder}/{name}.png' for name, n in counts.items() if n > 1)
            if doubled:
                problems.append(
                    Problem(
                        'several files for one frame',
                        'keep one each (colour pictures belong elsewhere)',
                        doubled,
                    )
                )
            for path, name in named:
                if name and counts[name] == 1:
                    target.write(path, f'{folder}/{name}.png')
    return problems


def verify(archive: Path, names: Path | None = None) -> None:
    """Check a zip for the Dark Zurich test server; print that it is right.

    Args:
        archive: the zip.
        names: list of test images (one per line) that must all be there; null: only their number
            is checked.

    Raises:
        DataError: listing every problem and its remedy.
    """
    expected = None if names is None else read_names(names)
    _refuse(archive, inspect(archive, expected))
    Console().print(f'{archive}: as the server wants it ({FRAMES} frames, three folders)')


def _refuse(what: Path, problems: list[Problem]) -> None:
    if problems:
        raise DataError(
            f'{what} is not what the server wants:' + ''.join(f'\n- {p}' for p in problems)
        )


def inspect(archive: Path, names: Iterable[str] | None = None) -> list[Problem]:
    """Return everything that is wrong with a submission, without raising.

    Args:
        archive: the zip.
        names: frames that must be there, as the server names them; None checks their number.
    """
    if not archive.is_file():
        return [Problem(f'{archive} does not exist', 'pack first (python -m training pack)')]
    try:
        with zipfile.ZipFile(archive) as source:
            return _inspect(source, None if names is None else set(names))
    except zipfile.BadZipFile:
        return [
            Problem('no readable zip', 'pack again with `python -m training pack` (not rar or 7z)')
        ]


def _inspect(source: zipfile.ZipFile, names: set[str] | None) -> list[Problem]:
    files = [entry.filename for entry in source.infolist() if not entry.is_dir()]
    problems = [
        Problem('entered twice', 'keep one of them', (file,))
        for file, count in Counter(files).items()
        if count > 1
    ]
    files = sorted(set(files))
    prefix = _common_folder(files)
    if prefix:
        problems.append(
            Problem(
                f'everything lies inside {prefix!r}',
                f'zip the three folders, not the folder around them: cd {prefix} && zip -r ...',
            )
        )
    placed: dict[str, dict[str, str]] = {folder: {} for folder in FOLDERS}
    extra, nested, strange, misnamed = [], [], [], []
    for file in files:
        folder, *between = PurePosixPath(file.removeprefix(prefix)).parts
        name = between.pop() if between else ''
        frame = frame_name(name)
        if folder not in FOLDERS or name.startswith('.') or not name.endswith('.png'):
            extra.append(file)
        elif frame is None:
            strange.append(file)
        else:
            placed[folder].setdefault(frame, file)
            if between:
                nested.append(file)
            if name != f'{frame}.png':
                misnamed.append(file)
    if extra:
        problems.append(
            Problem(
                'extra files',
                f'leave only PNG files in {", ".join(FOLDERS)} (on macOS: zip -X -x "*.DS_Store" '
                '"__MACOSX*")',
                tuple(extra),
            )
        )
    if nested:
        problems.append(
            Problem(
                'files in sub-folders',
                'put them straight into their folder, without test/night/GOPR...',
                tuple(nested),
            )
        )
    if strange:
        problems.append(_strange(tuple(strange)))
    if misnamed:
        wanted = f'{frame_name(misnamed[0])}.png'
        problems.append(
            Problem('wrong names', f'name them like {wanted}; pack does', tuple(misnamed))
        )
    for folder in FOLDERS:
        problems += _incomplete(folder, placed[folder], names)
        problems += _wrong_contents(source, folder, placed[folder].values())
    return problems


def _common_folder(files: list[str]) -> str:
    """Return the folder, with slash, around all three folders; empty where there is none."""
    tops = {file.partition('/')[0] for file in files if not file.startswith('__MACOSX/')}
    if len(tops) != 1 or tops & set(FOLDERS):
        return ''
    (top,) = tops
    inner = {file.split('/')[1] for file in files if file.count('/') > 1}
    return f'{top}/' if inner & set(FOLDERS) else ''


def _strange(files: tuple[str, ...]) -> Problem:
    return Problem(
        'names that are no Dark Zurich frame',
        'name them like the test image, for example GOPR0364_frame_000001.png',
        files,
    )


def _incomplete(folder: str, frames: dict[str, str], names: set[str] | None) -> list[Problem]:
    if not frames:
        remedy = {
            LABELS: 'predict the test images (python -m training predict)',
            CONFIDENCE: 'predict with this project, or, when only mIoU matters, write uint16 '
            f'images of {MAX_CONFIDENCE} under the same names',
            INVALID: 'predict with this project, or copy labelTrainIds (UIoU is the IoU then)',
        }[folder]
        return [Problem(f'no frame in {folder}/', remedy)]
    if names is None:
        if len(frames) == FRAMES:
            return []
        return [
            Problem(
                f'{len(frames)} frames in {folder}/',
                f'the test set has {FRAMES}; give the list of test images to see which',
            )
        ]
    problems = []
    missing = sorted(names - frames.keys())
    if missing:
        files = tuple(f'{folder}/{name}.png' for name in missing)
        problems.append(Problem(f'{len(missing)} frames missing', 'predict them', files))
    foreign = sorted(frames.keys() - names)
    if foreign:
        files = tuple(frames[name] for name in foreign)
        problems.append(Problem('frames that are not in the list', 'remove them', files))
    return problems


def _wrong_contents(source: zipfile.ZipFile, folder: str, files: Iterable[str]) -> list[Problem]:
    wrong: dict[tuple[str, str], list[str]] = {}
    for file in files:
        try:
            data = np.frombuffer(source.read(file), np.uint8)
            image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        except zipfile.BadZipFile:
            image = None
        fault = _fault(folder, image)
        if fault:
            wrong.setdefault(fault, []).append(file)
    return [Problem(what, remedy, tuple(files)) for (what, remedy), files in wrong.items()]


def _fault(folder: str, image: NDArray | None) -> tuple[str, str] | None:
    """Return what is wrong with an image, and the remedy."""
    if image is None:
        return 'images that do not decode', 'write and pack them again'
    if image.ndim != 2:
        return (
            'images in colour',
            'the server reads single-channel trainIds: submit labels, not their colours',
        )
    wanted = np.uint16 if folder == CONFIDENCE else np.uint8
    if image.dtype != wanted:
        return (
            f'{image.dtype} where {np.dtype(wanted)} belongs',
            f'write confidence * {MAX_CONFIDENCE} as 16-bit PNG'
            if folder == CONFIDENCE
            else 'write trainIds as 8-bit PNG',
        )
    if image.shape != SIZE:
        return (
            f'images of {image.shape[1]}x{image.shape[0]}',
            f'resize the logits to {SIZE[1]}x{SIZE[0]} before the argmax (output_size)',
        )
    if folder == CONFIDENCE:
        return None
    values = np.flatnonzero(np.bincount(image.ravel(), minlength=256))
    foreign = values[values >= NUM_CLASSES].tolist()
    if foreign == [UNLABELLED]:
        return (
            None
            if folder == INVALID
            else ('255 in labelTrainIds/', 'predict a class everywhere; 255 belongs in ' + INVALID)
        )
    if foreign:
        return (
            f'values {foreign}',
            f'submit trainIds 0..{NUM_CLASSES - 1}, not Cityscapes labelIds',
        )
    return None
