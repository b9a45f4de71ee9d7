"""A drive along a street that never was, by day and by night, with exact labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.simulation.canvas import TRAIN_ID
from nightseg_ros.simulation.canvas import Array
from nightseg_ros.simulation.canvas import Camera
from nightseg_ros.simulation.canvas import Canvas
from nightseg_ros.simulation.canvas import Color
from nightseg_ros.simulation.street import LANE
from nightseg_ros.simulation.street import Street

FIRST_STAMP_NS = 1_000_000_000
"""A stamp of zero means "no stamp"."""

SMALLEST = 64


@dataclass(frozen=True)
class DriveFrame:
    """One moment of the drive.

    Attributes:
        night: RGB uint8 [H, W, 3].
        day: the same scene through the same camera by day, RGB uint8 [H, W, 3].
        labels: trainIds uint8 [H, W] of both.
        stamp_ns: in nanoseconds.
    """

    night: NDArray[np.uint8]
    day: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    stamp_ns: int


class NightDrive:
    """A drive that anybody can render again: frame ``i`` depends on seed, size and rate alone.

    Args:
        width: of the frames in pixels.
        height: of the frames in pixels.
        seed: another street for each.
        rate_hz: frames per second.

    Raises:
        ValueError: frames smaller than 64 pixels, or a rate that is not positive.
    """

    def __init__(
        self, width: int = 640, height: int = 384, *, seed: int = 0, rate_hz: float = 10.0
    ) -> None:
        if min(width, height) < SMALLEST:
            raise ValueError(f'frames must be at least {SMALLEST} pixels, got {width}x{height}')
        if rate_hz <= 0:
            raise ValueError(f'rate_hz must be above 0, got {rate_hz}')
        self.width = width
        self.height = height
        self.seed = seed
        self.rate_hz = rate_hz
        self._street = Street(seed)

    def frame(self, index: int) -> DriveFrame:
        """Return frame ``index``, 0 or more.

        Raises:
            ValueError: when it is negative.
        """
        if index < 0:
            raise ValueError(f'frames count from 0, got {index}')
        seconds = index / self.rate_hz
        camera = Camera(self.width, self.height, LANE)
        canvas = Canvas(camera)
        lamps = self._street.paint(canvas, seconds)
        rng = np.random.default_rng([self.seed, 99, index])
        return DriveFrame(
            night=night_view(canvas, lamps, rng),
            day=day_view(canvas, rng),
            labels=canvas.labels,
            stamp_ns=FIRST_STAMP_NS + round(seconds * 1e9),
        )

    def frames(self, count: int) -> Iterator[DriveFrame]:
        """Yield the first ``count`` frames."""
        for index in range(count):
            yield self.frame(index)


def day_view(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the canvas by daylight: haze with distance, a bright sky, little noise."""
    height = canvas.camera.height
    sky = canvas.labels == TRAIN_ID['sky']
    fade = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    heaven = (
        np.array([0.45, 0.6, 0.9], np.float32) * (1 - fade)
        + np.array([0.85, 0.88, 0.9], np.float32) * fade
    )
    haze = np.exp(-canvas.distance / 350)[..., None]
    scene = canvas.reflectance * 1.5 * haze + (1 - haze) * np.array([0.75, 0.78, 0.82], np.float32)
    scene = np.where(sky[..., None], heaven, scene)
    return _develop(scene, rng, noise=0.006)


def night_view(
    canvas: Canvas, lamps: list[tuple[float, float, float, Color]], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the canvas by night: headlights, street lamps, whatever shines, and its glare."""
    sky = canvas.labels == TRAIN_ID['sky']
    light = _illumination(canvas, lamps)
    scene = canvas.reflectance * light + canvas.light
    climb = np.linspace(0.2, 1, canvas.camera.height, dtype=np.float32)[:, None, None]
    glow = np.array([0.010, 0.009, 0.010], np.float32) * climb
    scene = np.where(sky[..., None], glow, scene)
    return _develop(_glare(scene) * 0.5, rng, noise=0.02)


def _illumination(canvas: Canvas, lamps: list[tuple[float, float, float, Color]]) -> Array:
    """Return the light falling on each pixel, linear RGB, computed at half resolution."""
    camera = canvas.camera
    z = canvas.distance[::2, ::2]
    v = np.arange(0, camera.height, 2, dtype=np.float32)[:, None]
    u = np.arange(0, camera.width, 2, dtype=np.float32)[None]
    across = (u - np.float32(camera.cx)) / camera.focal
    down = (v - np.float32(camera.horizon)) / camera.focal
    x = camera.x + across * z
    y = camera.HEIGHT - down * z
    light = np.empty((*z.shape, 3), np.float32)
    light[:] = (0.010, 0.012, 0.018)
    beam = np.exp(-((across / 0.34) ** 2)) / (1 + np.exp(-(down - 0.004) / 0.012))
    beam = beam * 3.0 / (1 + (z / 9) ** 1.6)
    light += beam[..., None] * np.array([1.0, 0.94, 0.82], np.float32)
    for lamp_x, lamp_y, lamp_z, color in lamps:
        squared = (x - lamp_x) ** 2 + (y - lamp_y) ** 2 + (z - lamp_z) ** 2
        shine = 14 / (6 + squared)
        shine *= y < lamp_y + 0.5  # lamps shine downwards
        light += shine[..., None] * np.array(color, np.float32)
    return cv2.resize(light, (camera.width, camera.height), interpolation=cv2.INTER_LINEAR)


def _glare(scene: Array) -> Array:
    """Add what the lens scatters: a tight and a wide halo around bright light."""
    height, width = scene.shape[:2]
    size = (max(width // 4, 1), max(height // 4, 1))
    bright = cv2.resize(np.clip(scene - 0.6, 0, 12), size, interpolation=cv2.INTER_AREA)
    scale = width / 640
    near = cv2.GaussianBlur(bright, (0, 0), 1.3 * scale)
    far = cv2.GaussianBlur(bright, (0, 0), 7 * scale)
    halo = 0.35 * near + 0.5 * far
    return scene + cv2.resize(halo, (width, height), interpolation=cv2.INTER_LINEAR)


def _develop(scene: Array, rng: np.random.Generator, noise: float) -> NDArray[np.uint8]:
    """Return what the camera stores: gamma, sensor noise, saturation."""
    display = cv2.pow(np.clip(scene, 0, 1), 1 / 2.2)
    display = cv2.GaussianBlur(display, (0, 0), 0.6)
    grain = rng.standard_normal(display.shape, dtype=np.float32)
    display = display + grain * noise
    return np.clip(display * 255 + 0.5, 0, 255).astype(np.uint8)
