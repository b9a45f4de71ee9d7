"""Ground truth of a drive: a topic of its bag or a folder of PNGs, matched to images by stamp."""

from __future__ import annotations

import csv
import heapq
import math
import re
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from typing import NamedTuple
from typing import Protocol
from typing import TypeVar
from typing import cast
from typing import final

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core import image_codec
from nightseg_ros.core.image_codec import ImageError
from nightseg_ros.evaluation import bags
from nightseg_ros.evaluation.bag_reader import Bag
from nightseg_ros.evaluation.bag_reader import BagMessage
from nightseg_ros.evaluation.bag_reader import deserialize
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.bags import COMPRESSED_IMAGE
from nightseg_ros.evaluation.bags import IMAGE
from nightseg_ros.evaluation.bags import IMAGE_SUFFIXES
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.label_formats import LabelFormat
from nightseg_ros.evaluation.label_formats import TruthError
from nightseg_ros.evaluation.label_formats import decode_png
from nightseg_ros.evaluation.label_formats import in_palette_order
from nightseg_ros.evaluation.label_formats import recognise
from nightseg_ros.evaluation.label_formats import to_train_ids

T = TypeVar('T')

AUTO = 'auto'

STAMPS_FILE = 'stamps.csv'

SURVEYED = 16
"""Masks from which the format of a source is recognised."""

REORDERED = 16
"""Labels of a topic that are held back to bring them into the order of their stamps."""


@dataclass(frozen=True)
class TruthLabel:
    """The label of a moment, not read yet.

    Attributes:
        stamp_ns: of the moment.
        read: returns trainIds uint8 [H, W], 255 = ignore; raises TruthError where the label cannot
            be used. Any thread may call it while its source is open.
    """

    stamp_ns: int
    read: Callable[[], NDArray[np.uint8]]


class _Masks(Protocol):
    """Where labels come from; their ``read`` returns masks as they are stored."""

    name: str

    def problems(self) -> list[str]:
        """Return what is known by now not to be usable, as sentences."""

    def sample(self) -> Iterator[TruthLabel]:
        """Yield some labels, to recognise their format."""

    def labels(self) -> Iterator[TruthLabel]:
        """Yield all labels in the order of stamps."""


