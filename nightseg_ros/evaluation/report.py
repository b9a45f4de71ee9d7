"""The report of a replay: report.json, report.csv, report.html and overlay.mp4.

Frames are read once, as they come; only their numbers and a few small pictures are kept.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import heapq
import json
import math
import os
import tempfile
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.exposure import OVER_EXPOSED
from nightseg_ros.core.exposure import UNDER_EXPOSED
from nightseg_ros.core.exposure import UNKNOWN
from nightseg_ros.core.labels import CLASSES
from nightseg_ros.core.labels import NAMES
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import colorize
from nightseg_ros.core.overlay import overlay
from nightseg_ros.core.segmentation_score import SegmentationScore
from nightseg_ros.core.segmentation_score import mean_iou
from nightseg_ros.evaluation import plots
from nightseg_ros.evaluation.metrics import FrameNumbers
from nightseg_ros.evaluation.metrics import latency_percentiles
from nightseg_ros.evaluation.video import OverlayVideo
from nightseg_ros.evaluation.video import VideoError

SAMPLES = 8
WORST = 4
MAX_DOMINANT_SHARE = 0.9
"""One class, or "no class", on more of the pixels than this makes the report warn."""
MAX_DROPPED_SHARE = 0.05
"""More dropped frames than this make the report warn."""

_PANEL_WIDTH = 640
_JPEG_QUALITY = 85
_CHIP_SHARE = 0.01
_VIDEO = 'overlay.mp4'
# The summary is published last: where it is, everything else is.
_PUBLISHED = (_VIDEO, 'report.csv', 'report.html', 'report.json')


@dataclass(frozen=True)
class EvaluatedFrame:
    """One published frame and what came back. All arrays have the size of the image.

    Attributes:
        index: number of the frame in the run.
        stamp_ns: its time stamp in nanoseconds.
        image: RGB uint8 [H, W, 3].
        labels: predicted trainIds, uint8 [H, W]; None: no mask came (dropped).
        confidence: 0..255, uint8 [H, W].
        exposure: 0 normal, 1 under, 2 over, 255 unknown, uint8 [H, W].
        truth: trainIds, 255 = ignore, uint8 [H, W].
        latency_ms: stamp published to mask received.
    """

    index: int
    stamp_ns: int
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None
    confidence: NDArray[np.uint8] | None
    exposure: NDArray[np.uint8] | None
    truth: NDArray[np.uint8] | None
    latency_ms: float | None


@dataclass(frozen=True)
class Run:
    """What was run; goes into the report as it is.

    Attributes:
        title: heading of the report.
        source: what was replayed: a name, never an absolute path.
        model: name of the model.
        backend: what computed it, for example 'openvino (fastest installed)'.
        frames: number of frames published.
        rate_hz: at which they were published.
        notes: whatever a reader should know.
        model_card: what the model says about itself.

    Raises:
        ValueError: if frames is negative or rate_hz not a positive number.
    """

    title: str
    source: str
    model: str
    backend: str
    frames: int
    rate_hz: float
    notes: tuple[str, ...] = ()
    model_card: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.frames < 0:
            raise ValueError(f'frames must not be negative, got {self.frames}')
        if not (math.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise ValueError(f'rate_hz must be a positive number, got {self.rate_hz}')


def write_report(frames: Iterable[EvaluatedFrame], run: Run, output: Path) -> dict[str, Any]:
    """Read the frames once and write report.json, .csv, .html and overlay.mp4 into a folder.

    Files appear under their final names only when all are complete; a former report is replaced
    then. If no video can be written, the report says so and why.

    Args:
        frames: every published frame in order, also those without a mask. Their arrays may be
            reused once the next frame is asked for.
        run: what was run. Where it names more frames than come, the rest count as dropped.
        output: folder, made if missing.

    Returns:
        What report.json holds: `frames`, `received`, `dropped`, `miou` (0..1 over all frames with
        mask and truth, None without any), `latency_ms` (p50, p95, p99, max, mean), `exposure`
        (shares of the pixels whose exposure is known), `confidence_mean` (0..1),
        `dominant_class` (the most frequent in the masks and its share), `classes`, and so on.

    Raises:
        ValueError: if arrays of a frame do not fit together, or a latency is not a number.
        OSError: if the folder cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.report-', dir=output) as name:
        staging = Path(name)
        tally = _Tally(run)
        with _VideoTrack(staging / _VIDEO, run.rate_hz) as video:
            for frame in frames:
                _check(frame)
                tally.add(frame)
                video.add(frame)
            video.finish()
        summary = _summary(tally, run, video)
        _write_csv(staging / 'report.csv', tally.rows)
        _write_html(staging / 'report.html', summary, tally, run, video.written)
        text = json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False)
        (staging / 'report.json').write_text(text + '\n', encoding='utf-8')
        _publish(staging, output)
    return summary


