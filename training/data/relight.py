"""Turn a labelled day frame into night: an image formation model of our own.

Works in linear light. The day frame stands for reflectance; ambient light, headlight cones and
street lamps illuminate it; the sky (known from the labels) goes dark; lamps, windows and car
lights shine and bloom in the lens; the camera exposes, adds shot and read noise and saturates.
Labels stay exact, so day and relit night are perfectly aligned.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.configured import Configured
from nightseg_ros.core import labels as L  # noqa: N812
from training.data.frames import Sample

Array = NDArray[np.float32]

ROAD, BUILDING, VEGETATION, SKY, CAR = 0, 2, 8, 10, 13
_ID = {name: index for index, name in enumerate(L.NAMES)}

LAMP_COLORS = np.array(
    [
        [1.0, 0.62, 0.25],  # high-pressure sodium
        [1.0, 0.78, 0.50],  # warm LED
        [0.95, 1.0, 0.90],  # mercury, greenish
        [0.85, 0.93, 1.0],  # cold LED
    ],
    np.float32,
)
"""Linear RGB of street lighting."""

_SKY_DIFFERENCE = 30.0
"""Difference of 8-bit colours at which a pixel beside the sky is hardly sky any more."""


@dataclass(frozen=True)
class Relight(Configured):
    """Random night relighting of a :class:`Sample`.

    Attributes:
        ambient: range of ambient light relative to day, drawn log-uniformly.
        brightness: range of the mean display brightness that the camera's exposure aims at.
        haze: probability of a luminous veil (mist, a dirty lens, internal reflections).
        noise: upper bound of the sensor noise's standard deviation at black, in display units.
        cast: how far the camera's white balance errs: of red against blue, in natural logarithms.
        motion: probability that the vehicle moves on while the shutter is open.
    """

    ambient: tuple[float, float] = (0.004, 0.12)
    brightness: tuple[float, float] = (0.04, 0.32)
    haze: float = 0.3
    noise: float = 0.05
    cast: float = 0.35
    motion: float = 0.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the frame at night, labels unchanged."""
        image, labels = sample
        reflectance = _linear(image)
        light = self._illumination(labels, rng)
        scene = reflectance * light
        scene = _night_sky(scene, sky_share(image, labels), rng)
        sources = _light_sources(labels, rng)
        scene = scene + sources * np.float32(rng.uniform(1.0, 6.0))
        if rng.random() < self.motion:
            scene = _forward_motion(scene, rng)
        scene = _bloom(scene, rng)
        scene = scene * _white_balance(self.cast, rng)
        display = self._expose(scene, rng)
        if rng.random() < self.haze:
            display = _veil(display, rng)
        display = _blur(display, rng)
        display = self._sensor(display, rng)
        return Sample(np.round(display * 255).astype(np.uint8), labels)

    def _illumination(self, labels: NDArray[np.uint8], rng: np.random.Generator) -> Array:
        """Return linear light [H, W, 3] falling on the scene."""
        height, width = labels.shape
        ambient = np.exp(rng.uniform(*np.log(self.ambient)))
        color = 1 + 0.25 * rng.standard_normal(3).astype(np.float32)
        light = np.empty((height, width, 3), np.float32)
        light[:] = ambient * np.clip(color, 0.4, 1.6)
        x = np.linspace(0, 1, width, dtype=np.float32)[None, :]
        y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        if rng.random() < 0.8:  # own headlights: bright before the car, fading up and sideways
            horizon = rng.uniform(0.4, 0.6)
            centre = rng.uniform(0.4, 0.6)
            spread = rng.uniform(0.15, 0.45) * (0.3 + np.clip(y - horizon, 0, 1) * 1.5)
            cone = np.exp(-(((x - centre) / spread) ** 2))
            reach = 1 / (1 + np.exp(-(y - horizon - 0.02) / rng.uniform(0.015, 0.05)))
            cone = cone * reach * rng.uniform(0.05, 0.5)
            light += cone[..., None] * _lamp_color(rng)
        for _ in range(rng.integers(0, 6)):  # pools of street light
            cx, cy = rng.uniform(0, 1), rng.uniform(0.25, 0.9)
            radius = rng.uniform(0.05, 0.4)
            distance = ((x - cx) / radius) ** 2 + ((y - cy) / (0.6 * radius)) ** 2
            light += (rng.uniform(0.05, 0.5) / (1 + distance))[..., None] * _lamp_color(rng)
        shade = rng.uniform(0.3, 1.0)  # foliage is lit from below and swallows light
        light[labels == VEGETATION] *= shade
        if rng.random() < 0.5:  # lamps hang low: what rises above them stays dark
            top = rng.uniform(0.3, 0.6)
            light *= np.exp(-rng.uniform(0, 3) * np.clip(top - y, 0, 1))[..., None]
        return light

    def _expose(self, scene: Array, rng: np.random.Generator) -> Array:
        """Return display values in [0, 1]: gain towards a mean brightness, then gamma."""
        target = rng.uniform(*self.brightness)
        gamma = rng.uniform(1.8, 2.8)
        # The mean of a clipped, gamma-coded image has no inverse: three fixed-point steps do.
        gain = 1.0
        small = _brightest(scene[::4, ::4])
        for _ in range(3):
            mean = float(np.mean(np.clip(small * gain, 0, 1) ** (1 / gamma)))
            gain *= (target / max(mean, 1e-3)) ** gamma
            gain = float(np.clip(gain, 0.05, 60))
        return cv2.pow(np.clip(scene * np.float32(gain), 0, 1), 1 / gamma)

    def _sensor(self, display: Array, rng: np.random.Generator) -> Array:
        sigma = rng.uniform(0, self.noise)
        shape = display.shape
        if rng.random() < 0.5:  # after demosaicing and denoising, noise is coarse
            coarse = rng.standard_normal((shape[0] // 2, shape[1] // 2, 3), dtype=np.float32)
            noise = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
        else:
            noise = rng.standard_normal(shape, dtype=np.float32)
        grey = ((noise[..., 0] + noise[..., 1] + noise[..., 2]) / 3)[..., None]
        noise = grey + rng.uniform(0.2, 1.0) * (noise - grey)
        return np.clip(display + noise * np.float32(sigma) * (0.4 + cv2.sqrt(display)), 0, 1)


_MAX_GROWTH, _SMEARED = 0.08, 8
"""Most that a picture grows while the shutter is open, and the number of moments it is seen at."""

_LINEAR = (np.arange(256, dtype=np.float32) / 255) ** np.float32(2.2)


def _linear(image: NDArray[np.uint8]) -> Array:
    return _LINEAR[image]


def _brightest(image: Array) -> Array:
    """Return the maximum of the three channels; numpy's own over so short an axis is slow."""
    return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])


