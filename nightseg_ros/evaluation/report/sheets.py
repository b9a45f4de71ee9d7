"""Sheets: what a page shows of one frame, as small pictures and a few facts.

A sheet is made when its frame passes, so that no frame need be kept; it can be stored as JSON and
read again when drives are merged.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
import re
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.labels import CLASSES
from nightseg_ros.core.labels import NAMES
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.overlay import overlay
from nightseg_ros.evaluation.frames import EvaluatedFrame
from nightseg_ros.evaluation.report import formats
from nightseg_ros.evaluation.report.frame_pictures import confidence_picture
from nightseg_ros.evaluation.report.frame_pictures import error_picture
from nightseg_ros.evaluation.report.frame_pictures import exposure_picture

MAX_PANEL_WIDTH = 640
MAX_PANEL_HEIGHT = 720
MAX_SHEET_BYTES = 145_000
"""Most characters that all panels of a sheet take together."""

_THUMBNAIL_WIDTH = 160
_THUMBNAIL_OPACITY = 0.45
_OVERLAY_OPACITY = 0.6
_CHIP_SHARE = 0.01
# Fine enough for most frames first; what is still too large gets coarser, then smaller.
_ATTEMPTS = ((1.0, 82), (1.0, 68), (1.0, 50), (0.75, 50), (0.5, 40), (0.25, 40))
_URI = re.compile(r'data:image/jpeg;base64,([A-Za-z0-9+/]+=*)')
_COLOR = re.compile(r'#[0-9a-f]{6}')


@dataclass(frozen=True)
class Panel:
    """One picture of a frame: its title, what it shows, and itself as a data URI."""

    title: str
    caption: str
    uri: str


@dataclass(frozen=True)
class Chip:
    """One class in a mask: its name, CSS colour and share of the mask, 0..1."""

    name: str
    color: str
    share: float


@dataclass(frozen=True)
class Sheet:
    """What a page shows of one frame.

    Attributes:
        index: number of the frame in its run.
        time_s: seconds since the first frame of the run, None if unknown.
        quality: mIoU of the frame where it has a truth, else its mean confidence, 0..1; None
            without a mask. The worst frames are those where it is lowest.
        facts: its heading in parts, such as 'frame 12' and 'mIoU .42'.
        panels: its pictures, at most 640 pixels wide.
        chips: the classes in its mask, most frequent first.
        thumbnail: a picture 160 pixels wide, as a data URI.
        drive: which drive it is from, on pages of several; else ''.
    """

    index: int
    time_s: float | None
    quality: float | None
    facts: tuple[str, ...]
    panels: tuple[Panel, ...]
    chips: tuple[Chip, ...]
    thumbnail: str
    drive: str = ''

    def to_json(self) -> dict[str, Any]:
        """Return the sheet as `json.dumps` takes it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Sheet:
        """Return the sheet that :meth:`to_json` wrote.

        Raises:
            ValueError: if the content is no sheet, or a picture in it is no JPEG data URI.
        """
        try:
            return cls(
                index=int(content['index']),
                time_s=_optional(content['time_s']),
                quality=_optional(content['quality']),
                facts=tuple(str(fact) for fact in content['facts']),
                panels=tuple(
                    Panel(str(p['title']), str(p['caption']), _picture(p['uri']))
                    for p in content['panels']
                ),
                chips=tuple(
                    Chip(str(c['name']), _color(c['color']), float(c['share']))
                    for c in content['chips']
                ),
                thumbnail=_picture(content['thumbnail']),
                drive=str(content['drive']),
            )
        except (KeyError, TypeError, binascii.Error) as error:
            raise ValueError(
                f'this is no sheet of a frame ({error!r}): evaluate its drive again'
            ) from error


def make_sheet(frame: EvaluatedFrame, row: Mapping[str, float]) -> Sheet:
    """Return the sheet of a frame. Its masks may have another size than its image.

    Args:
        frame: the frame, with or without masks and truth.
        row: its numbers, named as the columns of report.csv; NaN or missing = unknown.

    Raises:
        ValueError: if its image is not uint8 [H, W, 3].
    """
    image = frame.image
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(
            f'frame {frame.index}: image must be uint8 [H, W, 3], got {image.dtype} {image.shape}'
        )
    miou, confidence = _number(row, 'miou'), _number(row, 'confidence')
    return Sheet(
        index=frame.index,
        time_s=_number(row, 'time_s'),
        quality=confidence if miou is None else miou,
        facts=tuple(_facts(frame, row)),
        panels=_panels(frame, row),
        chips=_chips(frame.labels),
        thumbnail=_thumbnail(frame),
    )


def _number(row: Mapping[str, float], column: str) -> float | None:
    value = row.get(column)
    return float(value) if value is not None and math.isfinite(value) else None


