"""The light loss of DANNet (section 3.4) and Bi-Mix (equations 6 to 9), on normalised images."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.configured import Configured
from training.data.frames import DataError

POOL = 32
"""Side of the average pooling of the exposure loss."""


def total_variation(difference: Tensor) -> Tensor:
    """Return the sum of squared gradients over the number of pixels (DANNet, equation 3).

    Args:
        difference: I - R, [N, 3, H, W]; channels are summed.
    """
    rows = (difference[..., 1:, :] - difference[..., :-1, :]).square().sum()
    columns = (difference[..., 1:] - difference[..., :-1]).square().sum()
    pixels = difference.shape[0] * difference.shape[-2] * difference.shape[-1]
    return (rows + columns) / pixels


def total_variation_official(residual: Tensor) -> Tensor:
    """Return 2 (sum dh^2 / ((H-1) W) + sum dw^2 / (H (W-1))) / N of r = R - I (DANNet's code)."""
    count, _, height, width = residual.shape
    rows = (residual[..., 1:, :] - residual[..., :-1, :]).square().sum()
    columns = (residual[..., 1:] - residual[..., :-1]).square().sum()
    return 2 * (rows / ((height - 1) * width) + columns / (height * (width - 1))) / count


def exposure_control(relit: Tensor, level: Tensor) -> Tensor:
    """Return the mean distance of 32 x 32 means from the wanted level (DANNet, equation 4).

    Args:
        relit: R, [N, 3, H, W], sides of at least 32.
        level: E, a scalar or [N, 1, 1, 1].
    """
    return (_pooled(relit) - level).abs().mean()


def exposure_control_official(relit: Tensor, level: Tensor) -> Tensor:
    """Return the mean square of the same over the grey image (DANNet's code)."""
    return (_pooled(relit.mean(dim=1, keepdim=True)) - level).square().mean()


def _pooled(x: Tensor) -> Tensor:
    if min(x.shape[-2:]) < POOL:
        raise DataError(
            f'the exposure loss averages over {POOL}x{POOL} pixels, but the crop is '
            f'{x.shape[-2]}x{x.shape[-1]}: crop larger'
        )
    return F.avg_pool2d(x, POOL)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return structural similarity with a 3x3 block filter, [N, C, H, W] (Godard et al., 2017).

    C1 = 0.01^2, C2 = 0.03^2, borders reflected.
    """
    c1, c2 = 0.01**2, 0.03**2

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode='reflect'), 3, stride=1)

    mean_a, mean_b = mean(a), mean(b)
    var_a = mean(a * a) - mean_a.square()
    var_b = mean(b * b) - mean_b.square()
    covariance = mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return luminance * (2 * covariance + c2) / (var_a + var_b + c2)


def ssim_loss(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of |1 - SSIM| / 2 (DANNet, equation 5)."""
    return (1 - ssim(a, b)).abs().mean() / 2


def ssim_loss_official(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of (1 - SSIM) / 2 clamped to [0, 1] (DANNet's code)."""
    return ((1 - ssim(a, b)) / 2).clamp(0, 1).mean()


class LightLoss(Configured):
    """Light loss L_light (DANNet, equation 6), L_enhance (Bi-Mix, equation 9).

    Args:
        form: ``dannet`` and ``bimix`` are the papers, ``official`` is both codes. ``dannet``:
            TV of I - R, L1 exposure with E of each night image, SSIM of I and R. ``bimix``: the
            same but TV and SSIM compare I with the residual f(I) itself (I_re of the paper).
            ``official``: TV of the residual, squared exposure of the grey image with E of the
            whole night batch, SSIM of I and R clamped.
        tv: alpha_tv.
        exposure: alpha_exp.
        ssim: alpha_ssim.
        target_weight: beta_1 of the loss on day and night.
        source_weight: the same on the source (1.0 in the official code).
    """

    def __init__(
        self,
        form: Literal['dannet', 'bimix', 'official'] = 'dannet',
        tv: float = 10.0,
        exposure: float = 1.0,
        ssim: float = 1.0,
        target_weight: float = 0.01,
        source_weight: float = 0.01,
    ) -> None:
        self.form = form
        self.tv = tv
        self.exposure = exposure
        self.ssim = ssim
        self.target_weight = target_weight
        self.source_weight = source_weight

    def level(self, night: Tensor) -> Tensor:
        """Return E of normalised night images [N, 3, H, W]: a scalar, or one each [N, 1, 1, 1]."""
        if self.form == 'official':
            return night.mean()
        return night.mean(dim=(1, 2, 3), keepdim=True)

    def __call__(self, image: Tensor, residual: Tensor, level: Tensor) -> Tensor:
        """Return the loss of one domain, before its weight.

        Args:
            image: I, normalised [N, 3, H, W].
            residual: r of R = I + r.
            level: E of :meth:`level`.
        """
        relit = image + residual
        if self.form == 'official':
            return (
                self.tv * total_variation_official(residual)
                + self.exposure * exposure_control_official(relit, level)
                + self.ssim * ssim_loss_official(relit, image)
            )
        compared = residual if self.form == 'bimix' else relit
        return (
            self.tv * total_variation(image - compared)
            + self.exposure * exposure_control(relit, level)
            + self.ssim * ssim_loss(image, compared)
        )
