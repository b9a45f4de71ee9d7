"""``python -m training check_night``: a released model on night frames, with and without labels."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nightseg_ros.core.backends import AUTO
from nightseg_ros.core.overlay import overlay
from nightseg_ros.core.segmenter import Segmenter
from training.data.frames import list_images
from training.data.frames import read_rgb
from training.data.labelled_set import LabelledFrames
from training.evaluation.measure import measure
from training.evaluation.night_checks import confidence_by_exposure
from training.evaluation.night_checks import exposure_consistency
from training.evaluation.night_checks import layout
from training.evaluation.night_checks import relit_agreement

DAY_SETS = ('campus_day', 'roadscene_day')
NIGHT_SETS = ('campus_night', 'roadscene_night')

CHECKS = 'checks.json'

_SHEET_FRAMES, _SHEET_WIDTH = 12, 320


def check_night(
    model: Path | None = None,
    data_root: Path = Path('../shared/data'),
    output: Path = Path('build/night_checks'),
    frames: int = 40,
    backend: str = AUTO,
) -> None:
    """Measure a released model at night: labelled frames, and what needs no labels.

    Writes checks.json and, for each set of night frames, a sheet of overlays to look at: no number
    tells everything.

    Args:
        model: an exported ONNX file; null: the released one.
        data_root: folder of the data sets.
        output: folder of checks.json and the sheets.
        frames: so many, evenly spaced, of each set without labels.
        backend: that runs it.
    """
    segmenter = Segmenter.load(model, backend)
    output.mkdir(parents=True, exist_ok=True)
    results: dict[str, float] = dict(measure(segmenter, data_root))
    for name in DAY_SETS:
        day = LabelledFrames(data_root / name, cache=False)
        chosen = _spread(len(day), frames)
        samples = (day[i] for i in track(chosen, f'{name}, relit'))
        _add(results, f'relit/{name}', asdict(relit_agreement(segmenter, samples)))
    for name in NIGHT_SETS:
        paths = list_images(data_root / name / 'images')
        images = [read_rgb(paths[i]) for i in _spread(len(paths), frames)]
        results[f'exposure_consistency/{name}'] = exposure_consistency(
            segmenter, track(images, f'{name}, exposed')
        )
        masks = [segmenter.segment_rgb(image).labels for image in images]
        _add(results, f'layout/{name}', asdict(layout(masks)))
        _add(results, f'confidence/{name}', asdict(confidence_by_exposure(segmenter, images)))
        write_sheet(images, masks, output / f'{name}.jpg')
    plain = {name: None if math.isnan(v) else round(v, 4) for name, v in results.items()}
    (output / CHECKS).write_text(json.dumps(plain, indent=1) + '\n', encoding='utf-8')
    table = Table('check', 'value', title=f'{segmenter.backend.model.name}, {output}')
    for name, value in plain.items():
        table.add_row(name, '-' if value is None else f'{value:.4f}')
    Console().print(table)
    segmenter.close()


def _spread(count: int, wanted: int) -> list[int]:
    """Return evenly spaced indices."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, wanted))})


def _add(results: dict[str, float], prefix: str, values: dict[str, float]) -> None:
    results.update({f'{prefix}/{name}': value for name, value in values.items()})


def write_sheet(images: list[np.ndarray], masks: list[np.ndarray], path: Path) -> None:
    """Write frames and overlays side by side, two frames to a row."""
    tiles = []
    for i in _spread(len(images), _SHEET_FRAMES):
        pair = np.hstack([images[i], overlay(images[i], masks[i], 0.55)])
        height = round(pair.shape[0] * 2 * _SHEET_WIDTH / pair.shape[1])
        tiles.append(cv2.resize(pair, (2 * _SHEET_WIDTH, height), interpolation=cv2.INTER_AREA))
    height = max(tile.shape[0] for tile in tiles)
    tiles = [
        cv2.copyMakeBorder(tile, 0, height - tile.shape[0], 0, 0, cv2.BORDER_CONSTANT)
        for tile in tiles
    ]
    if len(tiles) % 2:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[i : i + 2]) for i in range(0, len(tiles), 2)]
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