class _Tally:
    """Everything that is kept of the frames."""

    def __init__(self, run: Run) -> None:
        self.rows: list[FrameNumbers] = []
        self.score = SegmentationScore()
        self.truth_frames = 0
        self.predicted: NDArray[np.int64] = np.zeros(256, np.int64)
        self.exposed: NDArray[np.int64] = np.zeros(256, np.int64)
        self.confidence: NDArray[np.int64] = np.zeros(256, np.int64)
        self._samples = _Samples(run.frames)
        self._worst = _Worst()

    @property
    def samples(self) -> list[_Kept]:
        """Evenly spaced frames."""
        return self._samples.kept

    @property
    def worst(self) -> list[_Kept]:
        """The worst frames, worst first."""
        return self._worst.kept

    def add(self, frame: EvaluatedFrame) -> None:
        received = frame.labels is not None
        confidence = _counts(frame.confidence) if received else _counts(None)
        exposed = _counts(frame.exposure)
        self.predicted += _counts(frame.labels)
        self.confidence += confidence
        self.exposed += exposed
        under, over = _exposure_shares(exposed)
        row = FrameNumbers(
            index=frame.index,
            stamp_ns=frame.stamp_ns,
            received=received,
            latency_ms=frame.latency_ms if received else None,
            confidence=_mean_confidence(confidence),
            under_share=under,
            over_share=over,
            miou=self._compare(frame),
        )
        self._samples.offer(len(self.rows), frame, row)
        self._worst.offer(len(self.rows), frame, row)
        self.rows.append(row)

    def _compare(self, frame: EvaluatedFrame) -> float | None:
        if frame.labels is None or frame.truth is None:
            return None
        try:
            confusion = self.score.update(frame.labels, frame.truth)
        except ValueError as error:
            raise ValueError(f'frame {frame.index}: {error}') from error
        self.truth_frames += 1
        return _number(mean_iou(confusion))


@dataclass(frozen=True)
class _Kept:
    """A frame that the report shows: pictures made small, and its numbers."""

    frame: EvaluatedFrame
    row: FrameNumbers


