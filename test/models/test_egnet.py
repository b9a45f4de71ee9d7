from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.configured import build
from models.egnet import WITH_STREAM
from models.egnet import WITHOUT_STREAM
from models.egnet import EGNet
from models.egnet import exposure_map
from models.resnet import ResNetStages

SHALLOW = (1, 1, 1, 1)
SHARED = 225_344  # stem and layer1 of ResNet-101
STREAM = 42_500_160 - SHARED
HEAD = 2048 * 19 + 19
EXPOSURE = STREAM + 2048 + 1


def make_egnet(**arguments) -> EGNet:
    torch.manual_seed(0)
    return EGNet(**{'num_classes': 5, 'blocks': SHALLOW, **arguments})


@pytest.mark.parametrize(
    ('guidance', 'attention_channels', 'extra'),
    [
        ('attention', 1, EXPOSURE + (512 + 1) + (1024 + 1)),
        ('attention', 'per_channel', EXPOSURE + (512 * 512 + 512) + (1024 * 1024 + 1024)),
        ('concat', 1, EXPOSURE + (1024 * 512 + 512) + (2048 * 1024 + 1024)),
        ('sum', 1, EXPOSURE),
        ('none', 1, EXPOSURE),
        ('exposure_input', 1, 64 * 49),
        ('exposure_map', 1, 0),
        ('no_stream', 1, 0),
    ],
)
def test_parameters(guidance: str, attention_channels: int | str, extra: int) -> None:
    with torch.device('meta'):
        net = EGNet(guidance=guidance, attention_channels=attention_channels)
    assert sum(p.numel() for p in net.parameters()) == SHARED + STREAM + HEAD + extra


def test_parameters_of_the_papers_network() -> None:
    with torch.device('meta'):
        assert sum(p.numel() for p in EGNet().parameters()) == 84_817_494


@pytest.mark.parametrize('guidance', WITH_STREAM + WITHOUT_STREAM)
def test_gradients_reach_every_parameter(guidance: str) -> None:
    net = make_egnet(guidance=guidance).train()
    output = net(torch.randn(2, 3, 32, 48))
    assert output.logits.shape == (2, 5, 4, 6)
    loss = output.logits.square().sum()
    if guidance in WITH_STREAM:
        assert output.exposure.shape == (2, 1, 4, 6)
        loss = loss + output.exposure.square().sum()
    else:
        assert output.exposure is None
    loss.backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


@pytest.mark.parametrize('output_stride', [8, 16, 32])
def test_output_strides_and_range_of_the_exposure(output_stride: int) -> None:
    net = make_egnet(output_stride=output_stride).eval()
    with torch.inference_mode():
        output = net(3 * torch.randn(1, 3, 64, 96))
    size = (64 // output_stride, 96 // output_stride)
    assert output.logits.shape == (1, 5, *size)
    assert output.exposure.shape == (1, 1, *size)
    assert 0 <= output.exposure.min() <= output.exposure.max() <= 1


@pytest.mark.parametrize(
    ('plain', 'arguments'),
    [
        # Each differs from the network without stream only by what the arguments silence.
        ('none', {}),
        ('attention', {'w2': 0.0}),
        ('exposure_map', {'w2': 0.0}),
    ],
)
def test_silent_guidance_is_no_stream(plain: str, arguments: dict) -> None:
    net = make_egnet(guidance=plain, **arguments).eval()
    bare = make_egnet(guidance='no_stream').eval()
    bare.load_state_dict({key: net.state_dict()[key] for key in bare.state_dict()})
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(net(image).logits, bare(image).logits)


@pytest.mark.parametrize('guidance', ['attention', 'concat', 'sum'])
def test_exposure_steers_the_labels(guidance: str) -> None:
    net = make_egnet(guidance=guidance).eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        before = net(image).logits
        for parameter in net.exposure[0].parameters():
            parameter.mul_(3)
        assert not torch.allclose(before, net(image).logits)


def test_both_guides_weigh_as_told() -> None:
    net = make_egnet(w1=0.5, w2=2.0)
    assert [(guide.w1, guide.w2) for guide in net.guides] == [(0.5, 2.0)] * 2
    assert [guide.attention.out_channels for guide in net.guides] == [1, 1]
    net = make_egnet(attention_channels='per_channel')
    assert [guide.attention.out_channels for guide in net.guides] == [512, 1024]


def test_guides_follow_stages_2_and_3() -> None:
    net = make_egnet().eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        shared = net.shared(image)
        f, e = net.segmentation[0](shared), net.exposure[0](shared)
        f = f + 0.3 * f * torch.sigmoid(net.guides[0].attention(e))
        f, e = net.segmentation[1](f), net.exposure[1](e)
        f = f + 0.3 * f * torch.sigmoid(net.guides[1].attention(e))
        f, e = net.segmentation[2](f), net.exposure[2](e)
        output = net(image)
        torch.testing.assert_close(output.logits, net.head(f))
        torch.testing.assert_close(output.exposure, torch.sigmoid(net.exposure_head(e)))


def test_exposure_map_is_the_brightest_channel() -> None:
    rgb = torch.tensor([[0.1, 0.7, 0.3], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]).T.view(1, 3, 1, 3)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    got = exposure_map((rgb - mean) / std)
    assert got.shape == (1, 1, 1, 3)
    assert got.flatten().tolist() == pytest.approx([0.7, 0, 1], abs=1e-6)


def test_extra_input_starts_unheard_and_can_be_heard() -> None:
    net = make_egnet(guidance='exposure_input').eval()
    bare = make_egnet(guidance='no_stream').eval()
    state = {key: net.state_dict()[key] for key in bare.state_dict()}
    state['shared.0.conv1.weight'] = state['shared.0.conv1.weight'][:, :3]
    bare.load_state_dict(state)
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        expected = bare(image).logits
        torch.testing.assert_close(net(image).logits, expected)
        net.shared[0].conv1.weight[:, 3] = 1
        assert not torch.allclose(net(image).logits, expected)


def test_both_streams_start_from_the_same_weights(tmp_path: Path) -> None:
    path = tmp_path / 'weights.pth'
    stages = ResNetStages(blocks=SHALLOW)
    torch.save({k.removeprefix('stem.'): v for k, v in stages.state_dict().items()}, path)
    net = make_egnet(weights=str(path))
    expected = stages.layer3.state_dict()
    for stream in (net.segmentation, net.exposure):
        torch.testing.assert_close(stream[1].state_dict(), expected)
    net = make_egnet()
    assert not torch.equal(net.segmentation[1][0].conv1.weight, net.exposure[1][0].conv1.weight)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'guidance': 'mean'}, "guidance must be one of .*got 'mean'"),
        ({'attention_channels': 2}, 'attention_channels must be 1 or .*got 2'),
    ],
)
def test_impossible_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EGNet(**arguments)


@pytest.mark.parametrize('guidance', WITH_STREAM + WITHOUT_STREAM)
def test_the_record_builds_the_same_network(guidance: str) -> None:
    with torch.device('meta'):
        net = EGNet(blocks=SHALLOW, guidance=guidance, attention_channels='per_channel')
        again = build(net.config)
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    assert {key: value.shape for key, value in again.state_dict().items()} == shapes
