"""Checkpoints that say what they are: read safely, built again, checked strictly."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import torch
from torch import Tensor
from torch import nn

from models.configured import ConfigError
from models.configured import build

if TYPE_CHECKING:
    from training.methods.method import Method

CONFIG = 'method'
"""Where a checkpoint keeps how its method was made (:attr:`Configured.config`)."""

AVERAGED = 'averaged'
"""Where a checkpoint keeps of which files its weights are the mean, where they are."""

TEMPERATURE = 'temperature'
"""Where a checkpoint keeps the temperature of its confidence."""

MORE_SIZES = 'more_sizes'
"""Where a checkpoint keeps in which further sizes its network is to look at a frame."""

STAGES = 'training'
"""Where a checkpoint, and a released file, keep the options of the trainings that led to it."""

SHOWN = 6
"""Differing keys that a message names."""


class CheckpointError(ValueError):
    """A file is no checkpoint, or one of another network; the message names the difference."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint of ``python -m training fit``, or a released ONNX file as one.

    Raises:
        CheckpointError: when it does not exist, does not decode, or is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'{path} does not exist: train first (python -m training fit)')
    if path.suffix == '.onnx':
        from training.release_weights import as_checkpoint

        return as_checkpoint(path)
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f'{path} is not a checkpoint that can be read safely: is it complete, and from '
            f'python -m training fit? ({type(error).__name__})'
        ) from error
    if not isinstance(checkpoint, dict) or not {CONFIG, 'state_dict'} <= set(checkpoint):
        raise CheckpointError(
            f'{path} does not say which method made it: it is not from python -m training fit, '
            'or from a version before 0.1.0'
        )
    return checkpoint


def load_method(path: Path) -> Method:
    """Return the method of a checkpoint with its weights, in eval mode on the CPU.

    Networks are built without fetching the weights that they once started from.

    Raises:
        CheckpointError: as :func:`read_checkpoint`, and when its weights do not fit the code.
    """
    return method_of(read_checkpoint(path), path)


def method_of(checkpoint: Mapping[str, Any], path: Path) -> Method:
    """Return the method of a checkpoint that was read from ``path``, as :func:`load_method`."""
    try:
        method = build(without_downloads(checkpoint[CONFIG]))
    except (ConfigError, ValueError) as error:
        raise CheckpointError(f'{path}: {error}') from error
    load_strictly(method, checkpoint['state_dict'], path)
    return method.eval()


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load weights into a module that must have exactly these.

    Raises:
        CheckpointError: naming the keys that differ.
    """
    own = module.state_dict()
    problems = [
        *(f'{name} is missing' for name in own if name not in state),
        *(f'{name} is unknown' for name in state if name not in own),
        *(
            f'{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}'
            for name in own
            if name in state and state[name].shape != own[name].shape
        ),
    ]
    if problems:
        more = f' and {len(problems) - SHOWN} more' if len(problems) > SHOWN else ''
        raise CheckpointError(
            f'{path} holds another architecture: {"; ".join(problems[:SHOWN])}{more}. '
            'Use the configuration it was trained with (it is stored inside), or train anew '
            'into another --output.'
        )
    module.load_state_dict(state)


def load_generator(module: nn.Module, path: Path) -> None:
    """Load the segmentation network of a checkpoint into another method's generator.

    This is how adaptation starts from a network that was trained on the source before. A
    relighting network is loaded with it where both have one.

    Raises:
        CheckpointError: naming the keys that differ.
    """
    state = read_checkpoint(path)['state_dict']
    for part in ('net', 'relighting'):
        prefix = f'generator.{part}.'
        weights = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        target = getattr(module, part)
        if target is not None and (weights or part == 'net'):
            load_strictly(target, weights, path)


def without_downloads(config: Any) -> Any:
    """Return a configuration whose networks start empty: the checkpoint fills them."""
    if isinstance(config, dict):
        return {
            key: None if key == 'weights' else without_downloads(value)
            for key, value in config.items()
        }
    if isinstance(config, list):
        return [without_downloads(item) for item in config]
    return config
