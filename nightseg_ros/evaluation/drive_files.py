"""Where a report lies: the files of a drive, what merging needs of it, and when it is complete."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nightseg_ros.evaluation.counts import Counts
from nightseg_ros.evaluation.drive import ROWS
from nightseg_ros.evaluation.drive import VIDEO
from nightseg_ros.evaluation.drive import DriveFacts
from nightseg_ros.evaluation.drive import DriveResult
from nightseg_ros.evaluation.drive import Observations
from nightseg_ros.evaluation.report.sheets import Sheet
from nightseg_ros.evaluation.rows import COLUMNS
from nightseg_ros.evaluation.rows import cells
from nightseg_ros.evaluation.rows import read_rows

PAGE, NUMBERS = 'report.html', 'report.json'
STATE = 'state'
"""Folder of what merging needs."""

FILES = (STATE, VIDEO, ROWS, PAGE, NUMBERS)
"""Of a report; the numbers come last: where they are, everything else is."""

_FACTS, _SUMS = 'drive.json', 'counts.npz'


def write_rows(results: Iterable[DriveResult], path: Path) -> None:
    """Write the rows of several drives into one CSV, the drive's name before each."""
    with path.open('w', encoding='utf-8', newline='') as stream:
        writer = csv.writer(stream, lineterminator='\n')
        writer.writerow(['drive', *COLUMNS])
        for result in results:
            for i, stamp in enumerate(result.stamps_ns):
                row = {name: float(result.columns[name][i]) for name in COLUMNS}
                writer.writerow([result.facts.name, *cells(row, int(stamp))])


def save_result(result: DriveResult, folder: Path) -> None:
    """Write what merging needs into ``folder/state``; the rows are there already.

    Raises:
        OSError: the disk is full.
    """
    state = folder / STATE
    state.mkdir(exist_ok=True)
    arrays = {f.name: getattr(result.counts, f.name) for f in dataclasses.fields(Counts)}
    np.savez_compressed(state / _SUMS, sums=result.sums, **arrays)
    content = {
        'facts': dataclasses.asdict(result.facts),
        'seen': dataclasses.asdict(result.seen),
        'samples': [sheet.to_json() for sheet in result.samples],
        'worst': [sheet.to_json() for sheet in result.worst],
    }
    (state / _FACTS).write_text(json.dumps(content), encoding='utf-8')


def load_result(folder: Path) -> DriveResult:
    """Return the result that lies in a folder.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    try:
        content = json.loads((folder / STATE / _FACTS).read_text(encoding='utf-8'))
        with np.load(folder / STATE / _SUMS, allow_pickle=False) as arrays:
            counts = Counts(**{f.name: arrays[f.name] for f in dataclasses.fields(Counts)})
            sums = arrays['sums']
        stamps, columns = read_rows(folder / ROWS)
        return DriveResult(
            DriveFacts(**content['facts']),
            Observations(**content['seen']),
            counts,
            sums,
            stamps,
            columns,
            [Sheet.from_json(sheet) for sheet in content['samples']],
            [Sheet.from_json(sheet) for sheet in content['worst']],
        )
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f'{folder} holds no result of an evaluation: {error}') from error


def publish(staging: Path, output: Path) -> None:
    """Move a report to where it belongs.

    What a former one left goes: a video of its would pass for one of this.
    """
    for name in FILES:
        source, target = staging / name, output / name
        if target.is_dir():
            shutil.rmtree(target)
        if source.exists():
            os.replace(source, target)
        else:
            target.unlink(missing_ok=True)
