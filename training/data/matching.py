"""Data sets as their authors release them: images and labels matched by name, and counted."""

from __future__ import annotations

import glob
from abc import ABC
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar
from typing import NamedTuple

from PIL import Image

from training.data.frames import DataError
from training.data.labelled_set import LabelledFile
from training.data.labelled_set import LabelledSet

SHOWN = 5
"""How many names an error lists before it only counts."""

LAST_BYTES = {'.png': b'IEND', '.jpg': b'\xff\xd9', '.jpeg': b'\xff\xd9'}
"""What the end of a whole file holds."""


class Files(NamedTuple):
    """All files of one kind: below ``folder``, named ``STARTS*SUFFIX``."""

    folder: Path
    suffix: str
    starts: tuple[str, ...] = ('',)

    def by_name(self) -> dict[str, Path]:
        """Return the paths by name: relative to the folder and without the suffix, in order."""
        found = map(Path, glob.glob(f'**/*{self.suffix}', root_dir=self.folder, recursive=True))
        mine = sorted(path for path in found if path.name.startswith(self.starts))
        return {path.as_posix().removesuffix(self.suffix): self.folder / path for path in mine}

    def path(self, name: str) -> Path:
        """Return the path that a name has."""
        return self.folder / f'{name}{self.suffix}'

    def __str__(self) -> str:
        return f'{self.folder}/**/{"|".join(self.starts)}*{self.suffix}'


class Matched(NamedTuple):
    """The frames that are complete, and all that is wrong with the others."""

    files: list[LabelledFile]
    problems: list[str]


def some(names: Iterable[object]) -> str:
    """Return the first names and how many there are besides."""
    texts = [str(name) for name in names]
    more = f' and {len(texts) - SHOWN} more' if len(texts) > SHOWN else ''
    return ', '.join(texts[:SHOWN]) + more


def count_problem(what: str, found: int, expected: int | None) -> list[str]:
    """Return what to say of a count that is not the released one; nothing where it is right."""
    if expected is None or found == expected:
        return []
    return [
        f'{what}: {found} frames, the released data set has {expected}: complete it, or pass '
        'check_counts=False to use a part of it on purpose'
    ]


def match(images: Files, labels: Files, source: str) -> Matched:
    """Match images with labels by name.

    Args:
        images: where the images are.
        labels: where the labels are.
        source: what to unpack where these are missing.
    """
    absent = [kind.folder for kind in (images, labels) if not kind.folder.is_dir()]
    if absent:
        return Matched([], [f'there is no folder {" nor ".join(map(str, absent))}: {source}'])
    image_paths, label_paths = images.by_name(), labels.by_name()
    if not image_paths:
        return Matched([], [f'there is no {images}: {source}'])
    if not label_paths:
        return Matched([], [_no_labels(labels, source)])
    problems = []
    lacking = [name for name in image_paths if name not in label_paths]
    if lacking:
        problems.append(
            f'{len(lacking)} of {len(image_paths)} images of {images.folder} have no label '
            f'({len(label_paths)} labels): missing {some(labels.path(n) for n in lacking)}: '
            f'{source}'
        )
    excess = [path for name, path in label_paths.items() if name not in image_paths]
    if excess:
        problems.append(
            f'{len(excess)} of {len(label_paths)} labels have no image in {images.folder} '
            f'({len(image_paths)} images): {some(excess)}: remove them, or add their images'
        )
    files = [
        LabelledFile(Path(name).name, path, label_paths[name])
        for name, path in image_paths.items()
        if name in label_paths
    ]
    repeated = [name for name, n in Counter(file.name for file in files).items() if n > 1]
    if repeated:
        problems.append(f'{images.folder} holds frames of the same name: {some(repeated)}')
    return Matched(files, problems)


def _no_labels(labels: Files, source: str) -> str:
    others = labels._replace(suffix='.png').by_name().values()
    if not others:
        return f'there is no {labels}: {source}'
    return (
        f'there is no {labels} but {some(others)}: another encoding, or another version of this '
        f'data set: {source}'
    )


class ReleasedSet(LabelledSet, ABC):
    """A labelled set in the layout in which its authors release it.

    Args:
        root: folder of the data set.
        split: one of :attr:`counts`.
        check_counts: refuse another number of frames than the released one; switch it off to use
            a part of the data set on purpose.
        cache: keep decoded frames in memory.

    Attributes:
        counts: frames of each split as released, None where that is not known.
        source: where the data set comes from and what to unpack.
        color_labels: whether labels on disk are colours.
    """

    counts: ClassVar[Mapping[str, int | None]]
    source: ClassVar[str]
    color_labels: ClassVar[bool] = False

    def __init__(
        self, root: str | Path, split: str, check_counts: bool = True, cache: bool = False
    ) -> None:
        super().__init__(root, cache)
        if split not in self.counts:
            raise DataError(
                f'{type(self).__name__} has no split {split!r}: '
                f'choose from {", ".join(self.counts)}'
            )
        self.split = split
        self.check_counts = check_counts

    @property
    @abstractmethod
    def images(self) -> Files:
        """Where the images of the split are."""

    @property
    @abstractmethod
    def labels(self) -> Files:
        """Where the labels of the split are."""

    def match(self) -> Matched:
        """Return the complete frames, and every problem with names and counts."""
        matched = self.find()
        if self.check_counts and matched.files:
            expected = self.counts[self.split]
            what = f'{self.images.folder} ({self.split})'
            matched.problems.extend(count_problem(what, len(matched.files), expected))
        return matched

    def find(self) -> Matched:
        """Return the complete frames, and every problem with names."""
        return match(self.images, self.labels, self.source)

    def list_files(self) -> list[LabelledFile]:
        """Return the frames by name.

        Raises:
            DataError: with one line for each problem, when files are missing, in excess or
                misplaced.
        """
        files, problems = self.match()
        if problems:
            raise DataError('\n'.join(problems))
        return files

    def accepts_size(self, labels: tuple[int, ...], image: tuple[int, ...]) -> bool:
        """Return whether a label of one size (height, width) fits an image of another."""
        return labels == image


def read_size(path: Path) -> tuple[int, int]:
    """Return the height and width that the header of an image file tells.

    Raises:
        DataError: when it is missing, no image, or cut off at its end.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
        with path.open('rb') as file:
            file.seek(-min(64, path.stat().st_size), 2)
            whole = LAST_BYTES.get(path.suffix.lower(), b'') in file.read()
    except OSError as error:
        raise DataError(f'{path} is no image: {error}') from error
    if not whole:
        raise DataError(f'{path} is cut off: copy or unpack it again')
    return height, width
