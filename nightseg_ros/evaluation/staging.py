"""Folders for what is not complete yet, which go away however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nightseg_ros.evaluation.bags import BagError


@contextmanager
def staging_folder(output: Path, prefix: str) -> Iterator[Path]:
    """Make a folder inside the output; it goes away with whatever is left in it.

    What killed processes left behind goes first: their locks died with them.

    Args:
        output: made if missing.
        prefix: of the folder's name; begins with a dot.

    Raises:
        BagError: the output cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        for left in output.glob(f'{prefix}*'):
            _remove_if_abandoned(left)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=output))
    except OSError as error:
        raise BagError(
            f'{output} cannot be written ({error.strerror}): choose another --out'
        ) from error
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_if_abandoned(folder: Path) -> None:
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass  # somebody is at work in it
    finally:
        os.close(lock)
