from __future__ import annotations

import pytest
import torch
from torch import nn

from models.configured import build
from models.refinenet import ChainedResidualPooling
from models.refinenet import RefineBlock
from models.refinenet import RefineNet
from models.refinenet import ResidualConvUnit

SHALLOW = (1, 1, 1, 1)


@pytest.fixture(scope='module')
def net() -> RefineNet:
    torch.manual_seed(0)
    return RefineNet(num_classes=5, blocks=SHALLOW, pooling_blocks=1)


def conv(inputs: int, outputs: int) -> int:
    return inputs * outputs * 9 + outputs


def identity(layer: nn.Conv2d, scale: float = 1.0) -> None:
    nn.init.dirac_(layer.weight)
    layer.weight.data *= scale
    nn.init.zeros_(layer.bias)


def test_parameters() -> None:
    with torch.device('meta'):
        net = RefineNet()
    expected = 42_500_160  # torchvision's ResNet-101 without classifier
    # The deepest block: reduction, two units, pooling, a unit; a unit has two convolutions.
    expected += conv(2048, 512) + (2 * 2 + 4 + 2) * conv(512, 512)
    for channels, coarser in ((1024, 512), (512, 256), (256, 256)):
        expected += conv(channels, 256) + (2 * 2 + 1 + 4 + 2) * conv(256, 256)
        expected += 2 * 2 * conv(coarser, coarser) + conv(coarser, 256)
    expected += 2 * 2 * conv(256, 256) + conv(256, 19)
    # The published RefineNet-101 has 118 M.
    assert sum(p.numel() for p in net.parameters()) == expected == 118_062_163


@pytest.mark.parametrize(('height', 'width'), [(64, 96), (66, 98)])
def test_outputs_lie_at_stride_4(net: RefineNet, height: int, width: int) -> None:
    with torch.inference_mode():
        output = net.eval()(torch.randn(1, 3, height, width))
    assert output.logits.shape == (1, 5, -(-height // 4), -(-width // 4))
    assert output[1:] == (None, None, None)


def test_gradients_reach_every_parameter(net: RefineNet) -> None:
    net.train().zero_grad()
    net(torch.randn(2, 3, 64, 64)).logits.square().sum().backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


def test_dropout_acts_in_training_only(net: RefineNet) -> None:
    image = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(net.eval()(image).logits, net(image).logits)
        assert not torch.equal(net.train()(image).logits, net(image).logits)


def test_residual_unit_with_identities_adds_the_positive_part() -> None:
    unit = ResidualConvUnit(2)
    identity(unit.conv1)
    identity(unit.conv2)
    x = torch.tensor([-1.0, 3.0]).view(1, 2, 1, 1)
    assert unit(x).flatten().tolist() == [-1.0, 6.0]


def test_chained_pooling_by_hand() -> None:
    pooling = ChainedResidualPooling(1, blocks=2)
    identity(pooling.convs[0], 10.0)
    identity(pooling.convs[1], 10.0)
    x = torch.zeros(1, 1, 1, 11)
    x[..., 5] = 1
    x[..., 0] = -4  # ReLU comes first
    # The peak itself; ten times it within 2; a hundred times it within 4.
    expected = [0, 100, 100, 110, 110, 111, 110, 110, 100, 100, 0]
    assert pooling(x).flatten().tolist() == expected


def test_block_fuses_a_coarser_one() -> None:
    block = RefineBlock(1, 1, 1, 0, align_corners=True)
    for module in block.modules():
        if isinstance(module, ResidualConvUnit):
            nn.init.zeros_(module.conv2.weight)  # leaves the skip
            nn.init.zeros_(module.conv2.bias)
    identity(block.reduce)
    identity(block.fine_path[-1])
    identity(block.coarse_path[-1], 2.0)
    coarse = torch.tensor([0.0, 3.0]).view(1, 1, 1, 2)
    got = block(torch.ones(1, 1, 1, 4), coarse)
    assert got.flatten().tolist() == pytest.approx([1, 3, 5, 7])


def test_the_record_builds_the_same_network(net: RefineNet) -> None:
    with torch.device('meta'):
        again = build(net.config)
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    assert {key: value.shape for key, value in again.state_dict().items()} == shapes
