"""Command line of the offline part: ``python -m training --help``."""

from __future__ import annotations

import sys

from jsonargparse import auto_cli

from training.data.frames import DataError
from training.fit import fit


def main() -> int:
    """Run one of the subcommands; exit code 2 on bad input."""
    try:
        auto_cli({'fit': fit}, as_positional=False)
    except DataError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
