"""Command line of the offline part: ``python -m training --help``."""

from __future__ import annotations

import sys
from typing import Any

import lightning
from jsonargparse import ArgumentParser
from jsonargparse import get_loader
from jsonargparse import set_loader

from models.configured import ConfigError
from models.resnet import WeightsError
from nightseg_ros.core.model import ModelError
from training.ablation import ablation
from training.average import average
from training.calibrate import calibrate
from training.card import card
from training.check_night import check_night
from training.checkpoint import CheckpointError
from training.data.frames import DataError
from training.evaluation.evaluate import evaluate
from training.evaluation.predict import predict
from training.evaluation.submission import pack
from training.evaluation.submission import verify
from training.export import ExportError
from training.export import export
from training.fit import fit
from training.methods.method import TrainingError
from training.prepare import prepare
from training.pseudo_label import pseudo_label
from training.quantization.graph import QuantizationError
from training.quantize import quantize
from training.recalibrate import recalibrate
from training.recipes import recipes

COMMANDS = {
    'prepare': prepare,
    'fit': fit,
    'evaluate': evaluate,
    'check_night': check_night,
    'predict': predict,
    'pack': pack,
    'verify': verify,
    'recalibrate': recalibrate,
    'pseudo_label': pseudo_label,
    'average': average,
    'calibrate': calibrate,
    'export': export,
    'card': card,
    'quantize': quantize,
    'ablation': ablation,
    'recipes': recipes,
}

POSITIONAL = (
    'prepare',
    'recalibrate',
    'pseudo_label',
    'average',
    'calibrate',
    'pack',
    'verify',
)
"""Subcommands whose required arguments are given by place."""

ERRORS = (
    CheckpointError,
    ConfigError,
    DataError,
    ExportError,
    ModelError,
    QuantizationError,
    TrainingError,
    WeightsError,
)
"""What bad input raises, with a message that says what to do."""

_load_yaml = get_loader('yaml')


def _load(text: str) -> Any:
    """Return YAML, with null for ``None``: so a null inside nested options reaches its parser."""
    return None if text.strip() == 'None' else _load_yaml(text)


set_loader('yaml', _load)


def make_parser() -> ArgumentParser:
    """Return the parser of all subcommands; every one reads ``--config`` files, too."""
    parser = ArgumentParser(prog='python -m training', description=__doc__)
    subcommands = parser.add_subcommands(dest='command')
    for name, function in COMMANDS.items():
        summary = function.__doc__.splitlines()[0]
        command = ArgumentParser(description=summary)
        command.add_argument('--config', action='config', help='a YAML file of these options')
        command.add_function_arguments(function, as_positional=name in POSITIONAL)
        subcommands.add_subcommand(name, command, help=summary)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one of the subcommands; exit code 2 on bad input."""
    parser = make_parser()
    config = parser.parse_args(arguments)
    try:
        if config.command == 'fit':
            # Here too: the weights of the networks are drawn when they are made.
            lightning.seed_everything(config.fit.seed, workers=True, verbose=False)
        chosen = parser.instantiate(config)
        options = dict(chosen[chosen.command])
        options.pop('config')
        COMMANDS[chosen.command](**options)
    except ERRORS as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
