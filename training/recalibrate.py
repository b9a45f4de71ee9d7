"""``python -m training recalibrate``: batch statistics of the night for what drives there.

Source, day and night go through the same batch norms in training, and the running statistics that
evaluation uses become a mixture that fits none of them. Estimating them anew on unlabelled night
frames costs seconds and no label (AdaBN; Li et al., "Revisiting Batch Normalization for Practical
Domain Adaptation", 2016). What it gains is measured in docs/methods.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch import nn
from torch.nn import functional as F  # noqa: N812

from training.checkpoint import load_method
from training.checkpoint import read_checkpoint
from training.data.frames import DataError
from training.data.frames import list_images
from training.data.frames import read_rgb


@torch.no_grad()
def estimate_statistics(generator: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of all batch norms by those of the batches, equally weighed.

    Args:
        generator: network, left in eval mode.
        batches: uint8 images [N, 3, H, W] on its device; two or more images each.
    """
    generator.eval()
    norms = [m for m in generator.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then averages all batches
        norm.train()
    for batch in batches:
        generator(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    generator.eval()


def recalibrate(
    checkpoint: Path,
    images: Path,
    output: Path | None = None,
    size: tuple[int, int] | None = None,
    batch_size: int = 4,
    frames: int = 400,
) -> None:
    """Estimate the batch statistics of a checkpoint anew on unlabelled night frames.

    Args:
        checkpoint: file that ``python -m training fit`` wrote.
        images: folder of night frames, such as those that the target's pairs have; never those
            that measure.
        output: the new checkpoint; null: ``recalibrated.ckpt`` beside the old one.
        size: height and width that the network will see; null: at which training measured it, or
            540, 960.
        batch_size: frames per forward, two or more.
        frames: at most this many, evenly spread over the folder.

    Raises:
        CheckpointError: when the checkpoint cannot be read.
        DataError: when there are fewer frames than a batch, or the network does not take the size.
    """
    saved = read_checkpoint(checkpoint)
    method = load_method(checkpoint)
    method.to('cuda' if torch.cuda.is_available() else 'cpu')
    size = size or method.measure_size or (540, 960)
    paths = list_images(Path(images))
    paths = paths[:: max(1, -(-len(paths) // frames))]
    whole = len(paths) // batch_size
    if batch_size < 2 or not whole:
        raise DataError(
            f'{len(paths)} frames of {images} do not fill a batch of {max(batch_size, 2)}: '
            'add frames, or lower --batch_size (2 or more)'
        )

    def batch(index: int) -> Tensor:
        chosen = paths[index * batch_size : (index + 1) * batch_size]
        return torch.cat([_frame(path, size) for path in chosen]).to(method.device)

    batches = (batch(index) for index in track(range(whole), 'night frames'))
    try:
        estimate_statistics(method.generator, batches)
    except ValueError as error:
        raise DataError(f'set another --size: {error}') from error
    output = Path(checkpoint).with_name('recalibrated.ckpt') if output is None else Path(output)
    saved['state_dict'] = method.cpu().state_dict()
    torch.save({key: saved[key] for key in ('method', 'state_dict', 'global_step')}, output)
    Console().print(f'wrote {output} (statistics of {whole * batch_size} frames)', soft_wrap=True)


def _frame(path: Path, size: tuple[int, int]) -> Tensor:
    image = torch.from_numpy(read_rgb(path)).permute(2, 0, 1)[None].float()
    resized = F.interpolate(image, tuple(size), mode='bilinear', antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)
