"""ResNet-101 as stages: the backbone of every network of the papers (He et al., CVPR 2016)."""

from __future__ import annotations

import logging
import pickle
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch import nn

import models.torchvision_import  # noqa: F401
from models.configured import Configured

# isort: split
from torchvision.models import ResNet101_Weights
from torchvision.models.resnet import Bottleneck
from torchvision.models.resnet import ResNet

_log = logging.getLogger(__name__)

RESNET101 = (3, 4, 23, 3)
"""Bottleneck blocks of layer1 to layer4 of ResNet-101."""

CHANNELS = (256, 512, 1024, 2048)
"""Channels of the outputs of layer1 to layer4."""

DILATIONS = {8: (1, 2, 4), 16: (1, 1, 2), 32: (1, 1, 1)}
"""Dilation of layer2, layer3 and layer4 for each output stride."""

_FIRST_CONVS_OF_LAYER1 = ('layer1.0.conv1.weight', 'layer1.0.downsample.0.weight')
_MOST_NAMES = 4


class WeightsError(ValueError):
    """The pre-trained weights asked for cannot be had, or belong to another network."""


class ResNetStages(Configured, nn.Module):
    """The convolutional part of a ResNet with bottleneck blocks, taken apart into stages.

    Every block of a dilated stage is dilated, as in DeepLab-v2 and PSPNet; torchvision alone would
    leave the first block of a stage at the dilation of the stage before.

    Args:
        weights: None for random weights, 'imagenet' to download torchvision's, or the path of a
            state dict; see :func:`load_backbone`.
        blocks: blocks of each stage; ResNet-101 unless told otherwise. Shallower ones are for
            tests and small experiments.
        output_stride: 8, 16 or 32; dilation takes the place of the strides left out.
        deep_stem: three 3x3 convolutions of 64, 64 and 128 channels (PSPNet) in place of one 7x7.

    Shape:
        - Input: [N, 3, H, W] float, ImageNet-normalised RGB.
        - Output: of layer1 to layer4, [N, 256, H/4, W/4], [N, 512, H/8, W/8], and 1024 and 2048
          channels at the strides that ``output_stride`` leaves; odd sizes round up.
    """

    def __init__(
        self,
        weights: str | None = None,
        blocks: Sequence[int] = RESNET101,
        output_stride: int = 32,
        deep_stem: bool = False,
    ) -> None:
        super().__init__()
        if output_stride not in DILATIONS:
            raise ValueError(f'output_stride must be one of {list(DILATIONS)}, got {output_stride}')
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f'blocks must be four counts of at least 1, got {list(blocks)}')
        dilations = DILATIONS[output_stride]
        strided = (1, *dilations)
        net = ResNet(
            Bottleneck,
            list(blocks),
            num_classes=1,
            replace_stride_with_dilation=[d > p for p, d in zip(strided, dilations, strict=False)],
        )
        self.stem = _deep_stem() if deep_stem else _stem(net)
        self.layer1 = net.layer1
        self.layer2 = net.layer2
        self.layer3 = net.layer3
        self.layer4 = net.layer4
        for layer, dilation in zip((net.layer2, net.layer3, net.layer4), dilations, strict=True):
            layer[0].conv2.dilation = layer[0].conv2.padding = (dilation, dilation)
        if deep_stem:
            self.layer1[0].conv1 = _conv(128, 64, kernel=1)
            self.layer1[0].downsample[0] = _conv(128, 256, kernel=1)
        if weights is not None:
            load_backbone(self, weights)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the outputs of the four stages, finest first."""
        fine = self.layer1(self.stem(image))
        middle = self.layer2(fine)
        coarse = self.layer3(middle)
        return fine, middle, coarse, self.layer4(coarse)


def freeze_batch_norm_affine(module: nn.Module) -> None:
    """Exclude weight and bias of every batch norm from training; the statistics still follow."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.weight.requires_grad_(False)
            child.bias.requires_grad_(False)


