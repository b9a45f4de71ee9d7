"""What ground-truth masks hold: trainIds, Cityscapes labelIds or palette colours.

A mask is uint8: ids [H, W] or RGB [H, W, 3]. The format of a source is recognised once, from
several of its masks; then each mask is checked against it, so that none is misread in silence.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable
from collections.abc import Iterable
from typing import Literal
from typing import NamedTuple
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.labels import CLASSES
from nightseg_ros.core.labels import LABEL_ID_TO_TRAIN_ID
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED
from nightseg_ros.core.labels import VOID_CLASSES

LabelFormat = Literal['trainIds', 'labelIds', 'colors']
LABEL_FORMATS: tuple[LabelFormat, ...] = get_args(LabelFormat)

NUM_LABEL_IDS = 34
"""Cityscapes labelIds are 0..33 (and -1, stored as 255)."""

MAX_FOREIGN_SHARE = 0.01
"""Of pixels outside the palette: a few stray ones are ignored, more mean that it is another one."""

_FOREIGN = 254
"""Marks, in a conversion table, what its format does not have."""

_PALETTE: dict[tuple[int, int, int], int] = {
    **{void.color: UNLABELLED for void in VOID_CLASSES},
    **{known.color: known.train_id for known in CLASSES},
}
"""trainIds by RGB colour."""

_GREYS = frozenset(color[0] for color in _PALETTE if len(set(color)) == 1)
"""Values of the palette's colours that are grey."""

_JPEG, _PNG = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
_PNG_HEADER_BYTES = 26
_PNG_GREY = 0


class TruthError(ValueError):
    """Ground truth that cannot be used; ``reason`` is a short key to count it by."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Recognition(NamedTuple):
    """The format of a source, and whether only a lack of evidence against it speaks for it."""

    label_format: LabelFormat
    assumed: bool


def recognise(reads: Iterable[Callable[[], NDArray[np.uint8]]]) -> Recognition:
    """Recognise the format of a source from some of its masks.

    - Colours are palette colours.
    - Ids of 19..33 are only labelIds.
    - 255 beside classes of 0..18, the road among them, is what trainIds look like.
    - Whatever else has only ids of 0..18 and 255 is assumed to be trainIds.

    Masks that are none of these are left out: reading them tells what is wrong. Of ids and
    colours, the format of the more masks is recognised.

    Args:
        reads: each returns a mask or raises TruthError.

    Raises:
        TruthError: no mask can be used (the reason is that of the first), or trainIds and
            labelIds cannot be told apart.
    """
    present = np.zeros(256, bool)
    of_ids = of_colors = 0
    refusal: TruthError | None = None
    for read in reads:
        try:
            mask = read()
            ids = _ids_in(mask)
            if ids is None:
                to_train_ids(mask, 'colors')
                of_colors += 1
            else:
                _check_ids(ids, 'labelIds')
                present[ids] = True
                of_ids += 1
        except TruthError as error:
            refusal = refusal or error
    if refusal is not None and not of_ids and not of_colors:
        raise refusal
    if of_colors > of_ids:
        return Recognition('colors', False)
    if present[NUM_CLASSES + 1 : NUM_LABEL_IDS].any():
        return Recognition('labelIds', False)
    if present[NUM_CLASSES]:
        raise TruthError(
            'ambiguous',
            f'the labels hold {NUM_CLASSES}, but no id above it: that is a traffic light in '
            'labelIds, and where trainIds use it for pixels without a class, it must become '
            f'{UNLABELLED}. If these are labelIds, say --label-format labelIds',
        )
    certain = present[UNLABELLED] and present[0] and present[1:NUM_CLASSES].any()
    return Recognition('trainIds', not certain)


def to_train_ids(mask: NDArray[np.uint8], label_format: LabelFormat) -> NDArray[np.uint8]:
    """Return a mask as trainIds, uint8 [H, W]; 255 where there is no class.

    Args:
        mask: ids uint8 [H, W], ids that are stored as grey RGB, or colours RGB uint8 [H, W, 3].
        label_format: what it is expected to hold.

    Raises:
        TruthError: it holds something else ('foreign_ids', 'foreign_colors', 'encoding').
    """
    if label_format == 'colors':
        return _from_colors(mask)
    values = _single_channel(mask)
    if values is None:
        raise TruthError(
            'encoding',
            f'the label has colours where {label_format} are expected: '
            '--label-format colors reads colours',
        )
    train_ids = cv2.LUT(values, _ID_TABLES[label_format])
    if (train_ids == _FOREIGN).any():
        _check_ids(np.unique(values), label_format)
    return train_ids


def in_palette_order(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return colours of which it is unknown whether they are RGB or BGR as RGB.

    No colour of the palette becomes another one when red and blue are swapped.

    Args:
        mask: uint8 [H, W, 3].
    """
    swapped = np.ascontiguousarray(mask[..., ::-1])
    return min((swapped, mask), key=lambda colors: _foreign_share(_look_up(colors)))


