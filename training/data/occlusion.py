"""What stands between the camera and the road: the own vehicle, and blocks that hide a frame.

The frames here were taken from behind clean windscreens. On a car or a motorcycle the camera sees
its bonnet, tank, handlebar and mirrors as well, and a network that never did takes the asphalt
beside them for a vehicle.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.configured import Configured
from nightseg_ros.core.labels import UNLABELLED
from training.data.frames import Sample

Coverage = NDArray[np.uint8]
"""How much of each pixel a part covers, 0..255, [H, W]."""

Point = tuple[float, float] | NDArray[np.float64]
"""x, y."""

_DARK, _POLISHED = 0.7, 0.4
"""Shares of parts that are nearly black, and that mirror the scene."""

_SUBPIXELS = 4
"""Bits of OpenCV's fixed-point coordinates."""


@dataclass(frozen=True)
class OwnVehicle(Configured):
    """Draws a vehicle's own parts into the lower part of a :class:`Sample`.

    Shapes and materials are random: none is a model of a vehicle. What they cover is unlabelled.
    To be used by day, before :class:`~training.data.relight.Relight` lights them, too.

    Attributes:
        bonnet: probability of a bonnet or dashboard along the lower edge.
        handlebar: probability of a motorcycle's or a bicycle's handlebar, tank, mirrors and arms.
    """

    bonnet: float = 0.1
    handlebar: float = 0.1

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the frame with own parts, or as it is."""
        choice = rng.random()
        if choice >= self.bonnet + self.handlebar:
            return sample
        image, labels = sample.image.copy(), sample.labels.copy()
        draw = _bonnet if choice < self.bonnet else _handlebar
        for shape in draw(labels.shape, rng):
            _paint(image, shape, rng)
            labels[shape > 0] = UNLABELLED
        return Sample(image, labels)


@dataclass(frozen=True)
class HiddenBlocks(Configured):
    """Hides random blocks of a frame; labels stay, so that what surrounds a block must tell.

    Masked images as in MIC (Hoyer et al., CVPR 2023), but of labelled frames.

    Attributes:
        probability: share of frames with hidden blocks.
        ratio: most blocks that are hidden, as a share of all.
        block: range of a block's side, as a share of the frame's height.
    """

    probability: float = 0.25
    ratio: float = 0.4
    block: tuple[float, float] = (0.08, 0.3)

    def __call__(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return the RGB frame uint8 [H, W, 3] with blocks of black or of its mean colour."""
        if rng.random() >= self.probability:
            return image
        height, width = image.shape[:2]
        side = max(1, round(height * rng.uniform(*self.block)))
        grid = rng.random((-(-height // side), -(-width // side))) < rng.uniform(0, self.ratio)
        hidden = np.repeat(np.repeat(grid, side, axis=0), side, axis=1)[:height, :width]
        colour = image.mean(axis=(0, 1)) if rng.random() < 0.5 else 0
        return np.where(hidden[..., None], colour, image).astype(np.uint8)


def _bonnet(size: tuple[int, int], rng: np.random.Generator) -> list[Coverage]:
    """Return the arch of a bonnet, and sometimes that of a dashboard."""
    height, width = size
    centre = width * rng.uniform(0.35, 0.65)
    shapes = []
    for _ in range(rng.integers(1, 3)):
        rise = height * rng.uniform(0.04, 0.25)
        half = width * rng.uniform(0.45, 0.9)
        shapes.append(_ellipse(size, (centre, height), (half, rise)))
    return shapes


def _handlebar(size: tuple[int, int], rng: np.random.Generator) -> list[Coverage]:
    """Return tank, bar, arms, mirrors and instruments."""
    height, width = size
    centre = width * rng.uniform(0.35, 0.65)
    level = height * rng.uniform(0.6, 0.95)
    reach = width * rng.uniform(0.2, 0.45)
    tank = (width * rng.uniform(0.06, 0.2), height * rng.uniform(0.08, 0.35))
    bow = height * rng.uniform(-0.1, 0.15)
    thickness = max(2, round(height * rng.uniform(0.015, 0.05)))
    x = np.linspace(-1, 1, 24)
    bar = np.stack([centre + reach * x, level + bow * x**2], axis=1)
    shapes = [_ellipse(size, (centre, height), tank), _line(size, bar, thickness)]
    for side in (-1, 1):
        grip = np.array([centre + side * reach, level + bow])
        if rng.random() < 0.7:  # arm and glove
            shoulder = [centre + side * width * rng.uniform(0.4, 0.7), height * 1.05]
            arm = max(3, round(height * rng.uniform(0.06, 0.14)))
            shapes.append(_line(size, np.array([grip, shoulder]), arm))
        if rng.random() < 0.7:  # mirror on its rod
            foot = grip - [side * reach * rng.uniform(0.1, 0.5), 0]
            head = foot + [side * width * rng.uniform(0, 0.12), -height * rng.uniform(0.02, 0.2)]
            rod = _line(size, np.array([foot, head]), max(1, thickness // 3))
            glass = (width * rng.uniform(0.02, 0.06), height * rng.uniform(0.02, 0.06))
            shapes.append(np.maximum(rod, _ellipse(size, head, glass, rng.uniform(-40, 40))))
    for _ in range(rng.integers(0, 4)):  # instruments, phone, cables
        at = (centre + width * rng.uniform(-0.1, 0.1), level + height * rng.uniform(-0.1, 0.1))
        axes = (width * rng.uniform(0.01, 0.05), height * rng.uniform(0.01, 0.07))
        shapes.append(_ellipse(size, at, axes, rng.uniform(-90, 90)))
    return shapes


def _ellipse(
    size: tuple[int, int], centre: Point, axes: tuple[float, float], degrees: float = 0
) -> Coverage:
    at, half = (
        tuple(max(0, round(float(v) * (1 << _SUBPIXELS))) for v in pair) for pair in (centre, axes)
    )
    mask = np.zeros(size, np.uint8)
    return cv2.ellipse(mask, at, half, degrees, 0, 360, 255, -1, cv2.LINE_AA, _SUBPIXELS)


def _line(size: tuple[int, int], points: NDArray[np.float64], thickness: int) -> Coverage:
    fixed = np.round(points * (1 << _SUBPIXELS)).astype(np.int32)
    mask = np.zeros(size, np.uint8)
    return cv2.polylines(mask, [fixed], False, 255, thickness, cv2.LINE_AA, _SUBPIXELS)


def _paint(image: NDArray[np.uint8], coverage: Coverage, rng: np.random.Generator) -> None:
    """Paint a shape in place: dark or coloured, shaded, sometimes with the scene in its polish."""
    left, top, width, height = cv2.boundingRect(coverage)
    if not width:
        return
    box = np.s_[top : top + height, left : left + width]
    colour = rng.uniform(0, 50, 3) if rng.random() < _DARK else rng.uniform(0, 255, 3)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / len(image)
    angle = rng.uniform(0, 2 * np.pi)
    shade = np.sin(rng.uniform(2, 12) * (np.cos(angle) * x + np.sin(angle) * y) + angle)
    material = colour.astype(np.float32) + np.float32(rng.uniform(0, 40)) * shade[..., None]
    if rng.random() < _POLISHED:
        share = np.float32(rng.uniform(0.1, 0.7))
        scene = cv2.GaussianBlur(image[::-1][box], (0, 0), 2.0)
        material = (1 - share) * material + share * scene
    alpha = coverage[box][..., None].astype(np.float32) / 255
    image[box] = np.clip(image[box] + alpha * (material - image[box]), 0, 255).astype(np.uint8)
