from __future__ import annotations

import pytest
import torch
from torch import nn

from models.configured import build
from models.relighting import BRIGHTEST
from models.relighting import DARKEST
from models.relighting import CurveRelighting
from models.relighting import ResidualBlock
from models.relighting import ResidualRelighting
from models.relighting import enhance

NETS = [ResidualRelighting, CurveRelighting]


def enhance_one(value: float, curves: list[float]) -> float:
    x = torch.full((1, 3, 1, 1), value)
    return enhance(x, [torch.full_like(x, curve) for curve in curves]).flatten()[0].item()


def test_parameters_of_residual_relighting() -> None:
    down = (3 * 64 * 49 + 2 * 64) + (64 * 128 * 9 + 2 * 128) + (128 * 256 * 9 + 2 * 256)
    blocks = 3 * 2 * (256 * 256 * 9 + 2 * 256)
    up = (256 * 128 * 9 + 2 * 128) + (128 * 64 * 9 + 2 * 64) + (64 * 3 * 49 + 3)
    with torch.device('meta'):
        total = sum(p.numel() for p in ResidualRelighting().parameters())
    assert total == down + blocks + up == 4_299_395


def test_parameters_of_curve_relighting() -> None:
    convs = [(3, 32), (32, 32), (32, 32), (32, 32), (64, 32), (64, 32), (64, 24)]
    total = sum(p.numel() for p in CurveRelighting().parameters())
    assert total == sum(i * o * 9 + o for i, o in convs) == 79_416


@pytest.mark.parametrize('kind', NETS)
@pytest.mark.parametrize('size', [(8, 8), (12, 20), (16, 8)])
@pytest.mark.parametrize('training', [True, False])
def test_the_residual_has_the_shape_of_the_image(kind: type, size: tuple, training: bool) -> None:
    net = kind().train(training)
    assert net(torch.randn(2, 3, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize('kind', NETS)
def test_gradients_reach_every_parameter(kind: type) -> None:
    torch.manual_seed(0)
    net = kind().train()
    net(torch.randn(2, 3, 16, 16)).square().sum().backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


@pytest.mark.parametrize(
    ('height', 'width', 'remedy'),
    [(10, 8, '12x8'), (8, 9, '8x12'), (4, 8, '8x8'), (8, 4, '8x8'), (2, 2, '8x8')],
)
def test_other_sizes_are_refused_with_the_next_valid_size(
    height: int, width: int, remedy: str
) -> None:
    with pytest.raises(ValueError, match=f'got {height}x{width}.*to {remedy}$'):
        ResidualRelighting()(torch.zeros(1, 3, height, width))


def test_curve_relighting_takes_any_size() -> None:
    assert CurveRelighting()(torch.randn(1, 3, 7, 5)).shape == (1, 3, 7, 5)


def test_residual_relighting_is_bounded_by_tanh() -> None:
    net = ResidualRelighting().eval()
    nn.init.constant_(net.layers[-2].bias, 50)
    assert net(torch.randn(1, 3, 8, 8)).eq(1).all()


def test_residual_block_ends_without_relu() -> None:
    block = ResidualBlock(2).eval()
    nn.init.zeros_(block.body[-1].weight)
    nn.init.constant_(block.body[-1].bias, -1)
    x = torch.zeros(1, 2, 4, 4)
    assert block(x).eq(-1).all()


@pytest.mark.parametrize('kind', NETS)
def test_silent_weights_leave_the_image_alone(kind: type) -> None:
    net = kind().eval()
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    assert net(torch.randn(1, 3, 8, 8)).eq(0).all()


@pytest.mark.parametrize('kind', NETS)
def test_convolutions_start_small(kind: type) -> None:
    torch.manual_seed(0)
    for module in kind().modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.15)
            assert module.bias is None or (module.bias == 0).all()


def test_one_step_by_hand() -> None:
    # Step 1: .5 + .4 (.25 - .5) = .4; the residual of the last: .5 (.16 - .4) = -.12.
    assert enhance_one(0.5, [0.4, 0, 0, 0, 0, 0, 0, 0.5]) == pytest.approx(-0.12)


@pytest.mark.parametrize('step', range(7))
def test_all_steps_but_the_fourth_are_clamped(step: int) -> None:
    curves = [0.0] * 7 + [1.0]
    curves[step] = 1.0
    bent = 2.5 + (2.5**2 - 2.5)  # 6.25: bright beyond white
    # The clamp of the fifth step catches what the fourth leaves, so the fourth is seen inside it.
    expected = BRIGHTEST**2 - BRIGHTEST
    assert enhance_one(2.5, curves) == pytest.approx(expected)
    if step == 3:
        curves[4] = -0.1
        inside = bent - 0.1 * (bent**2 - bent)  # 2.97 were it not clamped, of 6.25
        clamped = BRIGHTEST - 0.1 * (BRIGHTEST**2 - BRIGHTEST)  # 2.21 had the fourth been clamped
        assert inside > BRIGHTEST > clamped
        assert enhance_one(2.5, curves) == pytest.approx(expected)


def test_dark_values_are_clamped_too() -> None:
    # -2 - (4 + 2) = -8, clamped.
    expected = DARKEST**2 - DARKEST
    assert enhance_one(-2.0, [-1.0, 0, 0, 0, 0, 0, 0, 1.0]) == pytest.approx(expected)


def test_the_last_residual_is_not_clamped() -> None:
    assert enhance_one(2.5, [0.0] * 7 + [1.0]) == pytest.approx(2.5**2 - 2.5)


def test_curves_diverge_without_clamps_and_stay_finite_with_them() -> None:
    assert abs(enhance_one(-2.0, [1.0] * 8)) < 10
    x = -2.0
    for _ in range(8):
        x = x - (x**2 - x)
    assert abs(x) > 1e6


def test_limits_are_black_and_white_of_normalised_images() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert min(-m / s for m, s in zip(mean, std, strict=True)) == pytest.approx(DARKEST, abs=1e-4)
    assert max((1 - m) / s for m, s in zip(mean, std, strict=True)) == pytest.approx(BRIGHTEST)


def test_each_curve_has_three_channels_in_order() -> None:
    net = CurveRelighting().eval()
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    bias = torch.zeros(24)
    bias[21:] = torch.tensor([0.1, 0.2, 0.3])  # r8, for red, green and blue
    net.conv7.bias.data = bias
    got = net(torch.full((1, 3, 1, 1), 2.0)).flatten()
    torch.testing.assert_close(got, torch.tanh(bias[21:]) * 2)


def test_skip_connections_reach_the_later_layers() -> None:
    net = CurveRelighting().eval()
    image = torch.randn(1, 3, 6, 6)
    x1 = net.conv1(image).relu()
    x2 = net.conv2(x1).relu()
    x3 = net.conv3(x2).relu()
    x4 = net.conv4(x3).relu()
    x5 = net.conv5(torch.cat([x3, x4], 1)).relu()
    x6 = net.conv6(torch.cat([x2, x5], 1)).relu()
    torch.testing.assert_close(net.curves(image), net.conv7(torch.cat([x1, x6], 1)).tanh())


@pytest.mark.parametrize('kind', NETS)
def test_the_record_builds_the_same_network(kind: type) -> None:
    net = kind()
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    again = build(net.config).state_dict()
    assert {key: value.shape for key, value in again.items()} == shapes