def decode_png(data: array | bytes | memoryview | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a PNG as a mask: ids uint8 [H, W], or colours RGB uint8 [H, W, 3].

    The colours of an indexed PNG are returned, not its indices: the order of a palette is up to
    the tool that wrote it. An alpha channel is dropped; 16 bits are read where values fit into 8.

    Raises:
        TruthError: no PNG ('jpeg', 'unreadable'), or one that holds no such mask ('encoding').
    """
    buffer = np.frombuffer(data, np.uint8)
    header = buffer[:_PNG_HEADER_BYTES].tobytes()
    if header.startswith(_JPEG):
        raise TruthError(
            'jpeg', 'the label is a JPEG, whose compression changes ids and colours: use PNG'
        )
    if not header.startswith(_PNG) or len(header) < _PNG_HEADER_BYTES:
        raise TruthError('unreadable', f'{buffer.size} bytes of label are no PNG')
    bits, color_type = header[24], header[25]
    if color_type == _PNG_GREY and bits < 8:
        # Decoders stretch these values to 0..255.
        raise TruthError(
            'encoding', f'the label has {bits} bit of grey, not the ids of a class: store 8 bits'
        )
    try:
        mask = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
    except cv2.error:  # more pixels than OpenCV agrees to decode
        mask = None
    if mask is None:
        raise TruthError('unreadable', 'the PNG of the label does not decode: copy it again')
    if mask.dtype != np.uint8:
        if mask.max() > UNLABELLED:
            raise TruthError(
                'encoding',
                f'the label has 16 bits and values up to {mask.max()} (instance ids?): store '
                'trainIds, labelIds or colours in 8 bits',
            )
        mask = mask.astype(np.uint8)
    if mask.ndim == 2:
        return mask
    return cv2.cvtColor(mask, cv2.COLOR_BGRA2RGB if mask.shape[2] == 4 else cv2.COLOR_BGR2RGB)


# Ids


def _single_channel(mask: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the values of a mask without colours, None where it has some."""
    if mask.ndim == 2:
        return mask
    red, green, blue = cv2.split(mask)
    return red if np.array_equal(red, green) and np.array_equal(red, blue) else None


def _ids_in(mask: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the different ids of a mask, None where it is in colours."""
    values = _single_channel(mask)
    if values is None:
        return None
    ids = np.unique(values)
    return None if mask.ndim == 3 and _GREYS.issuperset(ids.tolist()) else ids


def _id_tables() -> dict[LabelFormat, NDArray[np.uint8]]:
    train_ids = np.full(256, _FOREIGN, np.uint8)
    train_ids[:NUM_CLASSES] = np.arange(NUM_CLASSES)
    label_ids = np.full(256, _FOREIGN, np.uint8)
    label_ids[:NUM_LABEL_IDS] = LABEL_ID_TO_TRAIN_ID[:NUM_LABEL_IDS]
    train_ids[UNLABELLED] = label_ids[UNLABELLED] = UNLABELLED
    return {'trainIds': train_ids, 'labelIds': label_ids}


_ID_TABLES = _id_tables()


def _check_ids(ids: NDArray[np.uint8], label_format: LabelFormat) -> None:
    """Refuse ids that a format does not have."""
    foreign = [i for i in ids.tolist() if _ID_TABLES[label_format][i] == _FOREIGN]
    if not foreign:
        return
    listed = ', '.join(map(str, foreign[:8])) + (', ...' if len(foreign) > 8 else '')
    if max(foreign) < NUM_LABEL_IDS:
        remedy = 'if these are labelIds, say --label-format labelIds'
    else:
        remedy = (
            f'pixels without a class must be {UNLABELLED}; compression to JPEG and interpolation '
            'make ids that never were, export the labels again'
        )
    raise TruthError(
        'foreign_ids', f'the label holds {listed}, which {label_format} do not have: {remedy}'
    )


# Colours


def _from_colors(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if mask.ndim == 2:
        raise TruthError(
            'encoding',
            'the label has one channel where colours are expected: --label-format trainIds or '
            'labelIds reads ids',
        )
    train_ids = _look_up(mask)
    foreign = train_ids == _FOREIGN
    share = _foreign_share(train_ids)
    if share > MAX_FOREIGN_SHARE:
        colors, counts = np.unique(mask[foreign], axis=0, return_counts=True)
        swapped = _look_up(np.ascontiguousarray(mask[..., ::-1]))
        if _foreign_share(swapped) <= MAX_FOREIGN_SHARE:
            remedy = 'red and blue are swapped, store them in the order that the encoding says'
        else:
            remedy = 'was it a JPEG, or resized with interpolation? Export it again as PNG'
        raise TruthError(
            'foreign_colors',
            f'{share:.1%} of the label are not in the Cityscapes palette, most often '
            f'{tuple(colors[counts.argmax()].tolist())}: {remedy}',
        )
    train_ids[foreign] = UNLABELLED
    return train_ids


def _look_up(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the trainIds of RGB colours, `_FOREIGN` where they are not in the palette."""
    packed = cv2.cvtColor(mask, cv2.COLOR_RGB2BGRA).view('<u4')[..., 0]
    return np.take(_color_table(), packed & 0xFFFFFF)


def _foreign_share(train_ids: NDArray[np.uint8]) -> float:
    return np.count_nonzero(train_ids == _FOREIGN) / train_ids.size


@functools.cache
def _color_table() -> NDArray[np.uint8]:
    """Return trainIds by 0xRRGGBB, 16 MiB: five times as fast as a search among the colours."""
    table = np.full(1 << 24, _FOREIGN, np.uint8)
    for (red, green, blue), train_id in _PALETTE.items():
        table[red << 16 | green << 8 | blue] = train_id
    return table