class _Samples:
    """Keeps about SAMPLES frames evenly spaced over the expected number of frames."""

    def __init__(self, expected: int) -> None:
        count = min(SAMPLES, expected)
        # The middles of equal stretches, so that a mask missing at either end costs no sample.
        self._wanted = [(2 * i + 1) * expected // (2 * count) for i in range(count)]
        self._chosen: list[_Kept] = []
        self._first: _Kept | None = None

    @property
    def kept(self) -> list[_Kept]:
        if self._chosen or self._first is None:
            return self._chosen
        return [self._first]

    def offer(self, position: int, frame: EvaluatedFrame, row: FrameNumbers) -> None:
        if self._first is None:
            self._first = _keep(frame, row)
        # A frame without a mask shows little: the next one that has a mask stands in for it.
        if self._wanted and position >= self._wanted[0] and row.received:
            self._wanted = [wanted for wanted in self._wanted if wanted > position]
            self._chosen.append(_keep(frame, row))


class _Worst:
    """Keeps the WORST frames: by mIoU, or by confidence as long as no frame had a truth."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Kept]] = []
        self._by_miou = False

    @property
    def kept(self) -> list[_Kept]:
        return [kept for _, _, kept in sorted(self._heap, key=lambda item: (-item[0], -item[1]))]

    def offer(self, position: int, frame: EvaluatedFrame, row: FrameNumbers) -> None:
        if row.miou is not None and not self._by_miou:
            self._by_miou = True
            self._heap.clear()
        quality = row.miou if self._by_miou else row.confidence
        if quality is None or (len(self._heap) == WORST and -quality <= self._heap[0][0]):
            return
        heapq.heappush(self._heap, (-quality, -position, _keep(frame, row)))
        if len(self._heap) > WORST:
            heapq.heappop(self._heap)


class _VideoTrack:
    """An overlay video whose failure is a note instead of an error."""

    def __init__(self, path: Path, rate_hz: float) -> None:
        self._path = path
        self._video = OverlayVideo(path, rate_hz)
        self.failure: str | None = None
        self.written = False

    def __enter__(self) -> _VideoTrack:
        return self

    def __exit__(self, *error: Any) -> None:
        self._video.__exit__(*error)

    def add(self, frame: EvaluatedFrame) -> None:
        if self.failure is not None:
            return
        try:
            self._video.add(frame.image, frame.labels, frame.stamp_ns, frame.latency_ms)
        except VideoError as error:
            self.failure = str(error)

    def finish(self) -> None:
        try:
            self.written = self.failure is None and self._video.finish()
        except VideoError as error:
            self.failure = str(error)
        if self.failure is not None:
            self._path.unlink(missing_ok=True)


def _check(frame: EvaluatedFrame) -> None:
    image = frame.image
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(
            f'frame {frame.index}: image must be uint8 [H, W, 3], got {image.dtype} {image.shape}'
        )
    for name in ('labels', 'confidence', 'exposure', 'truth'):
        array = getattr(frame, name)
        if array is None:
            continue
        if array.shape != image.shape[:2]:
            raise ValueError(
                f'frame {frame.index}: {name} is {_size(array)}, but the image is {_size(image)} '
                f'(width x height)'
            )
        if array.dtype != np.uint8:
            raise ValueError(f'frame {frame.index}: {name} must be uint8, got {array.dtype}')
    if frame.latency_ms is not None and not math.isfinite(frame.latency_ms):
        raise ValueError(f'frame {frame.index}: latency is {frame.latency_ms}, not a number')


def _size(array: NDArray[np.uint8]) -> str:
    if array.ndim < 2:
        return f'an array of shape {array.shape}'
    return f'{array.shape[1]}x{array.shape[0]}'


def _counts(array: NDArray[np.uint8] | None) -> NDArray[np.int64]:
    """Return how often each value occurs, int64 [256]."""
    if array is None:
        return np.zeros(256, np.int64)
    return np.bincount(array.ravel(), minlength=256)


def _exposure_shares(counts: NDArray[np.int64]) -> tuple[float | None, float | None]:
    known = int(counts.sum() - counts[UNKNOWN])
    if not known:
        return None, None
    return float(counts[UNDER_EXPOSED] / known), float(counts[OVER_EXPOSED] / known)


def _mean_confidence(counts: NDArray[np.int64]) -> float | None:
    pixels = int(counts.sum())
    return float(counts @ np.arange(256) / (255 * pixels)) if pixels else None


def _number(value: float) -> float | None:
    """Return a value as JSON can hold it: None for NaN."""
    return None if math.isnan(value) else float(value)


def _keep(frame: EvaluatedFrame, row: FrameNumbers) -> _Kept:
    """Return copies of the pictures of a frame, at most as wide as the report shows them."""
    height, width = frame.image.shape[:2]
    scale = min(1.0, _PANEL_WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def small(array: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        if array is None:
            return None
        if scale == 1.0:
            return array.copy()
        return cv2.resize(array, size, interpolation=cv2.INTER_NEAREST)

    image = frame.image.copy()
    if scale < 1.0:
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    shrunk = dataclasses.replace(
        frame,
        image=image,
        labels=small(frame.labels),
        confidence=small(frame.confidence),
        exposure=small(frame.exposure),
        truth=small(frame.truth),
    )
    return _Kept(shrunk, row)


def _summary(tally: _Tally, run: Run, video: _VideoTrack) -> dict[str, Any]:
    published = max(run.frames, len(tally.rows))
    received = sum(row.received for row in tally.rows)
    result = tally.score.compute()
    under, over = _exposure_shares(tally.exposed)
    notes = list(run.notes)
    if len(tally.rows) < run.frames:
        notes.append(
            f'Of {run.frames} published frames only {len(tally.rows)} were recorded; '
            f'the others count as dropped.'
        )
    if video.failure is not None:
        notes.append(f'{_VIDEO} was not written: {video.failure}.')
    summary: dict[str, Any] = {
        'title': run.title,
        'source': run.source,
        'model': run.model,
        'backend': run.backend,
        'rate_hz': run.rate_hz,
        'frames': published,
        'received': received,
        'dropped': published - received,
        'truth_frames': tally.truth_frames,
        'miou': _number(result.mean_iou),
        'latency_ms': latency_percentiles(_latencies(tally.rows)),
        'confidence_mean': _mean_confidence(tally.confidence),
        'exposure': {'under_share': under, 'over_share': over},
        'dominant_class': _dominant_class(tally.predicted),
        'classes': _class_table(tally),
        'notes': notes,
        'model_card': dict(run.model_card),
    }
    summary['warnings'] = _warnings(summary, tally.predicted)
    return summary


def _latencies(rows: Sequence[FrameNumbers]) -> list[float]:
    return [row.latency_ms for row in rows if row.latency_ms is not None]


def _class_table(tally: _Tally) -> list[dict[str, Any]]:
    result = tally.score.compute()
    pixels = int(tally.predicted.sum())
    return [
        {
            'name': name,
            'iou': _number(float(result.class_iou[i])),
            'support_pixels': int(result.support[i]),
            'predicted_share': int(tally.predicted[i]) / pixels if pixels else None,
        }
        for i, name in enumerate(NAMES)
    ]


def _dominant_class(predicted: NDArray[np.int64]) -> dict[str, Any]:
    classes = predicted[:NUM_CLASSES]
    if not classes.any():
        return {'name': None, 'share': None}
    most = int(classes.argmax())
    return {'name': NAMES[most], 'share': float(classes[most] / predicted.sum())}


def _warnings(summary: Mapping[str, Any], predicted: NDArray[np.int64]) -> list[str]:
    if not summary['frames']:
        return ['No frame was published: there is nothing to judge.']
    if not summary['received']:
        return ['No mask came at all: the node did not run, or could not keep up, or failed.']
    warnings = []
    dropped = summary['dropped'] / summary['frames']
    if dropped > MAX_DROPPED_SHARE:
        warnings.append(
            f'{_percent(dropped)} of the frames got no mask: the node could not keep up, or '
            f'messages were lost.'
        )
    dominant = summary['dominant_class']
    if dominant['share'] is not None and dominant['share'] > MAX_DOMINANT_SHARE:
        warnings.append(
            f'{_percent(dominant["share"])} of all pixels were predicted as '
            f'"{dominant["name"]}": the masks say almost nothing.'
        )
    unclassed = float(predicted[NUM_CLASSES:].sum() / predicted.sum())
    if unclassed > MAX_DOMINANT_SHARE:
        warnings.append(f'{_percent(unclassed)} of all pixels were given no class.')
    return warnings


def _write_csv(path: Path, rows: Sequence[FrameNumbers]) -> None:
    with path.open('w', encoding='utf-8', newline='') as stream:
        writer = csv.writer(stream, lineterminator='\n')
        writer.writerow([column.name for column in dataclasses.fields(FrameNumbers)])
        writer.writerows([_cell(value) for value in dataclasses.astuple(row)] for row in rows)


def _cell(value: float | None) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return f'{value:.6g}' if isinstance(value, float) else '' if value is None else str(value)


def _publish(staging: Path, output: Path) -> None:
    for name in _PUBLISHED:
        if (staging / name).exists():
            os.replace(staging / name, output / name)
        else:
            # A video of a former run would pass for one of this run.
            (output / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Picture:
    """A plot or panel in the page: data URIs for light and dark pages, and what it shows."""

    title: str
    caption: str
    light: str
    dark: str | None = None


@dataclass(frozen=True)
class _Sheet:
    """One shown frame: heading, its panels, and the classes in its mask with their share."""

    heading: str
    panels: tuple[_Picture, ...]
    chips: tuple[tuple[str, str, float], ...]


def _write_html(
    path: Path, summary: Mapping[str, Any], tally: _Tally, run: Run, video: bool
) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / 'templates'),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(percent=_percent, ms=_milliseconds, count=_count)
    page = environment.get_template('report.html.j2').render(
        summary=summary,
        has_truth=summary['truth_frames'] > 0,
        scored_classes=sum(row['iou'] is not None for row in summary['classes']),
        unseen_classes=[
            row['name']
            for row in summary['classes']
            if row['iou'] is not None and not row['support_pixels']
        ],
        colors={c.name: _css_color(c.color) for c in CLASSES},
        key_colors={
            'right': _css_color(plots.RIGHT_COLOR),
            'wrong': _css_color(plots.WRONG_COLOR),
            'unrated': _css_color(plots.UNRATED_COLOR),
            'under': _css_color(plots.UNDER_COLOR),
            'over': _css_color(plots.OVER_COLOR),
        },
        plots=_run_plots(summary, tally, run),
        samples=[_sheet(kept) for kept in tally.samples],
        worst=[_sheet(kept) for kept in tally.worst],
        worst_by='agreement with the truth (mIoU)' if summary['truth_frames'] else 'confidence',
        video=_VIDEO if video else None,
    )
    path.write_text(page, encoding='utf-8')


def _run_plots(summary: Mapping[str, Any], tally: _Tally, run: Run) -> list[_Picture]:
    """Return the plots there are data for."""
    line = plots.time_line(tally.rows)
    pictures = []
    latencies = np.array(_latencies(tally.rows), np.float64)
    if latencies.size:
        pictures += [
            _plot(
                'Latency over time',
                'From publishing a frame to receiving its mask, frame by frame. Above the dashed '
                'line a mask comes later than the next frame; red ticks are frames that got none.',
                plots.latency_over_time(line, 1000.0 / run.rate_hz),
            ),
            _plot(
                'Latency distribution',
                'How many frames took how long (left), and which part of them took at most that '
                'long (right). p95: 95 % of the frames were at least this fast.',
                plots.latency_distribution(latencies, summary['latency_ms']),
            ),
        ]
    if not np.isnan(line.confidence).all() or not np.isnan(line.miou).all():
        pictures.append(_plot(*_quality_text(line), plots.quality_over_time(line)))
    if not np.isnan(line.under_share).all():
        pictures.append(
            _plot(
                'Exposure over time',
                'Part of each frame that is too dark (under-exposed) or too bright '
                '(over-exposed) to see much in.',
                plots.exposure_over_time(line),
            )
        )
    return pictures + _class_plots(summary, tally)


def _quality_text(line: plots.TimeLine) -> tuple[str, str]:
    confidence = 'Confidence: how sure the network is of its classes, mean over the frame.'
    if np.isnan(line.miou).all():
        return 'Confidence over time', confidence
    agreement = (
        'mIoU: overlap of mask and truth, mean over the classes that occur in the frame; a single '
        'frame scores lower than the run when a few pixels of a rare class are wrong.'
    )
    if np.isnan(line.confidence).all():
        return 'Agreement with the truth over time', agreement
    return 'Confidence and agreement with the truth over time', f'{confidence} {agreement}'


def _class_plots(summary: Mapping[str, Any], tally: _Tally) -> list[_Picture]:
    pictures = []
    if summary['miou'] is not None:
        values = tally.score.compute().class_iou
        pictures += [
            _plot(
                'Agreement per class',
                'Intersection over union (IoU): pixels where mask and truth agree on a class, '
                'divided by pixels where either names it. 100 % is perfect.',
                plots.class_bars(values, 'intersection over union'),
            ),
            _plot(
                'What was taken for what',
                'Each row is a true class and adds up to 100 %: how its pixels were predicted. '
                'Right predictions lie where row and column name the same class.',
                plots.confusion_plot(tally.score.confusion),
            ),
        ]
    elif summary['received']:
        shares = np.array([row['predicted_share'] for row in summary['classes']], np.float64)
        shares[shares == 0] = np.nan
        pictures.append(
            _plot(
                'Predicted classes',
                'Part of all pixels that was given each class; classes never predicted are left '
                'out. There was no truth to compare with.',
                plots.class_bars(shares, 'part of all pixels'),
            )
        )
    return pictures


def _plot(title: str, caption: str, plot: plots.Plot) -> _Picture:
    return _Picture(title, caption, _uri(plot.light, 'png'), _uri(plot.dark, 'png'))


def _sheet(kept: _Kept) -> _Sheet:
    frame, row = kept.frame, kept.row
    facts = [f'Frame {frame.index}', f'stamp {frame.stamp_ns / 1e9:.3f} s']
    if not row.received:
        facts.append('no mask')
    if row.latency_ms is not None:
        facts.append(f'latency {_milliseconds(row.latency_ms)}')
    if row.miou is not None:
        facts.append(f'mIoU {_percent(row.miou)}')
    if row.confidence is not None:
        facts.append(f'confidence {_percent(row.confidence)}')
    return _Sheet(' · '.join(facts), tuple(_panels(frame, row)), _chips(frame.labels))


def _panels(frame: EvaluatedFrame, row: FrameNumbers) -> Iterable[_Picture]:
    yield _photo('Input', 'what the camera sent', frame.image)
    if frame.labels is not None:
        yield _photo('Overlay', 'predicted classes', overlay(frame.image, frame.labels, 0.6))
    if frame.truth is not None:
        yield _chart('Truth', 'classes as annotated, black: not annotated', colorize(frame.truth))
    if frame.truth is not None and frame.labels is not None:
        picture = plots.error_picture(frame.labels, frame.truth)
        yield _chart('Error', 'green right, red wrong, dark not annotated', picture)
    if frame.confidence is not None:
        picture = plots.confidence_picture(frame.confidence)
        yield _photo('Confidence', 'purple unsure, yellow sure', picture)
    if frame.exposure is not None:
        shares = 'blue too dark, orange too bright'
        if row.under_share is not None:
            shares = (
                f'blue too dark ({_percent(row.under_share)}), '
                f'orange too bright ({_percent(row.over_share)})'
            )
        yield _photo('Exposure', shares, plots.exposure_picture(frame.image, frame.exposure))


def _chips(labels: NDArray[np.uint8] | None) -> tuple[tuple[str, str, float], ...]:
    """Return name, colour and share of the classes in a mask, most frequent first."""
    if labels is None:
        return ()
    shares = _counts(labels)[:NUM_CLASSES] / labels.size
    order = np.argsort(-shares, kind='stable')
    return tuple(
        (NAMES[i], _css_color(CLASSES[i].color), float(shares[i]))
        for i in order
        if shares[i] >= _CHIP_SHARE
    )


def _photo(title: str, caption: str, rgb: NDArray[np.uint8]) -> _Picture:
    return _Picture(
        title, caption, _encoded(rgb, 'jpeg', [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    )


def _chart(title: str, caption: str, rgb: NDArray[np.uint8]) -> _Picture:
    """Return a picture of few flat colours, which PNG keeps exactly."""
    return _Picture(title, caption, _encoded(rgb, 'png', []))


def _encoded(rgb: NDArray[np.uint8], kind: str, options: list[int]) -> str:
    done, data = cv2.imencode(f'.{kind}', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f'OpenCV cannot encode {_size(rgb)} as {kind}')
    return _uri(data.tobytes(), kind)


def _uri(data: bytes, kind: str) -> str:
    return f'data:image/{kind};base64,{base64.b64encode(data).decode("ascii")}'


def _css_color(rgb: tuple[int, int, int]) -> str:
    return '#{:02x}{:02x}{:02x}'.format(*rgb)


def _percent(share: float | None) -> str:
    return '–' if share is None else f'{share * 100:.1f} %'


def _milliseconds(value: float | None) -> str:
    if value is None:
        return '–'
    return f'{value:.1f} ms' if value < 100 else f'{value:.0f} ms'


def _count(value: int) -> str:
    return f'{value:,}'.replace(',', '\u2009')
