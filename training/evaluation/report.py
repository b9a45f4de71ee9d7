"""What an evaluation writes and prints: results.json, per_class.csv, report.md and a table."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from nightseg_ros.core.exposure_f1 import BIN_NAMES
from nightseg_ros.core.exposure_f1 import ExposureF1Result
from nightseg_ros.core.labels import CLASSES
from nightseg_ros.core.labels import NAMES
from training.data.labelled_set import LabelledSet
from training.evaluation.pictures import draw_ef1
from training.evaluation.published import DATASETS
from training.evaluation.published import PublishedResult
from training.evaluation.published import PublishedSet
from training.evaluation.published import published
from training.evaluation.scores import Evaluation
from training.evaluation.scores import ranked
from training.evaluation.uncertainty_iou import UncertaintyIoUResult

_WORDS = ('class', 'method', 'V', 'trained on', 'source')
"""Columns of the report that hold words, not numbers."""
_COMPARED = 4
"""Published methods that the tables of classes and of EF1 show."""


@dataclass(frozen=True)
class About:
    """What was evaluated on what, for the report.

    Attributes:
        checkpoint: file name.
        method: name of its class.
        dataset: `describe` of the data set.
        published_as: key of the published results beside ours, or None.
    """

    checkpoint: str
    method: str
    dataset: str
    published_as: PublishedSet | None = None

    @property
    def published(self) -> tuple[PublishedResult, ...]:
        """Published results beside ours, best first."""
        return () if self.published_as is None else published(self.published_as)


def describe(dataset: LabelledSet) -> str:
    """Return class, version and split of a data set, its folder's name, and its frames."""
    traits = [getattr(dataset, trait, None) for trait in ('version', 'split')]
    name = ' '.join([type(dataset).__name__, *(t for t in traits if isinstance(t, str))])
    return f'{name} ({dataset.root.name}, {len(dataset)} frames)'


def write_results(evaluation: Evaluation, about: About, output: Path) -> None:
    """Write results.json, per_class.csv, report.md and ef1.png into a folder."""
    output.mkdir(parents=True, exist_ok=True)
    draw_ef1(evaluation.exposure, about.published, output / 'ef1.png')
    write_per_class(evaluation, output / 'per_class.csv')
    (output / 'report.md').write_text(report(evaluation, about), encoding='utf-8')
    numbers = json.dumps(results(evaluation, about), indent=2, allow_nan=False)
    (output / 'results.json').write_text(f'{numbers}\n', encoding='utf-8')


