"""``python -m training average``: one network whose weights are the mean of several.

What a network learns last, it pays for elsewhere. Where one training went on from another, the
mean of the weights before and after keeps most of both (WiSE-FT: Wortsman et al., CVPR 2022; model
soups: Wortsman et al., ICML 2022), and takes no more time on the vehicle. What its batch norms see
is no mean of what those of the others saw, and is better measured (Izmailov et al., "Averaging
Weights Leads to Wider Optima and Better Generalization", UAI 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning
import torch
import yaml
from rich.console import Console
from torch import Tensor

from models.configured import ConfigError
from models.configured import build
from training.checkpoint import AVERAGED
from training.checkpoint import CheckpointError
from training.checkpoint import load_method
from training.checkpoint import load_strictly
from training.checkpoint import read_checkpoint
from training.fit import CONFIG
from training.recalibrate import estimate_statistics

_BATCH = 16


def average(
    checkpoints: list[Path], output: Path | None = None, crops: int = 0, seed: int = 0
) -> None:
    """Average the weights of trainings that went on from one another.

    Networks that were trained apart from each other have nothing in common that a mean would keep:
    measure the result (``python -m training export`` does).

    Args:
        checkpoints: files that ``python -m training fit`` wrote, of one architecture, the last
            training's last. What is named twice weighs twice.
        output: the new checkpoint; null: ``averaged.ckpt`` beside the last one.
        crops: on so many crops of the last training the batch statistics are estimated anew; 0
            takes their mean.
        seed: of the crops.

    Raises:
        CheckpointError: when there are fewer than two, one cannot be read or has another
            architecture, or the last has no ``config.yaml`` beside it that says what its crops are.
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
    if crops:
        load_strictly(method, mean, checkpoints[-1])
        estimate_statistics(method.generator, draw_crops(Path(checkpoints[-1]), crops, seed))
        mean = method.state_dict()
    output = Path(checkpoints[-1]).with_name('averaged.ckpt') if output is None else Path(output)
    kept = {key: saved[-1][key] for key in ('method', 'global_step')}
    names = [str(path) for path in checkpoints]
    torch.save({**kept, 'state_dict': mean, AVERAGED: names}, output)
    Console().print(f'mean of {" and ".join(names)}\nwrote {output}', soft_wrap=True)


def draw_crops(checkpoint: Path, crops: int, seed: int) -> Sequence[Tensor]:
    """Return batches, uint8 [N, 3, h, w], of what a checkpoint was trained on."""
    path = checkpoint.with_name(CONFIG)
    if not path.is_file():
        raise CheckpointError(
            f'{path} does not exist, and says what {checkpoint.name} was trained on: put it there, '
            'or leave --crops at 0'
        )
    lightning.seed_everything(seed, verbose=False)
    config = yaml.safe_load(path.read_text(encoding='utf-8')) or {}
    try:
        data = build(config.get('data'))
    except ConfigError as error:
        raise CheckpointError(f'{path}, data: {error}') from error
    return data.source_images(crops).chunk(max(1, crops // _BATCH))


def _mean(values: list[Tensor]) -> Tensor:
    """Return the mean of weights and statistics; the last one's of what is counted in integers."""
    if not values[-1].is_floating_point():
        return values[-1]
    return torch.stack([value.double() for value in values]).mean(dim=0).to(values[-1].dtype)
