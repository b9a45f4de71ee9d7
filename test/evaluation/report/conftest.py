"""Complete summaries, rows and sheets as an evaluation makes them, of made-up numbers."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightseg_ros.core.labels import NAMES
from nightseg_ros.evaluation.frames import EvaluatedFrame
from nightseg_ros.evaluation.report.metric_table import METRICS
from nightseg_ros.evaluation.report.page import write_page
from nightseg_ros.evaluation.report.sheets import Sheet
from nightseg_ros.evaluation.report.sheets import make_sheet

REPLICATES = 1000
TRUTH_METRICS = ('miou', 'accuracy', 'mef1', 'ece', 'aurc')
REPLAY_METRICS = ('p50_ms', 'p95_ms', 'p99_ms', 'max_ms', 'age_p99_ms', 'gap_p99_ms')
VALUES = {
    'miou': 0.424, 'accuracy': 0.871, 'mef1': 0.391, 'ece': 0.0713, 'aurc': 0.0462,
    'flicker': 0.0234, 'confidence': 0.912, 'under_share': 0.612, 'over_share': 0.031,
    'collapsed_share': 0.0, 'dropped_share': 0.02, 'fps': 23.4, 'p50_ms': 38.2, 'p95_ms': 45.1,
    'p99_ms': 61.7, 'max_ms': 88.0, 'age_p99_ms': 74.3, 'gap_p99_ms': 201.4, 'peak_mib': 812.0,
}  # fmt: skip
SPREAD = {name: 0.05 * abs(value) for name, value in VALUES.items()}


def percentiles(middle: float) -> dict[str, float]:
    return {
        'p50': middle,
        'p95': middle * 1.3,
        'p99': middle * 1.7,
        'max': middle * 2.4,
        'mean': middle * 1.05,
    }


NO_MEMORY = dict.fromkeys(('first_mib', 'peak_mib', 'last_mib'))
NO_PERCENTILES = dict.fromkeys(('p50', 'p95', 'p99', 'max', 'mean'))


def build_summary(**changes: Any) -> dict[str, Any]:
    """Return the summary of an offline run of 62 frames with a truth."""
    rng = np.random.default_rng(5)
    confusion = rng.integers(0, 400, (19, 20)) + np.eye(19, 20, dtype=np.int64) * 30_000
    confusion[14:17] = 0
    support = confusion.sum(axis=1)
    metrics = {name: None if name in REPLAY_METRICS else v for name, v in VALUES.items()}
    values = {
        name: rng.normal(value, SPREAD[name], REPLICATES).tolist()
        for name, value in metrics.items()
        if value is not None and name != 'peak_mib'
    }
    iou = np.linspace(0.9, 0.1, 19).tolist()
    coverage = np.linspace(0.01, 1, 200)
    summary = {
        'version': 1,
        'software': '0.1.0',
        'created': '2025-03-01T21:14:09+00:00',
        'title': 'Dusk drive <night & rain>',
        'mode': 'offline',
        'complete': True,
        'source': {
            'bag': 'dusk_drive', 'camera': '/camera/image_raw', 'storage': 'mcap',
            'ros_distro': 'jazzy', 'duration_s': 12.3,
            'truth': {
                'name': '/camera/labels', 'format': 'trainIds', 'assumed': False,
                'tolerance_ms': 20.0, 'matched': 62, 'unmatched': 3, 'refused': {},
            },
        },
        'drives': [],
        'model': 'student',
        'model_sha256': 'a3' * 32,
        'backend': 'openvino (fastest installed)',
        'model_card': {'licence': 'Research only', 'trained_on': 'CamVid, campus'},
        'rate_hz': 10.0,
        'frames': 62, 'received': 61, 'dropped': 1, 'truth_frames': 61,
        'unreadable': {}, 'drops': {'queue full': 1},
        'metrics': metrics,
        'intervals': {
            name: [v - 1.96 * SPREAD[name], v + 1.96 * SPREAD[name]]
            for name, v in metrics.items() if v is not None and name != 'peak_mib'
        },
        'classes': [
            {
                'name': name,
                'iou': None if support[i] == 0 else iou[i],
                'interval': None if support[i] == 0 else [iou[i] - 0.05, iou[i] + 0.05],
                'support_pixels': int(support[i]),
                'predicted_share': float(confusion[:, i].sum() / confusion.sum()),
            }
            for i, name in enumerate(NAMES)
        ],
        'exposure_bins': [
            {
                'range': f'[{i / 10:.1f}, {(i + 1) / 10:.1f}{"]" if i == 9 else ")"}',
                'pixels': 1000 * (10 - i), 'ef1': 0.3 + 0.03 * i,
                'interval': [0.25 + 0.03 * i, 0.35 + 0.03 * i], 'miou': 0.2 + 0.03 * i,
                'accuracy': 0.7 + 0.02 * i, 'confidence': 0.8 + 0.015 * i,
                'share': (10 - i) / 55,
            }
            for i in range(10)
        ],
        'reliability': [
            {
                'low': i / 15, 'high': (i + 1) / 15,
                'confidence': (i + 0.5) / 15 if i > 2 else None,
                'accuracy': 0.9 * (i + 0.5) / 15 if i > 2 else None,
                'pixels': 40 * i**3 if i > 2 else 0,
            }
            for i in range(15)
        ],
        'risk_coverage': [[float(c), float(0.13 * c**2)] for c in coverage],
        'confusion': confusion.tolist(),
        'latency_ms': NO_PERCENTILES, 'age_ms': NO_PERCENTILES, 'gap_ms': NO_PERCENTILES,
        'stages_ms': {
            'infer': percentiles(28.0), 'decode': percentiles(4.1),
            'preprocess': percentiles(2.2), 'measure': percentiles(6.0),
        },
        'memory': {
            'process': 'evaluator', 'first_mib': 610.0, 'peak_mib': 812.0, 'last_mib': 640.0,
            'series': [[float(t), 610.0 + 50 * np.sin(t)] for t in range(40)],
        },
        'dominant_class': {'name': 'road', 'share': 0.41},
        'problems': [],
        'notes': ['Measured on two cores.'],
        'warnings': [],
        'video': 'overlay.mp4',
        'bootstrap': {
            'replicates': REPLICATES, 'unit': 'frame', 'frames_sha256': 'f0' * 32,
            'values': values,
        },
    }  # fmt: skip
    return copy.deepcopy({**summary, **changes})


def _forget(summary: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        summary['metrics'][name] = None
        summary['intervals'].pop(name, None)
        summary['bootstrap']['values'].pop(name, None)


def without_truth() -> dict[str, Any]:
    summary = build_summary(truth_frames=0, video=None, risk_coverage=[])
    _forget(summary, TRUTH_METRICS)
    summary['source']['truth'] = None
    summary['confusion'] = np.zeros((19, 20), np.int64).tolist()
    for row in summary['classes']:
        row.update(iou=None, interval=None, support_pixels=0)
    for bin_ in summary['exposure_bins']:
        bin_.update(ef1=None, interval=None, miou=None, accuracy=None)
    for bin_ in summary['reliability']:
        bin_.update(accuracy=None)
    return summary


def replay() -> dict[str, Any]:
    summary = without_truth()
    summary.update(
        mode='replay',
        title='Campus at night, replayed',
        received=55,
        latency_ms=percentiles(38.2),
        dropped=7,
        drops={'mailbox overwritten': 6, 'no message came back': 1},
        unreadable={'damaged_message': 2},
        age_ms=percentiles(52.0),
        gap_ms=percentiles(100.0),
        stages_ms={
            name: percentiles(middle)
            for name, middle in (
                ('decode', 3.1), ('preprocess', 2.2), ('infer', 28.0), ('postprocess', 1.0),
                ('publish', 0.6), ('age', 52.0),
            )
        },
        warnings=['11.3 % of the frames got no mask: the node could not keep up.'],
        problems=['camera.db3 ends early: 3 messages could not be read.'],
        complete=False,
    )  # fmt: skip
    summary['metrics'].update({name: VALUES[name] for name in REPLAY_METRICS})
    summary['metrics'].update(dropped_share=7 / 62, p99_ms=131.0)
    summary['intervals'].update(dropped_share=[0.05, 0.19], p99_ms=[102.0, 160.0])
    summary['memory']['process'] = 'node'
    return summary


def merged(drives: int = 140) -> dict[str, Any]:
    rng = np.random.default_rng(8)
    summary = build_summary(title='Fleet of one night', video=None)
    summary['drives'] = [
        {
            'name': f'drive_{i:04d}',
            'folder': f'drives/drive {i:04d}' if i else None,
            'frames': 62, 'truth_frames': 61 if i % 3 else 0, 'complete': i % 20 != 3,
            'metrics': {
                **VALUES,
                'miou': float(np.clip(rng.normal(0.42, 0.07), 0, 1)) if i % 3 else None,
                'flicker': float(rng.gamma(4, 0.006)),
                'p99_ms': float(60 + rng.gamma(2, 6)),
                'dropped_share': 1.0 if i == 7 else 0.01,
            },
            'problems': ['metadata.yaml is missing'] if i % 25 == 4 else [],
        }
        for i in range(drives)
    ]  # fmt: skip
    return summary


def empty() -> dict[str, Any]:
    """Return the summary of a run in which no frame got a mask."""
    summary = without_truth()
    _forget(summary, tuple(name for name in METRICS if name != 'dropped_share'))
    summary['metrics']['dropped_share'] = 1.0
    summary['intervals'] = {}
    for row in summary['classes']:
        row.update(predicted_share=None)
    for bin_ in summary['exposure_bins']:
        bin_.update(confidence=None, share=None, pixels=0)
    for bin_ in summary['reliability']:
        bin_.update(confidence=None, pixels=0)
    summary.update(
        received=0, dropped=62, stages_ms={}, latency_ms=NO_PERCENTILES,
        memory={'process': 'node', 'series': [], **NO_MEMORY},
        dominant_class={'name': None, 'share': None},
        drops={'no message came back': 62},
        warnings=['No mask came at all: the node did not run, or could not keep up, or failed.'],
    )  # fmt: skip
    summary['bootstrap']['values'] = {}
    return summary


def build_rows(count: int = 62, truth: bool = True, live: bool = False) -> dict[str, Any]:
    """Return the columns of report.csv; frame 17 was dropped."""
    rng = np.random.default_rng(3)
    index = np.arange(count, dtype=np.float64)
    nothing = np.full(count, np.nan)
    rows = {
        'index': index,
        'time_s': index / 10,
        'stamp_ns': 1e9 + index * 1e8,
        'received': np.ones(count),
        'latency_ms': 36 + rng.gamma(2, 3, count) if live else nothing,
        'age_ms': 50 + rng.gamma(2, 4, count) if live else nothing,
        'decode_ms': nothing if live else 4 + rng.gamma(2, 0.3, count),
        'preprocess_ms': nothing if live else 2 + rng.gamma(2, 0.1, count),
        'infer_ms': nothing if live else 28 + rng.gamma(2, 1, count),
        'confidence': 0.9 + 0.05 * np.sin(index / 9),
        'under_share': 0.6 + 0.2 * np.sin(index / 7),
        'over_share': 0.03 + 0.02 * np.cos(index / 5),
        'dominant_class': np.zeros(count),
        'dominant_share': np.full(count, 0.4),
        'flicker': np.abs(rng.normal(0.02, 0.008, count)),
        'accuracy': 0.87 + 0.05 * np.sin(index / 8) if truth else nothing,
        'miou': 0.42 + 0.1 * np.sin(index / 6) if truth else nothing,
        'truth': np.full(count, float(truth)),
    }
    if count > 17:
        rows['received'][17] = 0
        for name in ('latency_ms', 'age_ms', 'confidence', 'flicker', 'accuracy', 'miou'):
            rows[name] = rows[name].copy()
            rows[name][17] = np.nan
    return rows


def build_frame(
    index: int = 0, height: int = 48, width: int = 64, **changes: Any
) -> EvaluatedFrame:
    """Return a frame of a road below a sky with its masks at half its size."""
    row, column = np.mgrid[:height, :width]
    image = np.stack([row * 4, column * 3, np.full_like(row, 60)], axis=-1).astype(np.uint8)
    truth = np.where(row < height // 2, 10, 0).astype(np.uint8)
    truth[:4] = 255
    labels = np.where(row < height // 3, 10, 0).astype(np.uint8)[::2, ::2]
    exposure = np.zeros_like(labels)
    exposure[:3], exposure[-3:] = 1, 2
    fields = {
        'index': index,
        'stamp_ns': 1_000_000_000 + index * 100_000_000,
        'image': image,
        'labels': labels,
        'confidence': np.full_like(labels, 200),
        'exposure': exposure,
        'truth': truth,
        'latency_ms': 40.0,
    }
    return EvaluatedFrame(**{**fields, **changes})


def build_sheets(rows: dict[str, Any], indices: tuple[int, ...], drive: str = '') -> list[Sheet]:
    sheets = []
    for index in indices:
        row = {name: float(values[index]) for name, values in rows.items()}
        truth = {} if row['truth'] else {'truth': None}
        sheet = make_sheet(build_frame(index, **truth), row)
        sheets.append(dataclasses.replace(sheet, drive=drive))
    return sheets


KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    'truth': build_summary,
    'no truth': without_truth,
    'replay': replay,
    'merged': merged,
    'empty': empty,
}


def _joined(text: str) -> str:
    """Return text with one space for each stretch of them; thin spaces stay."""
    return re.sub(r'[ \n]+', ' ', text)


class Document(HTMLParser):
    """What the tests look at in a page: text and tables by section, pictures, links, ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: dict[str, str] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self.plots: dict[str, int] = {}
        self.captions = 0
        self.attributes: list[tuple[str, str, str]] = []
        self._section, self._table = '', ''
        self._cells: list[list[str]] = []
        self._in_cell = self._in_style = False
        self.feed(text)

    @property
    def all_text(self) -> str:
        return _joined(' '.join(self.text.values()))

    def values(self, name: str, tag: str | None = None) -> list[str]:
        """Return all values of an attribute."""
        return [v for t, n, v in self.attributes if n == name and tag in (None, t)]

    def section(self, name: str) -> str:
        return _joined(self.text[name])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or '') for name, value in attrs]
        names = dict(attrs)
        if tag == 'section':
            self._section = names.get('id') or ''
        elif tag == 'style':
            self._in_style = True
        elif tag == 'svg':
            self.plots[self._section] = self.plots.get(self._section, 0) + 1
        elif tag == 'figcaption':
            self.captions += 1
        elif tag == 'table':
            self._table = names.get('id') or self._section
            self.tables.setdefault(self._table, [])
        elif tag == 'tr':
            self.tables[self._table].append([])
        elif tag in ('td', 'th'):
            self.tables[self._table][-1].append('')
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ('td', 'th'):
            self._in_cell = False
        elif tag == 'style':
            self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            return
        data = data.replace('\u00a0', ' ')
        self.text[self._section] = self.text.get(self._section, '') + data
        if self._in_cell:
            self.tables[self._table][-1][-1] += data