def results(evaluation: Evaluation, about: About) -> dict[str, Any]:
    """Return everything measured, as JSON can hold it: shares 0..1, None where undefined."""
    e = evaluation
    exposure = {
        'bins': BIN_NAMES,
        'mean_ef1': e.exposure.mean_micro,
        'mean_ef1_macro': e.exposure.mean_macro,
        'mean_ef1_weighted': e.exposure.mean_weighted,
        'ef1': e.exposure.micro,
        'ef1_macro': e.exposure.macro,
        'ef1_weighted': e.exposure.weighted,
        'pixels': e.exposure.support,
        'bins_without_pixels': [BIN_NAMES[g] for g in e.exposure.empty_bins],
    }
    uncertainty = e.uncertainty and {
        'average_uiou': e.uncertainty.average,
        'best_threshold': e.uncertainty.best[0],
        'best_uiou': e.uncertainty.best[1],
        'thresholds': e.uncertainty.thresholds,
        'uiou': e.uncertainty.mean_uiou,
        'invalid_share': e.uncertainty.invalid_share,
    }
    return _plain(
        {
            'miou': e.mean_iou,
            'class_iou': dict(zip(NAMES, e.class_iou, strict=True)),
            'class_pixels': dict(zip(NAMES, e.support, strict=True)),
            'exposure': exposure,
            'uncertainty': uncertainty,
            'method': about.method,
            'checkpoint': about.checkpoint,
            'dataset': about.dataset,
            'protocol': {**asdict(e.protocol), 'compared_at': e.sizes},
            'published_as': about.published_as,
            'published': [asdict(row) for row in about.published],
            'confusion': e.confusion,
            'frames': [asdict(frame) for frame in e.frames],
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def write_per_class(evaluation: Evaluation, path: Path) -> None:
    """Write one row per class: train_id, name, iou (0..1, empty where absent), pixels."""
    rows = zip(CLASSES, evaluation.class_iou, evaluation.support, strict=True)
    with path.open('w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(('train_id', 'name', 'iou', 'pixels'))
        for c, iou, pixels in rows:
            writer.writerow((c.train_id, c.name, '' if np.isnan(iou) else f'{iou:.6f}', pixels))


def report(evaluation: Evaluation, about: About) -> str:
    """Return the report as Markdown."""
    e = evaluation
    absent = [name for name, pixels in zip(NAMES, e.support, strict=True) if not pixels]
    parts = [
        f'# {about.method} on {about.dataset}',
        f'**mIoU {_percent(e.mean_iou)}**, mEF1 {_share(e.exposure.mean_micro)}'
        + (f', average UIoU {_percent(e.uncertainty.average)}' if e.uncertainty else ''),
        f'- checkpoint: {about.checkpoint}\n- data set: {about.dataset}\n'
        f'- protocol: {e.protocol}\n- labels compared at: {", ".join(e.sizes)}\n'
        '- mIoU: one confusion matrix over the data set, mean over the classes of its truth'
        + (f'; without {", ".join(absent)}' if absent else ''),
        '## Classes',
        _class_table(e, about.published),
    ]
    if about.published_as is not None:
        parts += ['## Published results', _published_table(e, about)]
    parts += [
        '## Exposure-aware F1',
        'EF1 (NightCity, equation 2) per exposure V = max(R, G, B)/255 of the pixel. The micro '
        'average is what the paper reports.',
        _exposure_table(e.exposure, about.published),
        '![EF1 per exposure bin](ef1.png)',
    ]
    if e.uncertainty is not None:
        parts += ['## Uncertainty-aware IoU', _uncertainty_text(e.uncertainty)]
    parts += [
        '## Frames',
        'Worst by their own mIoU: '
        + ', '.join(f'{frame.name} ({_percent(frame.miou)})' for frame in ranked(e.frames)[:5])
        + '. Pictures of worst, median and best frames are in sheets/.',
    ]
    return '\n\n'.join(parts) + '\n'


def _class_table(evaluation: Evaluation, rows: Sequence[PublishedResult]) -> str:
    others = [row for row in rows if row.class_iou][:_COMPARED]
    total = max(int(evaluation.support.sum()), 1)
    lines = [
        [
            name,
            _percent(evaluation.class_iou[c]),
            f'{evaluation.support[c]:,}',
            f'{evaluation.support[c] / total:.2%}',
            *(f'{row.class_iou[c]:.1f}' for row in others),
        ]
        for c, name in enumerate(NAMES)
    ]
    mean = ['**mean**', f'**{_percent(evaluation.mean_iou)}**', f'{total:,}', '']
    lines.append([*mean, *(str(row.miou) for row in others)])
    return _markdown(['class', 'IoU', 'pixels', 'share', *(row.method for row in others)], lines)


def _published_table(evaluation: Evaluation, about: About) -> str:
    version = DATASETS[about.published_as]
    note = (
        f'All on {version}: no other version or split compares. Make sure that this is what was '
        'evaluated.'
    )
    if not about.published:
        return f'{note} None are known for it.'
    mine = [f'**{_percent(evaluation.mean_iou)}**', _share(evaluation.exposure.mean_micro)]
    lines = [['**this checkpoint**', *mine, '', '']] + [
        [
            row.method,
            str(row.miou),
            '–' if row.mean_ef1 is None else f'{row.mean_ef1:.2f}',
            row.trained_on,
            row.source,
        ]
        for row in about.published
    ]
    table = _markdown(['method', 'mIoU', 'mEF1', 'trained on', 'source'], lines)
    return f'{note}\n\n{table}'


def _exposure_table(exposure: ExposureF1Result, rows: Sequence[PublishedResult]) -> str:
    others = [row for row in rows if row.ef1][:_COMPARED]
    total = max(int(exposure.support.sum()), 1)
    lines = [
        [
            name,
            _share(exposure.micro[g]),
            _share(exposure.macro[g]),
            _share(exposure.weighted[g]),
            f'{exposure.support[g] / total:.1%}',
            *(f'{row.ef1[g]:.4f}' for row in others),
        ]
        for g, name in enumerate(BIN_NAMES)
    ]
    means = (exposure.mean_micro, exposure.mean_macro, exposure.mean_weighted)
    lines.append(
        ['**mEF1**', *(f'**{_share(m)}**' for m in means), '', *(f'{r.mean_ef1:g}' for r in others)]
    )
    header = ['V', 'EF1 (micro)', 'macro', 'weighted', 'pixels', *(row.method for row in others)]
    table = _markdown(header, lines)
    if exposure.empty_bins:
        empty = ', '.join(BIN_NAMES[g] for g in exposure.empty_bins)
        table += f'\n\nWithout a labelled pixel, and in no mean: {empty}.'
    return table


def _uncertainty_text(uncertainty: UncertaintyIoUResult) -> str:
    theta, best = uncertainty.best
    text = (
        f'{uncertainty.invalid_share:.1%} of the labelled pixels are marked invalid (not to be '
        f'told from the night image alone). Average over thresholds '
        f'{uncertainty.thresholds[0]:.3f}..{uncertainty.thresholds[-1]:g}: '
        f'{_percent(uncertainty.average)}; best {_percent(best)} at {theta:.3f} '
        '(for `invalid_below`).'
    )
    lines = [
        [f'{threshold:.3f}', _percent(value)]
        for threshold, value in zip(uncertainty.thresholds, uncertainty.mean_uiou, strict=True)
    ]
    return f'{text}\n\n{_markdown(["threshold", "mean UIoU"], lines)}'


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ['--:' if name not in _WORDS else '---' for name in header]
    return '\n'.join(f'| {" | ".join(line)} |' for line in [header, rule, *lines])


def _percent(value: float) -> str:
    return '–' if math.isnan(value) else f'{100 * value:.2f}'


def _share(value: float) -> str:
    return '–' if math.isnan(value) else f'{value:.4f}'


def print_summary(evaluation: Evaluation, about: About, output: Path) -> None:
    """Print the scores as a table, and where everything was written."""
    table = Table('class', title=f'{about.method} on {about.dataset}')
    for column in ('IoU [%]', 'pixels'):
        table.add_column(column, justify='right')
    for c, name in enumerate(NAMES):
        table.add_row(name, _percent(evaluation.class_iou[c]), f'{evaluation.support[c]:,}')
    table.add_section()
    table.add_row('mean', _percent(evaluation.mean_iou), f'{evaluation.support.sum():,}')
    table.add_row('mEF1', _percent(evaluation.exposure.mean_micro), '')
    if evaluation.uncertainty is not None:
        table.add_row('average UIoU', _percent(evaluation.uncertainty.average), '')
    for row in about.published[:_COMPARED]:
        name = f'{row.method}, trained on {row.trained_on}'
        table.add_row(f'[dim]{name}[/dim]', f'[dim]{row.miou}[/dim]', '[dim]published[/dim]')
    console = Console()
    console.print(table)
    console.print(f'report: {output / "report.md"}', soft_wrap=True)
    console.print(
        f'also results.json, per_class.csv, ef1.png and sheets/ in {output}', soft_wrap=True
    )