def load_backbone(stages: ResNetStages, weights: str) -> None:
    """Load pre-trained weights into a backbone; the classifier ``fc`` is dropped.

    A deep stem takes the names ``conv1``, ``bn1``, ..., ``bn3`` from a file. Given weights of an
    ordinary stem, such as torchvision's, it stays random, and with it the two convolutions of
    layer1 that read its 128 channels; a warning says so.

    Args:
        stages: the backbone, changed in place.
        weights: 'imagenet' for torchvision's ``ResNet101_Weights.IMAGENET1K_V1``, or the path of a
            state dict saved with ``torch.save``.

    Raises:
        WeightsError: when the weights cannot be downloaded or read, or do not fit; names the
            first missing, unexpected and misshapen keys.
    """
    given = _download() if weights == 'imagenet' else read_state_dict(weights)
    given = {_own_name(key): value for key, value in given.items() if not key.startswith('fc.')}
    own = stages.state_dict()
    random: set[str] = set()
    if 'stem.conv2.weight' in own and 'stem.conv2.weight' not in given:
        random = {*_FIRST_CONVS_OF_LAYER1, *(key for key in own if key.startswith('stem.'))}
        given = {key: value for key, value in given.items() if key not in random}
    # Files written before torch 0.4.1 count no batches, and nothing here depends on the count.
    optional = random | {key for key in own if key.endswith('num_batches_tracked')}
    problems = {
        'missing': sorted(own.keys() - given.keys() - optional),
        'unexpected': sorted(given.keys() - own.keys()),
        'misshapen': [
            f'{key} {_shape(value)} for {_shape(own[key])}'
            for key, value in given.items()
            if key in own and value.shape != own[key].shape
        ],
    }
    found = [f'{kind}: {_first(names)}' for kind, names in problems.items() if names]
    if found:
        raise WeightsError(
            f'{weights} belongs to another network than this ({"; ".join(found)}): '
            'check blocks and deep_stem, or give the weights of this backbone'
        )
    stages.load_state_dict(given, strict=False)
    if random:
        _log.warning(
            '%s has no deep stem: the stem and %s stay random',
            weights,
            ' and '.join(_FIRST_CONVS_OF_LAYER1),
        )


def _stem(net: ResNet) -> nn.Sequential:
    layers = (('conv1', net.conv1), ('bn1', net.bn1), ('relu1', net.relu), ('pool', net.maxpool))
    return nn.Sequential(OrderedDict(layers))


def _deep_stem() -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (inputs, outputs, stride) in enumerate([(3, 64, 2), (64, 64, 1), (64, 128, 1)], 1):
        layers[f'conv{index}'] = _conv(inputs, outputs, kernel=3, stride=stride)
        layers[f'bn{index}'] = nn.BatchNorm2d(outputs)
        layers[f'relu{index}'] = nn.ReLU(inplace=True)
    layers['pool'] = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(layers)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')
    return conv


def _download() -> dict[str, Tensor]:
    source = ResNet101_Weights.IMAGENET1K_V1
    try:
        return source.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f'could not download the ImageNet weights ({error}): fetch {source.url} by hand, '
            'and give the path of that file as weights'
        ) from error


def read_state_dict(path: str) -> dict[str, Tensor]:
    """Return the tensors of a state dict by name; nothing else is unpickled.

    Raises:
        WeightsError: when it cannot be read, or holds anything else.
    """
    try:
        given = torch.load(path, map_location='cpu', weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        # torch's own words advise to trust the file, which is no remedy.
        reason = str(error) if isinstance(error, OSError) else type(error).__name__
        raise WeightsError(
            f'could not read {path} as weights ({reason}): give the path of a state dict saved '
            "with torch.save, 'imagenet', or null for random weights"
        ) from error
    if not isinstance(given, dict) or not all(isinstance(v, Tensor) for v in given.values()):
        raise WeightsError(f'{path} is no state dict: save a mere dict of names and tensors')
    return given


def _own_name(key: str) -> str:
    return f'stem.{key}' if key.startswith(('conv', 'bn')) else key


def _shape(value: Tensor) -> str:
    return 'x'.join(map(str, value.shape)) or 'scalar'


def _first(names: list[str]) -> str:
    rest = len(names) - _MOST_NAMES
    return ', '.join(names[:_MOST_NAMES]) + (f' and {rest} more' if rest > 0 else '')
