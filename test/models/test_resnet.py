from __future__ import annotations

import logging
import urllib.error
from pathlib import Path

import pytest
import torch

from models.configured import build
from models.resnet import ResNetStages
from models.resnet import WeightsError
from models.resnet import freeze_batch_norm_affine

# isort: split
from torchvision.models import ResNet101_Weights
from torchvision.models import resnet101
from torchvision.models.resnet import Bottleneck
from torchvision.models.resnet import ResNet

SHALLOW = (1, 1, 1, 1)
DOWNLOAD = 'torchvision.models._api.load_state_dict_from_url'


def parameters(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def torchvision_net(blocks: tuple[int, ...] = SHALLOW) -> ResNet:
    """Return a torchvision ResNet whose statistics are not those of a fresh one either."""
    torch.manual_seed(1)
    net = ResNet(Bottleneck, list(blocks), num_classes=7)
    for name, buffer in net.named_buffers():
        if name.endswith(('running_mean', 'running_var')):
            buffer.uniform_(0.5, 1.5)
    return net.eval()


def save(state: dict, folder: Path) -> str:
    path = folder / 'weights.pth'
    torch.save(state, path)
    return str(path)


def deep_stem_state() -> dict[str, torch.Tensor]:
    """Return weights named as PSPNet's published backbones are: the stem at top level."""
    torch.manual_seed(1)
    state = ResNetStages(blocks=SHALLOW, deep_stem=True).state_dict()
    return {key.removeprefix('stem.'): value for key, value in state.items()}


@pytest.mark.parametrize(
    ('deep_stem', 'expected'),
    [
        # torchvision's 44,549,160 without its classifier.
        (False, 44_549_160 - (2048 * 1000 + 1000)),
        # The three convolutions and norms for 7x7 + norm; 64 more inputs to two 1x1 of layer1.
        (
            True,
            44_549_160
            - (2048 * 1000 + 1000)
            - (3 * 64 * 49 + 2 * 64)
            + (3 * 64 * 9 + 64 * 64 * 9 + 64 * 128 * 9 + 2 * (64 + 64 + 128))
            + 64 * (64 + 256),
        ),
    ],
)
def test_parameters_of_resnet_101(deep_stem: bool, expected: int) -> None:
    with torch.device('meta'):
        assert parameters(ResNetStages(deep_stem=deep_stem)) == expected
        if not deep_stem:
            assert parameters(resnet101()) - parameters(resnet101().fc) == expected


@pytest.mark.parametrize(
    ('output_stride', 'strides', 'dilations'),
    [
        (8, (4, 8, 8, 8), (1, 1, 2, 4)),
        (16, (4, 8, 16, 16), (1, 1, 1, 2)),
        (32, (4, 8, 16, 32), (1, 1, 1, 1)),
    ],
)
@pytest.mark.parametrize('deep_stem', [False, True])
def test_strides_and_dilations(
    output_stride: int, strides: tuple, dilations: tuple, deep_stem: bool
) -> None:
    with torch.device('meta'):
        net = ResNetStages(
            blocks=(2, 2, 2, 2), output_stride=output_stride, deep_stem=deep_stem
        ).eval()
        shapes = [tuple(x.shape) for x in net(torch.zeros(1, 3, 64, 128))]
    channels = (256, 512, 1024, 2048)
    assert shapes == [(1, c, 64 // s, 128 // s) for c, s in zip(channels, strides, strict=True)]
    layers = (net.layer1, net.layer2, net.layer3, net.layer4)
    for layer, dilation in zip(layers, dilations, strict=True):
        assert {block.conv2.dilation for block in layer} == {(dilation, dilation)}


def test_odd_sizes_round_up() -> None:
    with torch.device('meta'):
        net = ResNetStages(blocks=SHALLOW).eval()
        assert [x.shape[-1] for x in net(torch.zeros(1, 3, 65, 97))] == [25, 13, 7, 4]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'output_stride': 4}, r'one of \[8, 16, 32\], got 4'),
        ({'blocks': (3, 4, 23)}, 'four counts'),
        ({'blocks': (3, 4, 0, 3)}, 'at least 1'),
    ],
)
def test_impossible_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNetStages(**arguments)


def test_weights_of_a_file_give_torchvisions_features(tmp_path: Path) -> None:
    reference = torchvision_net()
    net = ResNetStages(save(reference.state_dict(), tmp_path), SHALLOW).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        pooled = net(image)[-1].mean(dim=(2, 3))
        torch.testing.assert_close(reference.fc(pooled), reference(image))


def test_deep_stem_names_map_to_the_stem(tmp_path: Path) -> None:
    state = deep_stem_state()
    assert {'conv1.weight', 'bn2.bias', 'conv3.weight'} <= state.keys()
    torch.manual_seed(2)
    net = ResNetStages(save({**state, 'fc.bias': torch.zeros(3)}, tmp_path), SHALLOW, 8, True)
    torch.testing.assert_close(net.stem.conv3.weight, state['conv3.weight'])
    torch.testing.assert_close(net.layer4[0].conv3.weight, state['layer4.0.conv3.weight'])