def _facts(frame: EvaluatedFrame, row: Mapping[str, float]) -> Iterator[str]:
    yield f'frame {frame.index}'
    time_s = _number(row, 'time_s')
    if time_s is not None:
        yield formats.duration(time_s)
    yield f'stamp {frame.stamp_ns / 1e9:.3f} s'
    if frame.labels is None:
        yield 'no mask'
    for column, name, number_format in (
        ('miou', 'mIoU', formats.FRACTION),
        ('accuracy', 'accuracy', formats.FRACTION),
        ('confidence', 'confidence', formats.FRACTION),
        ('flicker', 'flicker', formats.SMALL_FRACTION),
        ('latency_ms', 'latency', formats.MILLISECONDS),
    ):
        value = _number(row, column)
        if value is not None:
            yield f'{name} {number_format(value)}'


def _panels(frame: EvaluatedFrame, row: Mapping[str, float]) -> tuple[Panel, ...]:
    """Return the panels, coarse enough to keep the sheet small."""
    panels: tuple[Panel, ...] = ()
    for scale, quality in _ATTEMPTS:
        panels = tuple(
            Panel(title, caption, _jpeg(picture, quality))
            for title, caption, picture in _pictures(frame, row, scale)
        )
        if sum(len(panel.uri) for panel in panels) <= MAX_SHEET_BYTES:
            break
    return panels


def _pictures(
    frame: EvaluatedFrame, row: Mapping[str, float], scale: float
) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    """Yield title, caption and RGB picture of each panel."""
    size = _fitted(frame.image, round(MAX_PANEL_WIDTH * scale), round(MAX_PANEL_HEIGHT * scale))
    image = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
    labels, truth = _resized(frame.labels, size), _resized(frame.truth, size)
    confidence, exposure = _resized(frame.confidence, size), _resized(frame.exposure, size)
    yield 'Input', 'what the camera sent', image
    if labels is not None:
        yield 'Prediction', 'predicted classes', overlay(image, labels, _OVERLAY_OPACITY)
    if truth is not None:
        caption = 'as annotated, clear: not annotated'
        yield 'Truth', caption, overlay(image, truth, _OVERLAY_OPACITY)
    if labels is not None and truth is not None:
        caption = 'green right, red wrong, dark not annotated'
        yield 'Error', caption, error_picture(image, labels, truth)
    if confidence is not None:
        yield 'Confidence', 'purple unsure, yellow sure', confidence_picture(confidence)
    if exposure is not None:
        under, over = _number(row, 'under_share'), _number(row, 'over_share')
        caption = 'blue too dark, orange too bright'
        if under is not None and over is not None:
            caption = (
                f'blue too dark {formats.PERCENT(under)}, orange too bright {formats.PERCENT(over)}'
            )
        yield 'Exposure', caption, exposure_picture(image, exposure)


def _thumbnail(frame: EvaluatedFrame) -> str:
    size = _fitted(frame.image, _THUMBNAIL_WIDTH, _THUMBNAIL_WIDTH)
    image = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
    labels = _resized(frame.labels, size)
    return _jpeg(image if labels is None else overlay(image, labels, _THUMBNAIL_OPACITY), 75)


def _fitted(image: NDArray[np.uint8], max_width: int, max_height: int) -> tuple[int, int]:
    """Return the width and height of an image made to fit, never enlarged."""
    height, width = image.shape[:2]
    scale = min(1.0, max_width / width, max_height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(array: NDArray[np.uint8] | None, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    if array is None:
        return None
    return cv2.resize(array, size, interpolation=cv2.INTER_NEAREST)


def _chips(labels: NDArray[np.uint8] | None) -> tuple[Chip, ...]:
    """Return the classes in a mask, most frequent first, without those of few pixels."""
    if labels is None or labels.size == 0:
        return ()
    shares = np.bincount(labels.ravel(), minlength=256)[:NUM_CLASSES] / labels.size
    return tuple(
        Chip(NAMES[i], css_color(CLASSES[i].color), float(shares[i]))
        for i in np.argsort(-shares, kind='stable')
        if shares[i] >= _CHIP_SHARE
    )


def css_color(rgb: tuple[int, int, int]) -> str:
    """Return a colour as CSS writes it."""
    return '#{:02x}{:02x}{:02x}'.format(*rgb)


def _jpeg(rgb: NDArray[np.uint8], quality: int) -> str:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    done, data = cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f'OpenCV cannot encode a picture of shape {rgb.shape} as JPEG')
    return f'data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode("ascii")}'


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)


def _picture(uri: Any) -> str:
    """Return the data URI of a JPEG; anything else would make a page load what it should not."""
    match = _URI.fullmatch(uri)
    if match is None or not base64.b64decode(match.group(1), validate=True):
        raise ValueError('a picture of this sheet is no JPEG: evaluate its drive again')
    return str(uri)


def _color(value: Any) -> str:
    if _COLOR.fullmatch(value) is None:
        raise ValueError(f'{value!r} is no colour of a class: evaluate its drive again')
    return str(value)
