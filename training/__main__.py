"""Command line of the offline part: ``python -m training --help``."""

from __future__ import annotations

import sys

from jsonargparse import auto_cli

from training.data.frames import DataError
from training.export import ExportError
from training.export import export
from training.fit import fit


def main() -> int:
    """Run one of the subcommands; exit code 2 on bad input."""
    try:
        auto_cli({'fit': fit, 'export': export}, as_positional=False)
    except (DataError, ExportError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