def _lamp_color(rng: np.random.Generator) -> Array:
    return LAMP_COLORS[rng.integers(len(LAMP_COLORS))]


def sky_share(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Array:
    """Return how much of each pixel is sky, float [H, W] in [0, 1].

    Labels end a few pixels beside the sky, and in trees they never find it. Near labelled sky, what
    has its colour is sky as well: else a rim of daylight would remain around everything.

    Args:
        image: RGB by day, uint8 [H, W, 3].
        labels: trainIds uint8 [H, W].
    """
    sky = (labels == SKY).astype(np.float32)
    if not sky.any():
        return sky
    reach = 2 * max(2, labels.shape[0] // 40) + 1
    day = image.astype(np.float32)
    weight = cv2.blur(sky, (reach, reach))
    local = cv2.blur(day * sky[..., None], (reach, reach)) / np.maximum(weight, 1e-3)[..., None]
    difference = _brightest(np.abs(day - local))
    alike = np.exp(-((difference / _SKY_DIFFERENCE) ** 2)) * (weight > 1e-3)
    return np.maximum(cv2.GaussianBlur(sky, (0, 0), 1.0), alike)


def _night_sky(scene: Array, sky: Array, rng: np.random.Generator) -> Array:
    """Replace the sky by darkness with a skyglow that grows towards the horizon."""
    if not sky.any():
        return scene
    clear = scene[sky > 0.9]
    sky = sky[..., None]
    height = scene.shape[0]
    # From black to the glow of a city, which long exposures show brighter than any tree.
    level = np.exp(rng.uniform(np.log(5e-4), np.log(0.15)))
    climb = np.linspace(rng.uniform(0.2, 1), 1, height, dtype=np.float32)[:, None, None]
    color = _lamp_color(rng) if rng.random() < 0.5 else np.array([0.5, 0.65, 1.0], np.float32)
    # Keep a little of the clouds.
    texture = scene / max(float(clear.mean()) if clear.size else 1.0, 1e-6)
    texture = 1 + rng.uniform(0, 0.5) * (np.clip(texture, 0, 2) - 1)
    return scene * (1 - sky) + sky * level * climb * color * texture


def _light_sources(labels: NDArray[np.uint8], rng: np.random.Generator) -> Array:
    """Return what shines by itself: street lamps, lit windows, car and traffic lights."""
    height, width = labels.shape
    sources = np.zeros((height, width, 3), np.float32)
    scale = height / 320

    def blob(x: float, y: float, radius: float, color: Array) -> None:
        centre = (int(x * 16), int(y * 16))
        cv2.circle(sources, centre, max(int(radius * 16), 8), color.tolist(), -1, cv2.LINE_AA, 4)

    upper = np.argwhere(np.isin(labels[: int(0.6 * height)], (BUILDING, VEGETATION, SKY, 5)))
    if len(upper):
        for y, x in upper[rng.integers(len(upper), size=rng.integers(0, 8))]:
            blob(x, y, scale * rng.uniform(0.7, 4.5), _lamp_color(rng) * rng.uniform(0.3, 1.5))

    building = labels == BUILDING
    spots = np.argwhere(building)
    if len(spots) and rng.random() < 0.7:
        color = _lamp_color(rng)
        windows = np.zeros_like(sources)
        for y, x in spots[rng.integers(len(spots), size=rng.integers(1, 25))]:
            w, h = scale * rng.uniform(3, 16), scale * rng.uniform(3, 12)
            level = rng.uniform(0.05, 0.6) * color
            cv2.rectangle(windows, (int(x), int(y)), (int(x + w), int(y + h)), level.tolist(), -1)
        sources += windows * building[..., None]

    vehicles = np.isin(labels, (CAR, _ID['truck'], _ID['bus'], _ID['motorcycle']))
    count, _, boxes, _ = cv2.connectedComponentsWithStats(vehicles.astype(np.uint8))
    for x, y, w, h, area in boxes[1:count]:
        if area < 30 * scale * scale or rng.random() < 0.35:
            continue
        facing = rng.random() < 0.5
        color = np.array([1.0, 0.97, 0.9] if facing else [1.0, 0.06, 0.04], np.float32)
        level = rng.uniform(0.5, 3.0) if facing else rng.uniform(0.1, 0.9)
        for side in (0.18, 0.82):
            radius = max(0.06 * w * rng.uniform(0.5, 1.3), 0.8 * scale)
            blob(x + side * w, y + rng.uniform(0.5, 0.7) * h, min(radius, 9 * scale), color * level)

    signals = labels == _ID['traffic light']
    count, _, boxes, _ = cv2.connectedComponentsWithStats(signals.astype(np.uint8))
    for x, y, w, h, _ in boxes[1:count]:
        color, place = [
            (np.array([1.0, 0.1, 0.05], np.float32), 0.2),
            (np.array([1.0, 0.6, 0.1], np.float32), 0.5),
            (np.array([0.1, 1.0, 0.6], np.float32), 0.8),
        ][rng.integers(3)]
        blob(x + w / 2, y + place * h, max(0.3 * w, 1.0), color * rng.uniform(0.5, 2.0))
    return sources


def _forward_motion(scene: Array, rng: np.random.Generator) -> Array:
    """Smear light away from where the vehicle is heading, the more so the nearer it is."""
    height, width = scene.shape[:2]
    heading = np.array([width * rng.uniform(0.3, 0.7), height * rng.uniform(0.35, 0.6)])
    growth = rng.uniform(0.01, _MAX_GROWTH)
    total = np.zeros_like(scene)
    for factor in np.linspace(1, 1 + growth, _SMEARED):
        shift = (1 - factor) * heading
        matrix = np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])
        total += cv2.warpAffine(scene, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return total / np.float32(_SMEARED)


def _bloom(scene: Array, rng: np.random.Generator) -> Array:
    """Add what the lens scatters from bright light: glare at two scales, sometimes streaks."""
    bright = np.clip(scene - 0.3, 0, 8)
    if not bright.any():
        return scene
    height, width = scene.shape[:2]
    small = cv2.resize(bright, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    near = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.8, 2.5))
    far = cv2.GaussianBlur(small, (0, 0), rng.uniform(5, 18))
    glare = near * rng.uniform(0.05, 0.6) + far * rng.uniform(0.1, 1.5)
    if rng.random() < 0.3:
        length = int(rng.integers(9, 41)) | 1
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        c = length // 2
        dx, dy = int(c * np.cos(angle)), int(c * np.sin(angle))
        cv2.line(kernel, (c - dx, c - dy), (c + dx, c + dy), 1.0, 1)
        glare += cv2.filter2D(small, -1, kernel / kernel.sum()) * rng.uniform(0.02, 0.3)
    return scene + cv2.resize(glare, (width, height), interpolation=cv2.INTER_LINEAR)


def _white_balance(cast: float, rng: np.random.Generator) -> Array:
    """Return a colour cast: cameras neither agree nor succeed at night."""
    temperature = rng.uniform(-cast, cast)
    green = rng.uniform(-0.1, 0.2)
    return np.exp(np.array([temperature, green, -temperature], np.float32))


def _veil(display: Array, rng: np.random.Generator) -> Array:
    color = np.clip(_lamp_color(rng) + 0.15 * rng.standard_normal(3), 0.3, 1).astype(np.float32)
    level = np.float32(rng.uniform(0.03, 0.35))
    return display * (1 - level) + level * color


def _blur(display: Array, rng: np.random.Generator) -> Array:
    choice = rng.random()
    if choice < 0.3:
        return cv2.GaussianBlur(display, (0, 0), rng.uniform(0.4, 1.4))
    if choice < 0.4:
        length = int(rng.integers(3, 9))
        # Its running sums end a little below zero behind a lamp, and noise takes the root of it.
        return np.maximum(cv2.blur(display, (length, 1)), 0)
    return display
