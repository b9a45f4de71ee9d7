"""Dark Zurich: coarse day/night pairs, the labelled val split, and the test images."""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.frames import DataError
from training.data.matching import Files
from training.data.matching import ReleasedSet
from training.data.matching import count_problem
from training.data.matching import some
from training.data.pair_set import PairedFiles
from training.data.pair_set import PairedFileSet

SUFFIX = '_rgb_anon.png'

PAIRS = 2416
"""Lines of the list of pairs: one for each night frame of train."""

TESTS = 151
"""Frames of test."""

LIST = 'zurich_dn_pair_train.csv'

SOURCE = (
    'unpack Dark_Zurich_train_anon.zip, Dark_Zurich_val_anon.zip and '
    'Dark_Zurich_test_anon_withoutGt.zip (https://www.trace.ethz.ch/publications/2019/GCMA_UIoU) '
    'into one root, so that their folders rgb_anon and gt merge'
)

LINE = re.compile(r'(train/night/\w+/\w+?_frame_\d{6}),(train/day/\w+/\w+?_frame_\d{6})')


class DarkZurichPairs(PairedFileSet):
    """Night frames of train, each beside the day frame that GPS says is nearest (DANNet).

    The zips hold no list of pairs by file: take ``dataset/lists/zurich_dn_pair_train.csv`` from
    https://github.com/W-zx-Y/DANNet (or ``data_modules/datasets/lists`` of
    https://github.com/brdav/refign, the same), 2,416 lines
    ``train/night/GOPR0351/GOPR0351_frame_000001,train/day/GOPR0345/GOPR0345_frame_000081``.
    Both are files under ``ROOT/rgb_anon`` without ``_rgb_anon.png``. Day frames repeat.

    Args:
        root: folder with ``rgb_anon/train``.
        pairs: the list; ``ROOT/lists/zurich_dn_pair_train.csv`` when not given.
        check_counts: refuse another number of pairs than 2,416. A part of the data set needs a
            shorter list: every file that the list names must exist.
    """

    def __init__(
        self, root: str | Path, pairs: str | Path | None = None, check_counts: bool = True
    ) -> None:
        super().__init__(root)
        self.list_path = self.root / 'lists' / LIST if pairs is None else Path(pairs)
        self.check_counts = check_counts

    def match(self) -> tuple[list[PairedFiles], list[str]]:
        """Return the complete pairs, and every problem of the list and its files."""
        if not self.list_path.is_file():
            return [], [
                f'{self.list_path} does not exist: copy dataset/lists/{LIST} of '
                'https://github.com/W-zx-Y/DANNet there, or say where it is (pairs)'
            ]
        lines, problems = self._read()
        pairs = [PairedFiles(self._path(day), self._path(night)) for night, day in lines]
        missing = [path for path in dict.fromkeys(chain(*pairs)) if not path.is_file()]
        if missing:
            problems.append(
                f'{len(missing)} frames of {self.list_path} are missing: {some(missing)}: {SOURCE}'
            )
        if self.check_counts:
            problems += count_problem(str(self.list_path), len(lines), PAIRS)
        absent = set(missing)
        return [pair for pair in pairs if not absent & set(pair)], problems

    def list_pairs(self) -> list[PairedFiles]:
        """Return the pairs in the order of the list.

        Raises:
            DataError: with one line for each problem, when the list is missing, a line of it is
                malformed, a night frame repeats, or a file is missing.
        """
        pairs, problems = self.match()
        if problems:
            raise DataError('\n'.join(problems))
        return pairs

    def _path(self, name: str) -> Path:
        return self.root / 'rgb_anon' / f'{name}{SUFFIX}'

    def _read(self) -> tuple[list[tuple[str, str]], list[str]]:
        lines, malformed = [], []
        for number, line in enumerate(self.list_path.read_text().splitlines(), 1):
            found = LINE.fullmatch(line.strip())
            if found:
                lines.append(found.groups())
            elif line.strip():
                malformed.append(f'line {number} {line.strip()!r}')
        problems = []
        if malformed:
            problems.append(
                f'{self.list_path}: {some(malformed)}: expected NIGHT,DAY without suffix, such as '
                'train/night/GOPR0351/GOPR0351_frame_000001,train/day/GOPR0345/GOPR0345_frame_000081'
            )
        repeated = [night for night, n in Counter(night for night, _ in lines).items() if n > 1]
        if repeated:
            problems.append(f'{self.list_path} names night frames twice: {some(repeated)}')
        return lines, problems


