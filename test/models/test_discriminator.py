from __future__ import annotations

import pytest
import torch
from torch import nn

from models.configured import build
from models.discriminator import Discriminator


def test_parameters() -> None:
    convs = [(19, 64), (64, 128), (128, 256), (256, 256), (256, 1)]
    total = sum(p.numel() for p in Discriminator().parameters())
    assert total == sum(i * o * 16 + o for i, o in convs) == 1_728_193


@pytest.mark.parametrize(('height', 'width'), [(16, 16), (17, 19), (32, 64)])
def test_scores_per_patch(height: int, width: int) -> None:
    maps = torch.randn(2, 19, height, width).softmax(dim=1)
    assert Discriminator()(maps).shape == (2, 1, height // 4 - 3, width // 4 - 3)


def test_gradients_reach_every_parameter_and_the_maps() -> None:
    torch.manual_seed(0)
    net = Discriminator(num_classes=3, channels=(4, 8), strides=(2, 2, 1))
    maps = torch.randn(2, 3, 16, 16, requires_grad=True)
    net(maps).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in (*net.parameters(), maps))


@pytest.mark.parametrize(
    ('channels', 'strides', 'smallest'),
    [
        ((64, 128, 256, 256), (2, 2, 1, 1, 1), 16),
        ((4, 8, 8, 8), (2, 2, 2, 2, 2), 32),  # AdaptSegNet's strides
        ((4,), (1, 1), 3),
    ],
)
def test_the_smallest_map_has_one_score_and_smaller_ones_are_refused(
    channels: tuple, strides: tuple, smallest: int
) -> None:
    net = Discriminator(2, channels, strides)
    assert net.smallest_side == smallest
    assert net(torch.zeros(1, 2, smallest, smallest)).shape == (1, 1, 1, 1)
    with pytest.raises(ValueError, match=f'at least {smallest}, got {smallest}x{smallest - 1}'):
        net(torch.zeros(1, 2, smallest, smallest - 1))


def test_layers_are_convolutions_and_leaky_relus_alone() -> None:
    layers = Discriminator().layers
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.LeakyReLU] * 4 + [nn.Conv2d]
    assert {layer.negative_slope for layer in layers[1::2]} == {0.2}
    assert [layer.stride[0] for layer in layers[::2]] == [2, 2, 1, 1, 1]
    assert {(layer.kernel_size, layer.padding) for layer in layers[::2]} == {((4, 4), (1, 1))}


def test_strides_must_match_the_channels() -> None:
    with pytest.raises(ValueError, match='one entry more than channels.*got 2 and 2'):
        Discriminator(channels=(4, 8), strides=(2, 1))


def test_the_record_builds_the_same_network() -> None:
    net = Discriminator(num_classes=3, channels=(4, 8), strides=(2, 2, 1))
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    again = build(net.config).state_dict()
    assert {key: value.shape for key, value in again.items()} == shapes
