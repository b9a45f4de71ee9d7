"""Procedural streets by day and night on disk: a domain gap with exact labels for everybody."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
from rich.progress import track

from nightseg_ros.simulation.night_drive import DriveFrame
from nightseg_ros.simulation.night_drive import NightDrive


class Part(NamedTuple):
    """Part of the scenes: streets that no other part has, and frames of each."""

    streets: range
    frames: int


SOURCE = Part(range(0, 16), 10)
TARGET = Part(range(100, 116), 10)
MEASURED = Part(range(200, 210), 5)

SPACING = 31
"""Frames between two that are kept, at 10 Hz: another stretch of the street each time."""

SHIFT = 4
"""Frames by which the shifted day is away from its night: 0.4 s, about 3 m, other traffic."""


def render(root: Path, height: int = 128, width: int = 256) -> Path:
    """Render what is missing under a root and return it.

    ``source``: labelled days. ``target_day``, ``target_day_shifted``, ``target_night``: pairs,
    aligned to the pixel or shifted along the street. ``measured_day``, ``measured_night``: labels
    for measuring. No street is in two of them.
    """
    jobs = [
        (part, street, index)
        for part in (SOURCE, TARGET, MEASURED)
        for street in part.streets
        for index in range(part.frames)
    ]
    drives: dict[int, NightDrive] = {}
    for part, street, index in track(jobs, 'rendering streets'):
        name = f'street_{street:03d}_{index:02d}.png'
        folders = _folders(part)
        if all((root / folder / 'images' / name).is_file() for folder in folders):
            continue
        drive = drives.setdefault(street, NightDrive(width, height, seed=street))
        frame = drive.frame(index * SPACING)
        for folder in folders:
            _write(root / folder, name, frame, drive, index * SPACING)
    return root


def _folders(part: Part) -> tuple[str, ...]:
    if part is SOURCE:
        return ('source',)
    if part is TARGET:
        return ('target_night', 'target_day', 'target_day_shifted')
    return ('measured_day', 'measured_night')


def _write(folder: Path, name: str, frame: DriveFrame, drive: NightDrive, index: int) -> None:
    if folder.name.endswith('night'):
        image = frame.night
    elif folder.name.endswith('shifted'):
        image = drive.frame(index + SHIFT).day
    else:
        image = frame.day
    if not folder.name.startswith('target'):
        (folder / 'labels').mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / 'labels' / name), frame.labels)
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / 'images' / name), image[..., ::-1])