def test_weights_without_deep_stem_leave_only_the_stem_random(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference = torchvision_net().state_dict()
    path = save(reference, tmp_path)
    torch.manual_seed(2)
    with caplog.at_level(logging.WARNING):
        net = ResNetStages(path, SHALLOW, deep_stem=True)
    assert 'has no deep stem' in caplog.text
    state = net.state_dict()
    loaded = {k for k in state if k in reference and torch.equal(state[k], reference[k])}
    left = {k for k in state if k not in loaded}
    random = {'layer1.0.conv1.weight', 'layer1.0.downsample.0.weight'}
    assert left == random | {k for k in state if k.startswith('stem.')}
    assert (net.stem.bn1.running_mean == 0).all()


def test_files_without_batch_counts_are_welcome(tmp_path: Path) -> None:
    state = torchvision_net().state_dict()
    old = {key: value for key, value in state.items() if 'num_batches' not in key}
    net = ResNetStages(save(old, tmp_path), SHALLOW)
    torch.testing.assert_close(net.layer2[0].bn1.running_var, state['layer2.0.bn1.running_var'])


def _drop(state: dict) -> dict:
    return {key: value for key, value in state.items() if not key.startswith('layer4.0.bn3')}


@pytest.mark.parametrize(
    ('change', 'arguments', 'message'),
    [
        (_drop, {}, r'missing: layer4.0.bn3.bias, .*running_var, layer4.0.bn3.weight\)'),
        (lambda s: s | {'extra.weight': torch.zeros(1)}, {}, 'unexpected: extra.weight'),
        (
            lambda s: s | {'layer1.0.conv2.weight': torch.zeros(2, 3, 1, 1)},
            {},
            'misshapen: layer1.0.conv2.weight 2x3x1x1 for 64x64x3x3',
        ),
        (lambda s: s, {'blocks': (1, 1, 2, 1)}, r'missing: layer3.1.bn1.bias.* and \d+ more'),
        (lambda s: s | {'conv2.weight': torch.zeros(1)}, {}, 'unexpected: stem.conv2.weight'),
        (lambda s: {'w': torch.zeros(1)}, {'deep_stem': True}, 'missing: .*; unexpected: w'),
    ],
)
def test_weights_of_another_network_are_refused_by_name(
    change, arguments: dict, message: str, tmp_path: Path
) -> None:
    path = save(change(torchvision_net().state_dict()), tmp_path)
    with pytest.raises(WeightsError, match=f'belongs to another network.*{message}'):
        ResNetStages(path, **{'blocks': SHALLOW, **arguments})


@pytest.mark.parametrize('content', [None, b'', b'not weights at all'])
def test_unreadable_files_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / 'weights.pth'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match='could not read .*give the path of a state dict'):
        ResNetStages(str(path), SHALLOW)


@pytest.mark.parametrize('content', [[1, 2], {'epoch': 3}, {'state_dict': {}}])
def test_files_of_other_things_are_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match='is no state dict'):
        ResNetStages(save(content, tmp_path), SHALLOW)


def test_imagenet_is_torchvisions_checked_download(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = torchvision_net().state_dict()
    asked = {}

    def download(url: str, **arguments: object) -> dict:
        asked.update(arguments, url=url)
        return reference

    monkeypatch.setattr(DOWNLOAD, download)
    net = ResNetStages('imagenet', SHALLOW)
    torch.testing.assert_close(net.stem.conv1.weight, reference['conv1.weight'])
    url = ResNet101_Weights.IMAGENET1K_V1.url
    assert asked == {'url': url, 'progress': True, 'check_hash': True}


@pytest.mark.parametrize(
    'error', [urllib.error.URLError('no network'), RuntimeError('invalid hash value')]
)
def test_a_failed_download_says_what_to_do(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(url: str, **arguments: object) -> dict:
        raise error

    monkeypatch.setattr(DOWNLOAD, download)
    url = ResNet101_Weights.IMAGENET1K_V1.url
    with pytest.raises(WeightsError, match=f'fetch {url} by hand, and give the path'):
        ResNetStages('imagenet', SHALLOW)


def test_frozen_norms_keep_their_weights_but_follow_the_data() -> None:
    net = ResNetStages(blocks=SHALLOW).train()
    freeze_batch_norm_affine(net)
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    # 1 in the stem; 3 in each block; 1 in the skip of each first block.
    assert len(norms) == 1 + 4 * 3 + 4
    assert len(frozen) == 2 * len(norms)
    net(torch.randn(2, 3, 64, 64))
    assert all(norm.num_batches_tracked == 1 for norm in norms)


@pytest.mark.parametrize('deep_stem', [False, True])
def test_gradients_reach_every_parameter(deep_stem: bool) -> None:
    torch.manual_seed(0)
    net = ResNetStages(blocks=SHALLOW, output_stride=8, deep_stem=deep_stem).train()
    (net(torch.randn(2, 3, 32, 32))[-1] ** 2).sum().backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


def test_the_record_builds_the_same_backbone() -> None:
    with torch.device('meta'):
        net = ResNetStages(blocks=SHALLOW, output_stride=16, deep_stem=True)
        again = build(net.config)
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    assert {key: value.shape for key, value in again.state_dict().items()} == shapes
