"""Start from a released model: its ONNX file back into the network that can be trained.

The export folds every batch norm into the convolution before it, where gradients no longer see it
apart. Here it is put back: its statistics are measured anew on images, and its scale and shift
chosen so that the network computes what the file does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch import nn

from models.configured import ConfigError
from models.configured import build
from models.generator import Generator
from models.released_form import ReleasedForm
from models.segmentation_output import resize
from models.several_sizes import in_sizes
from nightseg_ros.core.model import ModelError
from nightseg_ros.core.model import load_model
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.simulation.night_drive import NightDrive
from training.checkpoint import AVERAGED
from training.checkpoint import CONFIG
from training.checkpoint import MORE_SIZES
from training.checkpoint import STAGES
from training.checkpoint import TEMPERATURE
from training.checkpoint import CheckpointError
from training.checkpoint import without_downloads

MIN_AGREEMENT = 0.99
"""Share of a frame's pixels on which the network must agree with the file it was loaded from."""

_STATISTICS_SIZE, _STATISTICS_FRAMES = (640, 384), 4


@torch.no_grad()
def load_release(generator: Generator, path: Path, images: Tensor) -> None:
    """Load the weights of a released model into the generator it was exported from.

    Args:
        generator: of the architecture that the file holds, without relighting; changed in place,
            its mode is kept.
        path: of an ONNX file in 32 bit floats, such as models/released/student_384x640.onnx.
        images: uint8 [N, 3, H, W], as the network is to be trained on: batch statistics are
            measured on them. A few dozen will do.

    Raises:
        CheckpointError: when the file is no released model, or one of another architecture.
    """
    try:
        load_model(path)
        folded = _convolutions(onnx.load(str(path)))
    except (ModelError, OSError, KeyError) as error:
        raise CheckpointError(f'{path}: {error}') from error
    mode = generator.training
    generator.eval()
    layers = _layers(generator, images[:1])
    shapes = [tuple(conv.weight.shape) for conv, _ in layers]
    if shapes != [weight.shape for weight, _ in folded]:
        raise CheckpointError(
            f'{path} holds another architecture than {type(generator.net).__name__} as configured, '
            'or one that is quantised: give the 32 bit file and the net it was exported from '
            '(the recipe is in its metadata)'
        )
    for (conv, norm), (weight, bias) in zip(layers, folded, strict=True):
        conv.weight.copy_(torch.from_numpy(weight))
        shift = torch.from_numpy(bias)
        if norm is None:
            conv.bias.copy_(shift)
        else:
            _unfold(norm, shift)
    # One after the other: a norm's input is what the file computes only once those before are set.
    hooks = [norm.register_forward_pre_hook(_set_statistics) for _, norm in layers if norm]
    try:
        generator(images)
    finally:
        for hook in hooks:
            hook.remove()
    _check(generator, path, images[:1])
    generator.train(mode)


def as_checkpoint(path: Path) -> dict[str, Any]:
    """Return a released model as the checkpoint it was exported from, as far as the file tells.

    Its network computes what the file's does, and several sizes are noted for the next export. Its
    batch statistics are those of procedural frames; ``fit`` measures them on those it trains on.

    Raises:
        CheckpointError: when the file is no released model, or does not say how it was made.
    """
    try:
        card = load_model(path).card
        recipe = json.loads(card['recipe'])
        config = {'class_path': recipe['class_path'], 'init_args': recipe['init_args']}
        temperature = json.loads(card.get(TEMPERATURE, '{}'))
        stages = json.loads(card.get(STAGES, '[]'))
    except (ModelError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f'{path} does not say how it was made (recipe in its metadata): {error}'
        ) from error
    try:
        method = build(without_downloads(config))
    except (ConfigError, ValueError) as error:
        raise CheckpointError(f'{path}: {error}') from error
    drive = NightDrive(*_STATISTICS_SIZE)
    frames = np.stack([frame.night for frame in drive.frames(_STATISTICS_FRAMES)])
    load_release(method.generator, path, torch.from_numpy(frames).permute(0, 3, 1, 2))
    return {
        CONFIG: method.config,
        'state_dict': method.state_dict(),
        'global_step': recipe['steps'],
        AVERAGED: recipe.get(AVERAGED, []),
        MORE_SIZES: recipe.get(MORE_SIZES, []),
        TEMPERATURE: temperature,
        STAGES: stages,
    }


def _check(generator: Generator, path: Path, image: Tensor) -> None:
    """Refuse a network that does not compute what the file does."""
    segmenter = Segmenter.load(path, 'onnxruntime')
    model = segmenter.backend.model
    frame = resize(image.float(), (model.height, model.width)).round().to(torch.uint8)
    frame = frame.permute(0, 2, 3, 1).contiguous()
    expected = segmenter.backend.infer(frame.numpy()).labels
    more_sizes = json.loads(model.card.get('recipe', '{}')).get(MORE_SIZES, [])
    net = in_sizes(generator.net, more_sizes)
    released = ReleasedForm(net, generator.mean, generator.std).eval()
    agreement = float((released(frame)[0][0].numpy() == expected).mean())
    segmenter.close()
    if agreement < MIN_AGREEMENT:
        raise CheckpointError(
            f'{path} and {type(generator.net).__name__} agree on {agreement:.1%} of a frame: their '
            'convolutions have the same shapes, but they are not the same network'
        )


def _convolutions(model: onnx.ModelProto) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return weight and bias of every convolution, in the order in which they are first computed.

    Where the network looks at a frame in several sizes, they are computed several times.
    """
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    names = dict.fromkeys(tuple(n.input[1:3]) for n in model.graph.node if n.op_type == 'Conv')
    return [(values[weight].copy(), values[bias].copy()) for weight, bias in names]


def _layers(generator: Generator, image: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """Return every convolution and the batch norm after it, in the order they are computed in."""
    layers: list[tuple[nn.Conv2d, nn.BatchNorm2d | None]] = []

    def called(module: nn.Module, *_: Any) -> None:
        if isinstance(module, nn.Conv2d):
            layers.append((module, None))
        else:
            layers[-1] = (layers[-1][0], module)

    found = [m for m in generator.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    hooks = [module.register_forward_hook(called) for module in found]
    try:
        generator(image)
    finally:
        for hook in hooks:
            hook.remove()
    return layers


def _unfold(norm: nn.BatchNorm2d, shift: Tensor) -> None:
    """Make a batch norm add a shift and do nothing else."""
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
    norm.weight.fill_(1)
    norm.bias.copy_(shift)


def _set_statistics(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
    """Take over the statistics of the input, and undo them in scale and shift."""
    var, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
    norm.bias.add_(mean)
    norm.weight.copy_((var + norm.eps).sqrt())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
