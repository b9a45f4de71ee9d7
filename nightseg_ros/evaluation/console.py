"""What the commands show in a terminal: how far they are, and what came out."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn
from rich.progress import MofNCompleteColumn
from rich.progress import Progress as ProgressBar
from rich.progress import TaskID
from rich.progress import TextColumn
from rich.progress import TimeRemainingColumn
from rich.table import Table

from nightseg_ros.evaluation.bag_job import Progress
from nightseg_ros.evaluation.drive import ROWS
from nightseg_ros.evaluation.drive import VIDEO
from nightseg_ros.evaluation.drive_files import NUMBERS
from nightseg_ros.evaluation.drive_files import PAGE
from nightseg_ros.evaluation.request import DriveRequest
from nightseg_ros.evaluation.summary import ALL_METRICS


def drives_bar(console: Console) -> ProgressBar:
    """Return a bar that counts, to be used as a context manager."""
    return ProgressBar(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


@contextmanager
def frames_bar(console: Console) -> Iterator[Progress]:
    """Show a bar for each drive; yields what moves them."""
    with drives_bar(console) as bar:
        tasks: dict[DriveRequest, TaskID] = {}

        def progress(drive: DriveRequest, expected: int, done: int) -> None:
            if drive not in tasks:
                tasks[drive] = bar.add_task(drive.name, total=expected)
            bar.update(tasks[drive], total=expected, completed=done)

        yield progress


def print_report(console: Console, report: Mapping[str, Any], out: Path) -> None:
    """Print the numbers of a report, what is wrong with it, and where its files are."""
    metrics, intervals = report['metrics'], report['intervals']
    table = Table(show_header=False)
    table.add_row('frames', f'{report["frames"]}, of which {report["received"]} with masks')
    for name in ALL_METRICS:
        value = metrics[name]
        if value is None:
            continue
        text = f'{value:.4g}'
        if name in intervals:
            low, high = intervals[name]
            text += f'  [{low:.4g}, {high:.4g}]'
        table.add_row(name, text)
    table.add_row('model', f'{report["model"]}, {report["backend"]}')
    console.print(table)
    for text in (*report['warnings'], *report['problems']):
        console.print(f'[yellow]{text}')
    for name in (PAGE, NUMBERS, ROWS, VIDEO):
        if (out / name).is_file():
            print(out / name)
