"""Which files a bag is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from pathlib import PurePath
from typing import BinaryIO

import yaml
import zstandard

METADATA = 'metadata.yaml'
_ROOT = 'rosbag2_bagfile_information'

ROSBAG2_SUFFIXES = ('.mcap', '.db3')
COMPRESSED_SUFFIXES = ('.zstd', '.zst')
SUFFIXES = (*ROSBAG2_SUFFIXES, '.bag')

ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class BagFiles:
    """The files of a bag.

    Attributes:
        paths: in order of recording; all exist.
        ros_distro: that recorded, None when unknown.
        problems: what is missing, as sentences.
    """

    paths: list[Path]
    ros_distro: str | None = None
    problems: tuple[str, ...] = ()


def bag_files(path: Path) -> BagFiles:
    """Return the files of a bag: itself, those that metadata.yaml lists, or those in its folder.

    Args:
        path: a file or a folder that exists.
    """
    if path.is_file():
        return BagFiles([path])
    found = folder_files(path)
    try:
        names, ros_distro = _read_metadata(path / METADATA)
    except (OSError, ValueError, yaml.YAMLError) as error:
        listed = ', '.join(file.name for file in found) or 'none'
        reason = error.strerror if isinstance(error, OSError) else str(error).partition('\n')[0]
        return BagFiles(found, None, (f'{METADATA}: {reason}; files read instead: {listed}',))
    paths = [path / name for name in names]
    missing = [file.name for file in paths if not file.is_file()]
    if len(missing) == len(paths):  # renamed by hand
        return BagFiles(found, ros_distro)
    return BagFiles(
        [file for file in paths if file.is_file()],
        ros_distro,
        tuple(f'{name} is missing: its messages are lost' for name in missing),
    )


def folder_files(folder: Path) -> list[Path]:
    """Return the rosbag2 files right in a folder in their natural order: 2 before 10."""
    files = [file for file in folder.iterdir() if is_bag_file(file, ROSBAG2_SUFFIXES)]
    return sorted(files, key=lambda file: natural_key(file.name))


def is_bag_folder(folder: Path) -> bool:
    """Return whether a folder is one bag: by its metadata, or its files being named after it."""
    metadata = folder / METADATA
    try:
        if _ROOT.encode() in metadata.read_bytes():
            return True
    except OSError:
        pass  # its files may tell
    files = folder_files(folder)
    name = re.escape(folder.resolve().name)
    return bool(files) and all(re.fullmatch(rf'{name}(_\d+)?\..*', f.name) for f in files)


def is_bag_file(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Return whether a path is a file that is named like one of a bag."""
    name = path.with_suffix('') if path.suffix in COMPRESSED_SUFFIXES else path
    return name.suffix in suffixes and path.is_file()


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return what names are sorted by, so that numbers in them count as numbers."""
    parts = re.split(r'(\d+)', name)
    return [(int(part), '') if part.isdecimal() else (0, part) for part in parts]


def _read_metadata(path: Path) -> tuple[list[str], str | None]:
    """Return the names of the files and the distribution.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not hold what it should.
        yaml.YAMLError: it is no YAML.
    """
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    try:
        information = content[_ROOT]
        # Galactic and older wrote paths that begin with the name of the folder.
        names = [PurePath(name).name for name in information['relative_file_paths']]
        ros_distro = information.get('ros_distro')
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError('does not list the files of the bag') from error
    if not names:
        raise ValueError('lists no files')
    return names, ros_distro if isinstance(ros_distro, str) else None


def decompress(source: BinaryIO, target: BinaryIO) -> bool:
    """Decompress zstd frames as far as that goes; return whether the last one was complete.

    Raises:
        zstandard.ZstdError: what follows is no zstd.
    """
    frame = zstandard.ZstdDecompressor().decompressobj()
    while block := source.read(_BLOCK_BYTES):
        while block:
            target.write(frame.decompress(block))
            block = frame.unused_data
            if frame.eof and block:
                frame = zstandard.ZstdDecompressor().decompressobj()
    return frame.eof
