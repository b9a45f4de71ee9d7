"""``python -m training calibrate``: confidence that says how often labels are right.

Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017) with three
numbers instead of one (:mod:`models.temperature`): what is too dark or too bright to see may be
trusted less. Fitted on labelled day frames that training left out, by day and relit to night.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.segmentation_output import resize
from models.several_sizes import in_sizes
from models.temperature import Temperature
from models.temperature import badness
from nightseg_ros.core.labels import UNLABELLED
from training.checkpoint import AVERAGED
from training.checkpoint import MORE_SIZES
from training.checkpoint import STAGES
from training.checkpoint import TEMPERATURE
from training.checkpoint import method_of
from training.checkpoint import read_checkpoint
from training.data.frames import DataError
from training.data.frames import Sample
from training.data.frames import to_tensors
from training.data.labelled_set import LabelledFrames
from training.data.relight import Relight
from training.methods.method import Method

LEAST = 0.25
"""Least that the temperature rises towards black and white. The fit alone trusts black as much as
anything (it found 0.0001): relit days know what is there, real nights do not."""

PIXELS = 3000
"""Drawn of each frame: neighbours tell the same."""


class Pixels(NamedTuple):
    """What the temperature is fitted to.

    Attributes:
        logits: [P, 19].
        labels: trainIds int64 [P].
        exposure: V in [0, 1], [P], as the network says; of the frame where it does not.
    """

    logits: Tensor
    labels: Tensor
    exposure: Tensor


def calibrate(
    checkpoint: Path,
    folders: list[Path] = [  # noqa: B006 - jsonargparse shows it
        Path('../shared/data/idd_day'),
        Path('../shared/data/campus_day'),
        Path('../shared/data/roadscene_day'),
    ],
    hold_out: int = 10,
    output: Path | None = None,
    sizes: list[tuple[int, int]] = [(384, 640)],  # noqa: B006
    seed: int = 0,
) -> None:
    """Fit the temperature of the confidence on labelled frames that training left out.

    Args:
        checkpoint: file that ``python -m training fit`` wrote, or a released ONNX file.
        folders: of the labelled frames.
        hold_out: every n-th frame was left out of training (``LabelledFrames``, ``hold_out``).
        output: the new checkpoint; null: ``calibrated.ckpt`` beside the old one.
        sizes: height and width that the network will see; where there are more, the model that is
            exported looks at every frame in all of them and takes the mean.
        seed: of the nights and the pixels.

    Raises:
        CheckpointError: when the checkpoint cannot be read.
        DataError: when there are no frames, or ``sizes`` are none, or none for the network.
    """
    saved = read_checkpoint(checkpoint)
    method = method_of(saved, checkpoint)
    method.to('cuda' if torch.cuda.is_available() else 'cpu')
    stride = getattr(method.generator.net, 'stride', 1)
    if not sizes or any(side % stride for size in sizes for side in size):
        raise DataError(f'sizes are heights and widths in multiples of {stride}, got {sizes}')
    sets = [
        LabelledFrames(f, cache=False, mend=True, hold_out=hold_out, held_out=True) for f in folders
    ]
    samples = [frames[index] for frames in sets for index in range(len(frames))]
    if not samples:
        raise DataError(f'no frame is held out of {[str(f) for f in folders]}: lower hold_out')
    method.generator.net = in_sizes(method.generator.net, sizes[1:])
    pixels = draw_pixels(method, samples, sizes[0], seed)
    temperature = fit_temperature(pixels)
    output = Path(checkpoint).with_name('calibrated.ckpt') if output is None else Path(output)
    keys = ('method', 'state_dict', 'global_step', AVERAGED, STAGES)
    kept = {key: saved[key] for key in keys if key in saved}
    found = {TEMPERATURE: temperature._asdict(), MORE_SIZES: [list(size) for size in sizes[1:]]}
    torch.save({**kept, **found}, output)
    before, after = (loss(pixels, t) for t in (Temperature(), temperature))
    Console().print(
        f'{temperature}\nnegative log-likelihood {before:.4f} -> {after:.4f} on {len(samples)} '
        f'frames by day and at night\nwrote {output}',
        soft_wrap=True,
    )


@torch.no_grad()
def draw_pixels(
    method: Method, samples: list[Sample], size: tuple[int, int], seed: int = 0
) -> Pixels:
    """Return labelled pixels of frames by day and relit, as many of each."""
    rng = np.random.default_rng(seed)
    relight = Relight()
    parts = []
    for sample in track(samples, 'held-out frames'):
        for shown in (sample, relight(sample, rng)):
            image, labels = to_tensors(shown)
            image = image[None].to(method.device).float() / 255
            image = F.interpolate(image, size, mode='bilinear', antialias=True)
            output = method.generator(image).segmentation
            exposure = output.exposure
            if exposure is None:
                exposure = image.amax(dim=1, keepdim=True)
            labels = labels.to(method.device).ravel()
            chosen = torch.from_numpy(rng.permutation(labels.numel())).to(labels.device)
            chosen = chosen[labels[chosen] != UNLABELLED][:PIXELS]
            logits = resize(output.logits.float(), shown.labels.shape)[0].flatten(1)
            exposure = resize(exposure.float(), shown.labels.shape).flatten()
            parts.append(Pixels(logits[:, chosen].T, labels[chosen], exposure[chosen]))
    return Pixels(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


def loss(pixels: Pixels, temperature: Temperature) -> float:
    """Return the mean negative log-likelihood of the labels."""
    scale = torch.as_tensor(temperature.at(pixels.exposure[:, None]))
    return float(F.cross_entropy(pixels.logits / scale, pixels.labels))


def fit_temperature(pixels: Pixels) -> Temperature:
    """Return the temperature of the least negative log-likelihood.

    Bad exposure raises it, by :data:`LEAST` or more.
    """
    dark, bright = badness(pixels.exposure)
    raw = torch.tensor([0.5, -2.0, -2.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([raw], lr=0.5, max_iter=60, line_search_fn='strong_wolfe')

    def closure() -> Tensor:
        optimizer.zero_grad()
        base, under, over = _positive(raw)
        scale = base + under * dark + over * bright
        value = F.cross_entropy(pixels.logits / scale[:, None], pixels.labels)
        value.backward()
        return value

    optimizer.step(closure)
    return Temperature(*(round(value, 4) for value in _positive(raw.detach()).tolist()))


def _positive(raw: Tensor) -> Tensor:
    return F.softplus(raw) + torch.tensor([0.0, LEAST, LEAST])