@final
class TruthSource:
    """Ground truth that is open for reading: see :func:`open_truth`.

    Attributes:
        name: of the topic or the folder.
        label_format: 'trainIds', 'labelIds' or 'colors', as recognised or asked for.
        assumed: whether it was recognised only for lack of evidence against it.
    """

    def __init__(self, masks: _Masks, label_format: str) -> None:
        self._masks = masks
        self.name = masks.name
        self.label_format = cast(LabelFormat, label_format)
        self.assumed = False
        if label_format == AUTO:
            try:
                self.label_format, self.assumed = recognise(s.read for s in masks.sample())
            except TruthError as error:
                raise TruthError(error.reason, f'ground truth {self.name}: {error}') from error

    @property
    def problems(self) -> list[str]:
        """Return which labels cannot be used at all, as sentences; grows while they are read."""
        return self._masks.problems()

    def labels(self) -> Iterator[TruthLabel]:
        """Yield the labels in the order of their stamps, without reading them."""
        for label in self._masks.labels():
            yield TruthLabel(label.stamp_ns, partial(self._train_ids, label.read))

    def _train_ids(self, read: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        return to_train_ids(read(), self.label_format)


@contextmanager
def open_truth(source: str, bag_path: Path, label_format: str = AUTO) -> Iterator[TruthSource]:
    """Open ground truth; the bag is opened apart from whoever else reads it.

    - A topic holds Image messages (mono8 or 8UC1 of ids, or colours) or CompressedImage with PNGs.
      Stamps are those of the headers; where one is zero, the time of recording.
    - A folder (or its ``labels/``) holds PNGs named by their stamps, or listed in ``stamps.csv``
      with the columns ``name`` and ``stamp_ns``. Names are ``1700000000123456789.png`` (ns),
      ``1700000000.123456789.png`` (s) or ``1700000000_123456789.png`` (s and ns), each with or
      without a prefix that ends in ``_``.

    Args:
        source: a topic of the bag or a folder.
        bag_path: the bag.
        label_format: one of `LABEL_FORMATS`, or 'auto' to recognise it.

    Raises:
        TruthError: there is no such topic or folder, its names tell no stamps, none of the labels
            that were looked at can be used, or their format cannot be told.
        BagError: the bag cannot be read.
    """
    with ExitStack() as stack:
        yield TruthSource(_masks(source, bag_path, stack), label_format)


def _masks(source: str, bag_path: Path, stack: ExitStack) -> _Masks:
    topics = ''
    if source.startswith('/'):
        bag = stack.enter_context(open_bag(bag_path))
        kinds = {topic.type for topic in bag.topics if topic.name == source}
        if kinds:
            _check_kinds(source, kinds)
            return _TopicMasks(bag, source)
        listed = ', '.join(f'{topic.name} ({topic.type})' for topic in bag.topics) or 'none'
        topics = f'; topics of the bag: {listed}'
    if not Path(source).is_dir():
        raise TruthError(
            'missing', f"ground truth '{source}' is no topic of the bag and no folder{topics}"
        )
    return _FolderMasks(Path(source))


# A topic


def _check_kinds(topic: str, kinds: set[str]) -> None:
    unusable = kinds - {IMAGE, COMPRESSED_IMAGE}
    if unusable:
        raise TruthError(
            'encoding',
            f'{topic} is {", ".join(unusable)}: labels are {IMAGE} or {COMPRESSED_IMAGE}',
        )


_ENCODINGS = {'8UC1': 'mono8', '8UC3': 'bgr8'}
"""What OpenCV's names of types are read as."""

_LABEL_ENCODINGS = ('mono8', 'rgb8', 'bgr8', 'rgba8', 'bgra8')


class _TopicMasks:
    """The masks of a topic."""

    def __init__(self, bag: Bag, topic: str) -> None:
        self.name = topic
        self._bag = bag
        self._late = 0

    def problems(self) -> list[str]:
        if not self._late:
            return []
        return [
            f'{self._late} labels of {self.name} are not used: their stamps jump back, as if the '
            'drive was recorded twice.'
        ]

    def sample(self) -> Iterator[TruthLabel]:
        for _, message in zip(range(SURVEYED), self._bag.messages([self.name]), strict=False):
            yield _label_of(message)

    def labels(self) -> Iterator[TruthLabel]:
        self._late = 0
        waiting: list[tuple[int, int, TruthLabel]] = []
        last_ns: int | None = None
        for order, message in enumerate(self._bag.messages([self.name])):
            label = _label_of(message)
            if last_ns is not None and label.stamp_ns < last_ns:
                self._late += 1
                continue
            heapq.heappush(waiting, (label.stamp_ns, order, label))
            if len(waiting) > REORDERED:
                last_ns, _, label = heapq.heappop(waiting)
                yield label
        for _, _, label in sorted(waiting):
            yield label


def _label_of(message: BagMessage) -> TruthLabel:
    try:
        content = deserialize(message)
    except BagError as error:
        return TruthLabel(message.time_ns, partial(_refuse, str(error)))
    stamp_ns = bags.stamp_ns(content) or message.time_ns
    return TruthLabel(stamp_ns, partial(_mask_in, content))


def _refuse(reason: str) -> NDArray[np.uint8]:
    raise TruthError('damaged_message', reason)


def _mask_in(content: Any) -> NDArray[np.uint8]:
    """Return the mask of an Image or CompressedImage message as it is stored."""
    if hasattr(content, 'format'):
        return decode_png(content.data)
    encoding = _ENCODINGS.get(content.encoding, content.encoding)
    if encoding not in _LABEL_ENCODINGS:
        raise TruthError(
            'encoding',
            f"labels in '{content.encoding}' are not read: publish mono8 with ids, or rgb8 with "
            'the colours of the palette',
        )
    try:
        frame = image_codec.view(replace(content, encoding=encoding))
    except ImageError as error:
        raise TruthError(error.reason, f'the label cannot be read: {error}') from error
    if encoding == 'mono8':
        return frame.samples
    colors = image_codec.to_rgb(frame)
    return in_palette_order(colors) if content.encoding == '8UC3' else colors


# A folder


class _FolderMasks:
    """The masks of a folder of PNGs."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.resolve().name
        inside = folder / 'labels' if (folder / 'labels').is_dir() else folder
        lists = [path for path in (inside / STAMPS_FILE, folder / STAMPS_FILE) if path.is_file()]
        stamps = _listed_stamps(lists[0], inside) if lists else _named_stamps(inside)
        counts = Counter(stamp_ns for stamp_ns, _ in stamps)
        twice = [path.name for stamp_ns, path in stamps if counts[stamp_ns] > 1]
        if twice:
            raise TruthError(
                'duplicate',
                f'labels in {inside} have the same stamp ({", ".join(twice[:2])}): give each '
                'camera a folder of its own',
            )
        self._labels = [
            TruthLabel(stamp_ns, partial(_read_png, path)) for stamp_ns, path in sorted(stamps)
        ]

    def problems(self) -> list[str]:
        return []

    def sample(self) -> Iterator[TruthLabel]:
        step = max(1, math.ceil(len(self._labels) / SURVEYED))
        yield from self._labels[::step]

    def labels(self) -> Iterator[TruthLabel]:
        yield from self._labels


def _read_png(path: Path) -> NDArray[np.uint8]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TruthError('unreadable', f'{path} cannot be read: {error.strerror}') from error
    try:
        return decode_png(data)
    except TruthError as error:
        raise TruthError(error.reason, f'{path}: {error}') from error


class _NameForm(NamedTuple):
    """A way to name a file by its stamp.

    Attributes:
        pattern: of the name without suffix; groups: prefix, seconds (perhaps none), the rest.
        digits: of the rest that at least one name must have. Numbers of frames have fewer.
        fraction: whether the rest is a decimal fraction of a second; nanoseconds otherwise.
    """

    pattern: re.Pattern[str]
    digits: int
    fraction: bool = False


_NAME_FORMS = (
    _NameForm(re.compile(r'(?:(.+)_)?()(\d+)', re.ASCII), 10),
    _NameForm(re.compile(r'(?:(.+)_)?(\d+)\.(\d{1,9})', re.ASCII), 1, fraction=True),
    _NameForm(re.compile(r'(?:(.+)_)?(\d+)_(\d{1,9})', re.ASCII), 9),
)

_KNOWN_NAMES = (
    'name PNGs by their stamps (1700000000123456789.png, 1700000000.123456789.png, '
    '1700000000_123456789.png, or these after a prefix: front_1700000000123456789.png), or list '
    f'them in {STAMPS_FILE} with the columns name and stamp_ns'
)


def _named_stamps(folder: Path) -> list[tuple[int, Path]]:
    """Return the PNGs of a folder, each after the stamp in ns that its name tells.

    Raises:
        TruthError: they tell none.
    """
    files = sorted(path for path in folder.iterdir() if not path.name.startswith('.'))
    paths = [path for path in files if path.suffix.lower() == '.png']
    if not paths:
        images = [path.name for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
        if images:
            raise TruthError(
                'jpeg',
                f'{folder} holds no PNG but {images[0]}: JPEG changes ids and colours, export the '
                'labels as PNG',
            )
        raise TruthError('missing', f'{folder} holds no PNG: {_KNOWN_NAMES}')
    strays = paths
    for form in _NAME_FORMS:
        matches = {path: form.pattern.fullmatch(path.stem) for path in paths}
        found = {path: match for path, match in matches.items() if match}
        if max((len(match[3]) for match in found.values()), default=0) < form.digits:
            continue
        if len(found) == len(paths):
            _check_prefixes(folder, {match[1] for match in found.values()}, len(paths))
            return [(_stamp(form, match), path) for path, match in found.items()]
        strays = min(strays, [path for path in paths if path not in found], key=len)
    raise TruthError(
        'names',
        f'the names of {len(strays)} of {len(paths)} PNGs in {folder} tell no stamp, such as '
        f'{strays[0].name}: {_KNOWN_NAMES}',
    )


def _stamp(form: _NameForm, match: re.Match[str]) -> int:
    """Return the stamp in ns; as text, since a float does not hold nanoseconds."""
    rest = match[3].ljust(9, '0') if form.fraction else match[3]
    return int(match[2] or 0) * 1_000_000_000 + int(rest)


def _check_prefixes(folder: Path, prefixes: set[str | None], count: int) -> None:
    """Refuse the labels of several cameras; a prefix that differs everywhere is a number."""
    if 1 < len(prefixes) < count:
        examples = ' and '.join(sorted(f"'{prefix or ''}'" for prefix in prefixes)[:2])
        raise TruthError(
            'names',
            f'names in {folder} begin with {len(prefixes)} prefixes, such as {examples}: give each '
            'camera a folder of its own',
        )


def _listed_stamps(path: Path, folder: Path) -> list[tuple[int, Path]]:
    """Return the labels that a CSV lists, each after its stamp in ns.

    Raises:
        TruthError: it lacks a column, or a stamp is no whole number.
    """
    stamps = []
    with path.open(newline='', encoding='utf-8-sig', errors='replace') as stream:
        reader = csv.DictReader(stream)
        if not {'name', 'stamp_ns'} <= set(reader.fieldnames or ()):
            raise TruthError('names', f'{path} needs the columns name and stamp_ns')
        for row in reader:
            if not row['name'] or not re.fullmatch(r'\d+', row['stamp_ns'] or ''):
                raise TruthError(
                    'names',
                    f'{path}, line {reader.line_num}: give a name and a whole number of '
                    f"nanoseconds, not '{row['name']}' and '{row['stamp_ns']}'",
                )
            stamps.append((int(row['stamp_ns']), folder / _png_name(row['name'])))
    return stamps


def _png_name(name: str) -> str:
    """Return the file of a label that is listed by its own name, its image's, or without suffix."""
    stem, dot, suffix = name.rpartition('.')
    if f'.{suffix.lower()}' == '.png':
        return name
    return f'{stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else name}.png'


# Matching


def match(
    stamps: Iterable[T],
    stamp_of: Callable[[T], int],
    labels: Iterable[TruthLabel],
    tolerance_ns: int,
) -> Iterator[tuple[T, TruthLabel | None]]:
    """Yield each image with its label, or None; nothing is decoded, and one image is held back.

    A label belongs to the image whose stamp is nearest, to the earlier of two; of images with the
    same stamp to the last. Of several labels an image gets the nearest. Where the stamps of images
    jump back (a bag that was played in a loop), a label is compared with the images before and
    after, and labels that went by do not come back.

    Args:
        stamps: images, in the order of their stamps.
        stamp_of: returns the stamp of an image, ns.
        labels: in the order of their stamps.
        tolerance_ns: by which stamps may differ at most.
    """
    waiting = iter(labels)
    label = next(waiting, None)
    for item, before, stamp, after in _with_neighbours(stamps, stamp_of):
        nearest: TruthLabel | None = None
        while label is not None and label.stamp_ns <= stamp + tolerance_ns:
            distance = abs(label.stamp_ns - stamp)
            if after is not None and (after == stamp or abs(label.stamp_ns - after) < distance):
                break
            within = distance <= tolerance_ns
            if before is not None and abs(label.stamp_ns - before) < distance:
                within = False
            if within and (nearest is None or distance < abs(nearest.stamp_ns - stamp)):
                nearest = label
            label = next(waiting, None)
        yield item, nearest


def _with_neighbours(
    items: Iterable[T], stamp_of: Callable[[T], int]
) -> Iterator[tuple[T, int | None, int, int | None]]:
    """Yield each item with the stamp before it, its own, and the one after it."""
    before: int | None = None
    held: list[T] = []
    for item in items:
        if held:
            stamp = stamp_of(held[0])
            yield held.pop(), before, stamp, stamp_of(item)
            before = stamp
        held.append(item)
    for last in held:
        yield last, before, stamp_of(last), None