@pytest.fixture(scope='session')
def make_summary() -> Callable[..., dict[str, Any]]:
    """Return a function of a kind ('truth', 'no truth', 'replay', 'merged', 'empty')."""

    def make(kind: str = 'truth', **changes: Any) -> dict[str, Any]:
        return {**KINDS[kind](), **changes}

    return make


@pytest.fixture(scope='session')
def make_rows() -> Callable[..., dict[str, Any]]:
    return build_rows


@pytest.fixture(scope='session')
def make_frame() -> Callable[..., EvaluatedFrame]:
    return build_frame


@pytest.fixture(scope='session')
def make_sheets() -> Callable[..., list[Sheet]]:
    return build_sheets


@pytest.fixture(scope='session')
def parse() -> Callable[[Path], Document]:
    return lambda path: Document(path.read_text(encoding='utf-8'))


def page_material(kind: str) -> tuple[dict[str, Any], list[Sheet], list[Sheet]]:
    """Return the rows, the samples and the worst frames of a kind."""
    if kind == 'empty':
        return build_rows(0), [], []
    rows = build_rows(truth=kind in ('truth', 'merged'), live=kind == 'replay')
    drive = 'drive_0001' if kind == 'merged' else ''
    return rows, build_sheets(rows, (4, 20, 40, 60), drive), build_sheets(rows, (30, 31), drive)


@pytest.fixture
def make_page(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the page of a changed summary, without frames, and its path."""

    def make(kind: str = 'truth', **changes: Any) -> Path:
        write_page(tmp_path / 'report.html', {**KINDS[kind](), **changes}, {}, [], [])
        return tmp_path / 'report.html'

    return make


@pytest.fixture(scope='session')
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that returns the unchanged page of a kind, written once."""
    folder = tmp_path_factory.mktemp('pages')

    def page(kind: str) -> Path:
        path = folder / f'{kind}.html'
        if not path.exists():
            write_page(path, KINDS[kind](), *page_material(kind))
        return path

    return page
