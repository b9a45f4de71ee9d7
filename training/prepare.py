"""``python -m training prepare``: is a data set complete, and is it encoded as it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from nightseg_ros.core.labels import CLASSES
from nightseg_ros.core.labels import LABEL_ID_TO_TRAIN_ID
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED
from training.data.acdc import ACDCNight
from training.data.bdd100k import BDD100KNight
from training.data.camvid import CamVid
from training.data.cityscapes import Cityscapes
from training.data.dark_zurich import DarkZurich
from training.data.dark_zurich import DarkZurichPairs
from training.data.dark_zurich import DarkZurichTest
from training.data.frames import DataError
from training.data.frames import decode_labels
from training.data.matching import ReleasedSet
from training.data.matching import read_size
from training.data.matching import some
from training.data.nightcity import NightCity
from training.data.nighttime_driving import NighttimeDriving
from training.data.shared_frames import SharedFrames

DatasetName = Literal[
    'cityscapes',
    'dark_zurich',
    'nighttime_driving',
    'nightcity',
    'nightcity_plus',
    'nightcity_fine',
    'acdc_night',
    'bdd100k_night',
    'camvid',
    'shared_frames',
]

MAX_PROBLEMS = 20
"""How many problems are told before the others are only counted."""

LABEL_IDS_ONLY = frozenset(range(19, 34))
"""Values that labelIds have and trainIds do not."""


class Frame(NamedTuple):
    """What the files of one frame hold: image size, pixels of each value, or what is wrong."""

    size: tuple[int, int] | None = None
    values: NDArray[np.int64] | None = None
    problem: str | None = None
    in_color: bool = False


@dataclass
class Split:
    """One split: the files of each frame, and what was found in them."""

    name: str
    files: list[tuple[Path, ...]]
    problems: list[str]
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    pixels: NDArray[np.int64] | None = None
    """Pixels of each trainId, int64 [256]; None without labels."""


def prepare(
    dataset: DatasetName,
    root: Path,
    output: Path | None = None,
    check_counts: bool = True,
) -> None:
    """Check a data set that was unpacked by hand, and list its frames.

    Names, counts, the header of every image and every value of the labels are checked. Encodings
    that were mixed up (labelIds, trainIds, colours) are recognised over a whole split. Nothing is
    written below the root.

    Args:
        dataset: name of the data set.
        root: the folder that its archives were unpacked into.
        output: folder of the lists; null: ``build/lists/<dataset>``. Each split without
            problems gets one CSV, relative to the root: a line ``IMAGE,LABEL`` for each frame
            (``NIGHT,DAY`` for pairs, ``IMAGE`` without labels).
        check_counts: refuse another number of frames than the released one; switch it off for a
            part of the data set.

    Raises:
        DataError: with one line for each problem.
    """
    root = Path(root)
    output = Path('build/lists') / dataset if output is None else Path(output)
    if output.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f'{output} is inside {root}, which is not written to: choose another output'
        )
    console = Console(markup=False)
    with Progress(console=console) as progress:
        splits = [check_labelled(s, progress) for s in _labelled_sets(dataset, root, check_counts)]
        if dataset == 'dark_zurich':
            splits.append(check_pairs(DarkZurichPairs(root, check_counts=check_counts), progress))
            splits.append(check_test(DarkZurichTest(root, check_counts), progress))
    console.print(_table(f'{dataset} in {root}', splits))
    for split in splits:
        if not split.problems:
            console.print(f'wrote {_write_list(split, root, output)}')
    problems = list(dict.fromkeys(problem for split in splits for problem in split.problems))
    if problems:
        shown = problems[:MAX_PROBLEMS]
        if len(problems) > len(shown):
            shown.append(f'and {len(problems) - len(shown)} more')
        raise DataError('\n'.join([f'{dataset} in {root}: {len(problems)} problem(s)', *shown]))


def _labelled_sets(dataset: DatasetName, root: Path, check_counts: bool) -> list[ReleasedSet]:
    if dataset.startswith('nightcity'):
        version = dataset.removeprefix('nightcity').removeprefix('_') or 'original'
        return [NightCity(root, split, version, check_counts) for split in NightCity.counts]
    kind = {
        'cityscapes': Cityscapes,
        'dark_zurich': DarkZurich,
        'nighttime_driving': NighttimeDriving,
        'acdc_night': ACDCNight,
        'bdd100k_night': BDD100KNight,
        'camvid': CamVid,
        'shared_frames': SharedFrames,
    }[dataset]
    return [kind(root, split, check_counts=check_counts) for split in kind.counts]


def check_labelled(labelled: ReleasedSet, progress: Progress) -> Split:
    """Check names, image headers and labels of a split with labels."""
    files, problems = labelled.match()
    # The complete frames are looked at all the same: one missing file hides no other problem.
    labelled.files = files
    split = Split(labelled.split, [(file.image, file.labels) for file in files], problems)
    frames = _look(partial(_look_at_frame, labelled), range(len(files)), split, progress)
    colored = [file.labels for file, frame in zip(files, frames, strict=True) if frame.in_color]
    if colored:
        split.problems.append(
            f'{labelled.labels.folder}: {len(colored)} of {len(files)} labels are colours for the '
            f'eye, not single-channel 8-bit ids: {some(colored)}: take the files with ids'
        )
    if any(frame.values is not None for frame in frames):
        split.problems.extend(_encoding_problems(labelled, frames))
        values = sum(frame.values for frame in frames if frame.values is not None)
        split.pixels = values
        if labelled.label_ids:
            split.pixels = np.zeros_like(values)
            np.add.at(split.pixels, LABEL_ID_TO_TRAIN_ID, values)
    return split


def check_pairs(pairs: DarkZurichPairs, progress: Progress) -> Split:
    """Check the list of pairs and the headers of their images."""
    files, problems = pairs.match()
    split = Split('train_pairs', [(pair.night, pair.day) for pair in files], problems)
    _look(_look_at_image, dict.fromkeys(chain(*split.files)), split, progress)
    return split


def check_test(test: DarkZurichTest, progress: Progress) -> Split:
    """Check the names and headers of images without labels."""
    images, problems = test.match()
    split = Split('test', [(image,) for image in images], problems)
    _look(_look_at_image, images, split, progress)
    return split


def _look(
    look: Callable[..., Frame], items: Iterable, split: Split, progress: Progress
) -> list[Frame]:
    items = list(items)
    with ThreadPoolExecutor() as pool:
        done = progress.track(pool.map(look, items), total=len(items), description=split.name)
        frames = list(done)
    split.problems.extend(frame.problem for frame in frames if frame.problem)
    split.sizes.update(frame.size for frame in frames if frame.size)
    return frames


def _look_at_image(path: Path) -> Frame:
    try:
        return Frame(read_size(path))
    except DataError as error:
        return Frame(problem=str(error))


def _look_at_frame(labelled: ReleasedSet, index: int) -> Frame:
    file = labelled.files[index]
    try:
        size = read_size(file.image)
        read_size(file.labels)
        if labelled.color_labels:
            labels = labelled.read_labels(index)
        else:
            labels = decode_labels(file.labels)
    except DataError as error:
        return Frame(problem=str(error))
    if labels is None:
        return Frame(size, in_color=True)
    problem = None
    if not labelled.accepts_size(labels.shape, size):
        problem = f'{file.labels} is {labels.shape}, its image is {size}: take those of one release'
    return Frame(size, np.bincount(labels.ravel(), minlength=256), problem)


def _encoding_problems(labelled: ReleasedSet, frames: list[Frame]) -> list[str]:
    """Return labels with foreign values, one line for the split where they are all of one kind."""
    problems, label_ids, seen = [], [], 0
    for file, frame in zip(labelled.files, frames, strict=True):
        if frame.values is None:
            continue
        seen += 1
        found = set(np.flatnonzero(frame.values).tolist())
        if found & LABEL_IDS_ONLY:
            label_ids.append(file.labels)
        foreign = found - {*labelled.valid_labels} - LABEL_IDS_ONLY
        if foreign:
            problems.append(f'{file.labels} holds {sorted(foreign)}, which no class has')
    folder = labelled.labels.folder
    if labelled.label_ids and not label_ids:
        problems.append(
            f'{folder}: none of {seen} labels holds a value of 19..33 (sky is 23, car 26): these '
            'are trainIds where labelIds belong. Take the files of labelIds as released'
        )
    if label_ids and not labelled.label_ids:
        problems.append(
            f'{folder}: {len(label_ids)} of {seen} labels hold values of 19..33: these are '
            f'labelIds where trainIds belong: {some(label_ids)}. Take the files of trainIds as '
            'released, or convert them (nightseg_ros.core.labels.LABEL_ID_TO_TRAIN_ID)'
        )
    return problems


def _table(title: str, splits: list[Split]) -> Table:
    table = Table('split', 'frames', 'width x height', 'share of labelled pixels', title=title)
    for split in splits:
        common = split.sizes.most_common(3)
        sizes = [f'{width}x{height} ({n})' for (height, width), n in common]
        if len(split.sizes) > len(sizes):
            sizes.append(f'and {len(split.sizes) - len(sizes)} more')
        table.add_row(split.name, str(len(split.files)), '\n'.join(sizes), _shares(split))
    return table


def _shares(split: Split) -> str:
    pixels = split.pixels
    if pixels is None:
        return 'no labels' if split.files else ''
    labelled = max(int(pixels[:NUM_CLASSES].sum()), 1)
    present = (c for c in CLASSES if pixels[c.train_id])
    shares = [f'{c.name} {pixels[c.train_id] / labelled:.2%}' for c in present]
    ignored = pixels[UNLABELLED] / max(int(pixels.sum()), 1)
    return ', '.join([*shares, f'({ignored:.1%} of all pixels ignored)'])


def _write_list(split: Split, root: Path, output: Path) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    path = output / f'{split.name}.csv'
    lines = (','.join(f.relative_to(root).as_posix() for f in files) for files in split.files)
    path.write_text(''.join(f'{line}\n' for line in lines))
    return path
