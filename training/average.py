"""``python -m training average``: one network whose weights are the mean of several.

What a network learns last, it pays for elsewhere. Where one training went on from another, the
mean of the weights before and after keeps most of both (WiSE-FT: Wortsman et al., CVPR 2022; model
soups: Wortsman et al., ICML 2022), and takes no more time on the vehicle.
"""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from training.checkpoint import AVERAGED
from training.checkpoint import CheckpointError
from training.checkpoint import load_method
from training.checkpoint import load_strictly
from training.checkpoint import read_checkpoint


def average(checkpoints: list[Path], output: Path | None = None) -> None:
    """Average the weights of trainings that went on from one another.

    Networks that were trained apart from each other have nothing in common that a mean would keep:
    measure the result (``python -m training export`` does).

    Args:
        checkpoints: files that ``python -m training fit`` wrote, of one architecture, the last
            training's last.
        output: the new checkpoint; null: ``averaged.ckpt`` beside the last one.

    Raises:
        CheckpointError: when there are fewer than two, or one cannot be read or has another
            architecture.
    """
    if len(checkpoints) < 2:
        raise CheckpointError(f'name two checkpoints or more to average, got {len(checkpoints)}')
    for path in checkpoints:
        if Path(path).suffix == '.onnx':
            raise CheckpointError(
                f'{path}: in a released file batch norms are folded away, and a mean of weights '
                'needs those that were trained: give the checkpoint it was exported from'
            )
    method = load_method(checkpoints[-1])
    saved = [read_checkpoint(path) for path in checkpoints]
    for path, checkpoint in zip(checkpoints, saved, strict=True):
        load_strictly(method, checkpoint['state_dict'], path)
    states = [checkpoint['state_dict'] for checkpoint in saved]
    mean = {name: _mean([state[name] for state in states]) for name in states[-1]}
    output = Path(checkpoints[-1]).with_name('averaged.ckpt') if output is None else Path(output)
    kept = {key: saved[-1][key] for key in ('method', 'global_step')}
    names = [str(path) for path in checkpoints]
    torch.save({**kept, 'state_dict': mean, AVERAGED: names}, output)
    Console().print(f'mean of {" and ".join(names)}\nwrote {output}', soft_wrap=True)


def _mean(values: list[Tensor]) -> Tensor:
    """Return the mean of weights and statistics; the last one's of what is counted in integers."""
    if not values[-1].is_floating_point():
        return values[-1]
    return torch.stack([value.double() for value in values]).mean(dim=0).to(values[-1].dtype)
