from __future__ import annotations

import pytest
import torch

from models.configured import build
from models.pspnet import PSPNet
from models.pspnet import PyramidPoolingModule

SHALLOW = (1, 1, 1, 1)


@pytest.fixture(scope='module')
def net() -> PSPNet:
    torch.manual_seed(0)
    return PSPNet(num_classes=5, blocks=SHALLOW)


def test_parameters() -> None:
    with torch.device('meta'):
        net = PSPNet()
    backbone = 42_623_936  # ResNet-101 with deep stem; see test_resnet.py
    pyramid = 4 * (2048 * 512 + 2 * 512)
    fuse = (2048 + 4 * 512) * 512 * 9 + 2 * 512
    classifier = 512 * 19 + 19
    total = sum(p.numel() for p in net.parameters())
    assert total == backbone + pyramid + fuse + classifier == 65_707_475


def test_outputs_lie_at_stride_8(net: PSPNet) -> None:
    with torch.inference_mode():
        output = net.eval()(torch.randn(1, 3, 64, 96))
    assert output.logits.shape == (1, 5, 8, 12)
    assert output[1:] == (None, None, None)


def test_gradients_reach_every_parameter(net: PSPNet) -> None:
    net.train().zero_grad()
    logits = net(torch.randn(2, 3, 48, 48)).logits
    assert logits.shape == (2, 5, 6, 6)
    (logits * torch.randn_like(logits)).sum().backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


def test_a_single_image_is_refused_in_training_only(net: PSPNet) -> None:
    with pytest.raises(ValueError, match='batch size of at least 2 in training, got 1'):
        net.train()(torch.zeros(1, 3, 48, 48))
    with torch.inference_mode():
        assert net.eval()(torch.zeros(1, 3, 48, 48)).logits.shape == (1, 5, 6, 6)


def test_pyramid_appends_four_levels_to_the_features() -> None:
    pyramid = PyramidPoolingModule(4, 2, align_corners=True).eval()
    features = torch.randn(2, 4, 7, 9)
    got = pyramid(features)
    assert got.shape == (2, 4 + 4 * 2, 7, 9)
    torch.testing.assert_close(got[:, :4], features)
    whole = got[:, 4:6]  # of one bin, hence the same everywhere
    torch.testing.assert_close(whole, whole[..., :1, :1].expand_as(whole))


@pytest.mark.parametrize('align_corners', [True, False])
def test_pyramid_averages_its_bins(align_corners: bool) -> None:
    pyramid = PyramidPoolingModule(1, 1, align_corners=align_corners).eval()
    for level in pyramid.levels:
        level[1][0].weight.data.fill_(1)
    features = torch.arange(36.0).view(1, 1, 6, 6)
    one, two, three, six = pyramid(features)[0, 1:]
    scale = 1 / (1 + 1e-5) ** 0.5  # of the batch norm
    assert one[0, 0].item() == pytest.approx(17.5 * scale, rel=1e-6)
    torch.testing.assert_close(six, features[0, 0] * scale)
    # Corners of the upsampled map are the bins' own averages in either convention.
    assert two[0, 0].item() == pytest.approx(7.0 * scale, rel=1e-6)
    assert three[-1, -1].item() == pytest.approx(31.5 * scale, rel=1e-6)


def test_the_record_builds_the_same_network(net: PSPNet) -> None:
    with torch.device('meta'):
        again = build(net.config)
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    assert {key: value.shape for key, value in again.state_dict().items()} == shapes
