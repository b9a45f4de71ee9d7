from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from training.losses.light import LightLoss
from training.losses.light import exposure_control
from training.losses.light import exposure_control_official
from training.losses.light import ssim
from training.losses.light import ssim_loss
from training.losses.light import ssim_loss_official
from training.losses.light import total_variation
from training.losses.light import total_variation_official


def example() -> Tensor:
    """Return one image of 2x3 in one channel: rows (0 1 3) and (2 2 2)."""
    return torch.tensor([[[[0.0, 1, 3], [2, 2, 2]]]])


def test_total_variation_by_hand() -> None:
    # Down: 2^2 + 1^2 + 1^2 = 6. Across: 1^2 + 2^2 = 5. Six pixels.
    assert total_variation(example()).item() == pytest.approx(11 / 6)


def test_total_variation_of_two_images_and_channels() -> None:
    x = example().repeat(2, 3, 1, 1)
    assert total_variation(x).item() == pytest.approx(3 * 11 / 6)


def test_official_total_variation_by_hand() -> None:
    # Down: 6 over (2-1)*3 differences. Across: 5 over 2*(3-1). Twice, for one image.
    assert total_variation_official(example()).item() == pytest.approx(2 * (6 / 3 + 5 / 4))
    two = example().repeat(2, 3, 1, 1)
    assert total_variation_official(two).item() == pytest.approx(3 * 2 * (6 / 3 + 5 / 4))


def test_constant_images_have_no_variation() -> None:
    x = torch.full((2, 3, 8, 8), 0.7)
    assert total_variation(x) == 0
    assert total_variation_official(x) == 0


def halves(level: float) -> Tensor:
    """Return 32x64: the left half at ``level``, the right half a checkerboard of 0 and 1."""
    x = torch.full((1, 3, 32, 64), level)
    x[..., 32:] = (torch.arange(32)[:, None] + torch.arange(32)) % 2
    return x


def test_exposure_control_by_hand() -> None:
    # The means are 0.2 and 0.5; wanted is 0.4.
    got = exposure_control(halves(0.2), torch.tensor(0.4))
    assert got.item() == pytest.approx((0.2 + 0.1) / 2, rel=1e-4)
    got = exposure_control_official(halves(0.2), torch.tensor(0.4))
    assert got.item() == pytest.approx((0.04 + 0.01) / 2, rel=1e-4)


def test_official_exposure_is_of_the_grey_image() -> None:
    x = torch.zeros(1, 3, 32, 32)
    x[:, 0], x[:, 2] = 1, -1
    level = torch.tensor(0.0)
    assert exposure_control_official(x, level).item() == pytest.approx(0, abs=1e-6)
    assert exposure_control(x, level).item() == pytest.approx(2 / 3)


def test_exposure_needs_a_pool_of_pixels() -> None:
    with pytest.raises(ValueError, match='32x32 pixels, but the crop is 16x64: crop larger'):
        exposure_control(torch.zeros(1, 3, 16, 64), torch.tensor(0.0))


def test_ssim_of_constants_by_hand() -> None:
    a, b = torch.full((1, 1, 5, 5), 0.2), torch.full((1, 1, 5, 5), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    torch.testing.assert_close(ssim(a, b), torch.full((1, 1, 5, 5), expected), rtol=1e-3, atol=0)
    assert ssim_loss(a, b).item() == pytest.approx((1 - expected) / 2, rel=1e-3)
    assert ssim_loss_official(a, b).item() == pytest.approx((1 - expected) / 2, rel=1e-3)


def test_ssim_in_the_middle_of_a_3x3_by_hand() -> None:
    a = torch.arange(9.0).view(1, 1, 3, 3) / 10
    b = 2 * a
    mean, var = 0.4, (torch.arange(9.0) / 10).var(correction=0).item()
    expected = (2 * mean * 2 * mean + 1e-4) * (2 * 2 * var + 9e-4)
    expected /= (mean**2 + 4 * mean**2 + 1e-4) * (var + 4 * var + 9e-4)
    assert ssim(a, b)[0, 0, 1, 1].item() == pytest.approx(expected, rel=1e-4)


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_ssim_is_one_with_itself_and_symmetric(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, 1, 3, 6, 7, generator=generator)
    torch.testing.assert_close(ssim(a, a), torch.ones_like(a), atol=1e-3, rtol=0)
    torch.testing.assert_close(ssim(a, b), ssim(b, a))
    assert ssim_loss(a, a).item() == pytest.approx(0, abs=1e-3)


@pytest.fixture
def domain() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(2, 3, 64, 64, generator=generator)
    residual = 0.3 * torch.randn(2, 3, 64, 64, generator=generator)
    night = torch.randn(2, 3, 64, 64, generator=generator)
    return image, residual, night


def test_light_loss_is_equation_6(domain: tuple[Tensor, Tensor, Tensor]) -> None:
    image, residual, night = domain
    light = LightLoss('dannet')
    level = light.level(night)
    assert level.shape == (2, 1, 1, 1)
    torch.testing.assert_close(level.flatten(), night.flatten(1).mean(1))
    expected = (
        10 * total_variation(-residual)
        + exposure_control(image + residual, level)
        + ssim_loss(image, image + residual)
    )
    torch.testing.assert_close(light(image, residual, level), expected)


def test_bimix_compares_with_the_residual(domain: tuple[Tensor, Tensor, Tensor]) -> None:
    image, residual, night = domain
    light = LightLoss('bimix', exposure=0)
    expected = 10 * total_variation(image - residual) + ssim_loss(image, residual)
    torch.testing.assert_close(light(image, residual, light.level(night)), expected)


def test_official_light_loss(domain: tuple[Tensor, Tensor, Tensor]) -> None:
    image, residual, night = domain
    light = LightLoss('official')
    level = light.level(night)
    torch.testing.assert_close(level, night.mean())
    expected = (
        10 * total_variation_official(residual)
        + exposure_control_official(image + residual, level)
        + ssim_loss_official(image, image + residual)
    )
    torch.testing.assert_close(light(image, residual, level), expected)