class DarkZurich(ReleasedSet):
    """Dark Zurich val (Sakaridis et al., ICCV 2019 and TPAMI 2020): 50 night frames, 1920x1080.

    ``ROOT/rgb_anon/val/night/GOPR0356/*_rgb_anon.png`` with
    ``ROOT/gt/val/night/GOPR0356/*_gt_labelTrainIds.png``.

    Args:
        root: folder with ``rgb_anon/`` and ``gt/``.
        split: ``val``; the labels of test are not public, see :class:`DarkZurichTest`.
        check_counts: refuse another number of frames.
        cache: keep decoded frames in memory (8 MB each).
    """

    counts = {'val': 50}
    source = SOURCE

    def __init__(
        self,
        root: str | Path,
        split: Literal['val'] = 'val',
        check_counts: bool = True,
        cache: bool = False,
    ) -> None:
        super().__init__(root, split, check_counts, cache)

    @property
    def images(self) -> Files:
        """Where the images are."""
        return Files(self.root / 'rgb_anon' / 'val' / 'night', SUFFIX)

    @property
    def labels(self) -> Files:
        """Where the labels are."""
        return Files(self.root / 'gt' / 'val' / 'night', '_gt_labelTrainIds.png')

    def invalid_mask(self, index: int) -> NDArray[np.bool_] | None:
        """Return the pixels that annotators could not tell without help, bool [H, W].

        For the uncertainty-aware IoU. They are those where ``*_gt_invGray.png`` is not 0. None
        where that file is missing.

        Raises:
            DataError: when it does not decode, or holds more than two values.
        """
        labels = self.files[index].labels
        path = labels.with_name(labels.name.replace('_gt_labelTrainIds', '_gt_invGray'))
        if not path.is_file():
            return None
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise DataError(f'{path} does not decode: unpack it again')
        values = np.unique(mask)
        if values[values > 0].size > 1:
            raise DataError(f'{path} holds {values.tolist()}: expected 0 (valid) and one other')
        return mask > 0


class DarkZurichTest:
    """The 151 test images, ``ROOT/rgb_anon/test/night/RECORDING/*_rgb_anon.png``, no labels.

    Args:
        root: folder with ``rgb_anon/test``.
        check_counts: refuse another number of frames.
    """

    def __init__(self, root: str | Path, check_counts: bool = True) -> None:
        self.root = Path(root)
        self.check_counts = check_counts

    def match(self) -> tuple[list[Path], list[str]]:
        """Return the images by name, and every problem."""
        files = Files(self.root / 'rgb_anon' / 'test' / 'night', SUFFIX)
        images = list(files.by_name().values())
        if not images:
            return [], [f'there is no {files}: {SOURCE}']
        expected = TESTS if self.check_counts else None
        return images, count_problem(str(files.folder), len(images), expected)

    @cached_property
    def images(self) -> list[Path]:
        """The images by name.

        Raises:
            DataError: when they are missing or not 151.
        """
        images, problems = self.match()
        if problems:
            raise DataError('\n'.join(problems))
        return images

    @property
    def names(self) -> list[str]:
        """What the submission calls each image, such as ``GOPR0364_frame_000001``."""
        return [image.name.removesuffix(SUFFIX) for image in self.images]

    def __len__(self) -> int:
        return len(self.images)
