"""Where this package's files are: installed by pip or colcon, or in a checkout."""

from __future__ import annotations

from pathlib import Path

# Folder of the package's share/ -> folder of a checkout.
FOLDERS = {'models': 'models/released', 'config': 'config'}


def find_resource(kind: str, name: str) -> Path | None:
    """Return the path of a file that came with the package, None where there is none.

    Looks upwards from this package for a checkout (also behind an editable or symlinked install)
    and for ``share/nightseg_ros``.

    Args:
        kind: a key of :data:`FOLDERS`.
        name: the file's name.
    """
    here = Path(__file__)
    # A symlinked install is reached both by its own path and by where its links lead.
    for start in (here.absolute(), here.resolve()):
        for parent in start.parents:
            for folder in (FOLDERS[kind], f'share/nightseg_ros/{kind}'):
                candidate = parent / folder / name
                if candidate.is_file():
                    return candidate
    return None
