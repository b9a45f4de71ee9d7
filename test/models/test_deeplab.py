from __future__ import annotations

import pytest
import torch

from models.configured import build
from models.deeplab import AtrousSpatialPyramidPooling
from models.deeplab import DeepLabV2

SHALLOW = (1, 1, 1, 1)


@pytest.fixture(scope='module')
def net() -> DeepLabV2:
    torch.manual_seed(0)
    return DeepLabV2(num_classes=5, blocks=SHALLOW)


@pytest.mark.parametrize(('branches', 'count'), [('all', 4), ('official', 2)])
def test_parameters(branches: str, count: int) -> None:
    with torch.device('meta'):
        net = DeepLabV2(branches=branches)
    backbone = 42_500_160  # torchvision's ResNet-101 without classifier
    total = sum(p.numel() for p in net.parameters())
    assert total == backbone + count * (2048 * 19 * 9 + 19)
    dilations = [conv.dilation[0] for conv in net.classifier.branches]
    assert dilations == [6, 12, 18, 24][:count]


def test_outputs_lie_at_stride_8(net: DeepLabV2) -> None:
    with torch.inference_mode():
        output = net.eval()(torch.randn(1, 3, 64, 96))
    assert output.logits.shape == (1, 5, 8, 12)
    assert output[1:] == (None, None, None)


def test_gradients_reach_all_but_the_frozen_norms(net: DeepLabV2) -> None:
    net.train().zero_grad()
    # 25 positions a side: the widest branch, dilation 24, has all its taps inside somewhere.
    net(torch.randn(2, 3, 64, 64)).logits.square().sum().backward()
    idle = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    norms = {n for n, m in net.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert idle == {f'{norm}.{name}' for norm in norms for name in ('weight', 'bias')}


def test_norms_train_when_asked() -> None:
    with torch.device('meta'):
        net = DeepLabV2(blocks=SHALLOW, freeze_batch_norm=False)
    assert all(p.requires_grad for p in net.parameters())


def test_classifier_starts_small() -> None:
    torch.manual_seed(0)
    for branch in AtrousSpatialPyramidPooling(256, 19, (6, 12)).branches:
        assert branch.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert (branch.bias == 0).all()


def test_branches_are_summed() -> None:
    pooling = AtrousSpatialPyramidPooling(1, 1, (1, 2))
    pooling.branches[0].weight.data = torch.tensor([[0.0, 0, 0], [0, 10, 1], [0, 0, 0]])[None, None]
    pooling.branches[1].weight.data = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 0]])[None, None]
    pooling.branches[1].bias.data.fill_(0.5)
    x = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 1, 4)
    # 10 times itself + its neighbour + the one after that + the bias.
    expected = [10 + 2 + 3 + 0.5, 20 + 3 + 4 + 0.5, 30 + 4 + 0.5, 40 + 0.5]
    assert pooling(x).flatten().tolist() == expected


def test_unknown_branches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one of \['all', 'official'\], got 'two'"):
        DeepLabV2(branches='two')


def test_the_record_builds_the_same_network(net: DeepLabV2) -> None:
    with torch.device('meta'):
        again = build(net.config)
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    assert {key: value.shape for key, value in again.state_dict().items()} == shapes
