"""Make labelled frames look like real night frames: their colours, their low frequencies.

What a night model of our own does not know about cameras, unlabelled night frames do: the green
cast of one, the yellow veil of another. Labels stay as they are.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from models.configured import Configured
from training.data.frames import list_images
from training.data.frames import read_rgb

_SIZE = (192, 128)
"""Width and height at which night frames are kept in memory."""


class _Night(NamedTuple):
    image: NDArray[np.uint8]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]


class NightStyle(Configured):
    """Gives frames the colours or the low frequencies of a random real night frame.

    Args:
        folders: folders of night frames (``images/`` of unlabelled sets; never those that measure).
        statistics: probability of taking over mean and deviation of each channel in CIELAB
            (Reinhard et al., 2001), partly or wholly.
        fourier: probability of taking over the amplitudes of the lowest frequencies (FDA: Yang and
            Soatto, CVPR 2020).
        band: range of the half width of the square of frequencies taken over, relative to the
            shorter side.
    """

    def __init__(
        self,
        folders: list[str],
        statistics: float = 0.3,
        fourier: float = 0.15,
        band: tuple[float, float] = (0.005, 0.05),
    ) -> None:
        self.folders = [Path(folder) for folder in folders]
        self.statistics = statistics
        self.fourier = fourier
        self.band = tuple(band)

    @cached_property
    def nights(self) -> list[_Night]:
        """The night frames, small; read when first used.

        Raises:
            DataError: when a folder is missing or empty.
        """
        paths = [path for folder in self.folders for path in list_images(folder)]
        nights = []
        for path in track(paths, 'reading night frames'):
            image = cv2.resize(read_rgb(path), _SIZE, interpolation=cv2.INTER_AREA)
            nights.append(_Night(image, *_statistics(_to_lab(image))))
        return nights

    def __call__(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return an RGB image uint8 [H, W, 3], restyled or as it was."""
        draw = rng.random()
        if draw < self.statistics:
            return take_statistics(image, self._any(rng), rng.uniform(0.3, 1.0))
        if draw < self.statistics + self.fourier:
            return take_amplitudes(image, self._any(rng).image, rng.uniform(*self.band))
        return image

    def _any(self, rng: np.random.Generator) -> _Night:
        return self.nights[rng.integers(len(self.nights))]


def take_statistics(image: NDArray[np.uint8], night: _Night, strength: float) -> NDArray[np.uint8]:
    """Return an image with the mean and deviation of a night frame's channels in CIELAB.

    Args:
        image: RGB uint8 [H, W, 3].
        night: whose statistics.
        strength: 0 keeps the image, 1 takes them over wholly.
    """
    lab = _to_lab(image)
    mean, std = _statistics(lab)
    gain = np.clip(night.std / np.maximum(std, 1e-3), 0.2, 4)
    target = (lab - mean) * gain + night.mean
    return _to_rgb(lab + np.float32(strength) * (target - lab))


def take_amplitudes(
    image: NDArray[np.uint8], night: NDArray[np.uint8], band: float
) -> NDArray[np.uint8]:
    """Return an image with the amplitudes of a night frame's lowest frequencies, its own phases.

    Args:
        image: RGB uint8 [H, W, 3].
        night: RGB uint8 of any size.
        band: half width of the square of frequencies, relative to the shorter side.
    """
    height, width = image.shape[:2]
    night = cv2.resize(night, (width, height), interpolation=cv2.INTER_LINEAR)
    spectrum = np.fft.rfft2(image.astype(np.float32), axes=(0, 1))
    wanted = np.abs(np.fft.rfft2(night.astype(np.float32), axes=(0, 1)))
    reach = max(1, round(min(height, width) * band))
    for rows in (slice(0, reach), slice(height - reach + 1, height)):
        low = spectrum[rows, :reach]
        spectrum[rows, :reach] = wanted[rows, :reach] * np.exp(1j * np.angle(low))
    restyled = np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    return np.clip(np.round(restyled), 0, 255).astype(np.uint8)


def _to_lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def _to_rgb(lab: NDArray[np.float32]) -> NDArray[np.uint8]:
    rgb = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.clip(np.round(rgb * 255), 0, 255).astype(np.uint8)


def _statistics(lab: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean, std = cv2.meanStdDev(lab)
    return mean.ravel().astype(np.float32), std.ravel().astype(np.float32)
