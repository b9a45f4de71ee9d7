"""Command line of the offline part: ``python -m training --help``."""

from __future__ import annotations

import sys

from jsonargparse import auto_cli

from training.checkpoint import CheckpointError
from training.data.frames import DataError
from training.evaluate import evaluate
from training.export import ExportError
from training.export import export
from training.fit import fit
from training.methods.method import TrainingError
from training.prepare import prepare
from training.submission import pack
from training.submission import verify

COMMANDS = {
    'prepare': prepare,
    'fit': fit,
    'evaluate': evaluate,
    'export': export,
    'pack': pack,
    'verify': verify,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one of the subcommands; exit code 2 on bad input."""
    try:
        auto_cli(COMMANDS, args=arguments, as_positional=False)
    except (CheckpointError, DataError, ExportError, TrainingError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
