"""What the street is painted on: reflectance, light, distance and labels, always together."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.labels import NAMES

Array = NDArray[np.float32]
Color = tuple[float, ...]
"""Linear RGB."""

TRAIN_ID = {name: index for index, name in enumerate(NAMES)}


class Camera:
    """A pinhole camera looking along Z, X to the right, Y up; metres.

    Args:
        width: of the image in pixels.
        height: of the image in pixels.
        x: where it is across the street.
    """

    HEIGHT = 1.4
    """Above the ground, in metres."""

    def __init__(self, width: int, height: int, x: float) -> None:
        self.width = width
        self.height = height
        self.x = x
        self.focal = 0.75 * width
        self.cx = 0.5 * width
        self.horizon = 0.46 * height

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Return the pixel (u, v) of a point."""
        return (
            self.cx + self.focal * (x - self.x) / z,
            self.horizon + self.focal * (self.HEIGHT - y) / z,
        )

    def polygon(self, points: list[tuple[float, float, float]]) -> NDArray[np.int32]:
        """Return the pixels of a polygon's corners, int32 [N, 2]."""
        pixels = np.array([self.project(*p) for p in points])
        return np.clip(np.round(pixels), -30000, 30000).astype(np.int32)


class Canvas:
    """Layers of one frame, painted from far to near without anti-aliasing, so that they agree.

    Attributes:
        reflectance: linear RGB [H, W, 3], 0..1.
        light: linear RGB that shines by itself at night, [H, W, 3].
        distance: Z in metres [H, W].
        labels: trainIds uint8 [H, W].
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        shape = (camera.height, camera.width)
        self.reflectance: Array = np.zeros((*shape, 3), np.float32)
        self.light: Array = np.zeros((*shape, 3), np.float32)
        self.distance: Array = np.full(shape, 1e4, np.float32)
        self.labels: NDArray[np.uint8] = np.full(shape, TRAIN_ID['sky'], np.uint8)

    def polygon(
        self,
        pixels: NDArray[np.int32],
        name: str,
        color: Color,
        z: float,
        light: Color | None = None,
    ) -> None:
        """Paint a filled polygon of a class at one distance; ``light`` makes it shine."""
        cv2.fillPoly(self.labels, [pixels], TRAIN_ID[name])
        cv2.fillPoly(self.reflectance, [pixels], color)
        cv2.fillPoly(self.distance, [pixels], z)
        cv2.fillPoly(self.light, [pixels], light or (0.0, 0.0, 0.0))

    def billboard(
        self,
        corners: list[tuple[float, float]],
        x: float,
        z: float,
        name: str,
        color: Color,
        light: Color | None = None,
    ) -> None:
        """Paint a polygon that faces the camera; corners are (across, up) in metres from x."""
        pixels = self.camera.polygon([(x + dx, y, z) for dx, y in corners])
        self.polygon(pixels, name, color, z, light)

    def disc(
        self,
        x: float,
        y: float,
        z: float,
        radius: float,
        name: str,
        color: Color,
        light: Color | None = None,
    ) -> None:
        """Paint a disc that faces the camera, at least a pixel large."""
        u, v = self.camera.project(x, y, z)
        if abs(u) > 20000 or abs(v) > 20000:
            return
        centre = (round(u), round(v))
        pixels = max(round(self.camera.focal * radius / z), 1)
        cv2.circle(self.labels, centre, pixels, TRAIN_ID[name], -1)
        cv2.circle(self.reflectance, centre, pixels, color, -1)
        cv2.circle(self.distance, centre, pixels, z, -1)
        cv2.circle(self.light, centre, pixels, light or (0.0, 0.0, 0.0), -1)

    def wall(
        self,
        x: float,
        near: float,
        far: float,
        top: float,
        name: str,
        texture: Array,
        light: Array | None,
    ) -> None:
        """Paint an upright wall along the street, textured in perspective.

        Args:
            x: across the street.
            near: its nearer end, in front of the camera.
            far: its farther end.
            top: its height.
            name: its class.
            texture: linear RGB [h, w, 3], the left column at the nearer end, row 0 on top.
            light: what shines at night, of the texture's size, or None.
        """
        camera = self.camera
        corners = [(x, top, near), (x, top, far), (x, 0.0, far), (x, 0.0, near)]
        pixels = np.array([camera.project(*c) for c in corners], np.float32)
        left = int(np.clip(np.floor(pixels[:, 0].min()), 0, camera.width))
        right = int(np.clip(np.ceil(pixels[:, 0].max()) + 1, 0, camera.width))
        up = int(np.clip(np.floor(pixels[:, 1].min()), 0, camera.height))
        down = int(np.clip(np.ceil(pixels[:, 1].max()) + 1, 0, camera.height))
        if right <= left or down <= up:
            return
        area = (slice(up, down), slice(left, right))
        outline = np.zeros((down - up, right - left), np.uint8)
        shifted = pixels - np.array([left, up], np.float32)
        cv2.fillPoly(outline, [np.clip(np.round(shifted), -30000, 30000).astype(np.int32)], 1)
        inside = outline > 0
        h, w = texture.shape[:2]
        warp = cv2.getPerspectiveTransform(
            np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32), shifted
        )
        size = (right - left, down - up)

        def warped(picture: Array) -> Array:
            return cv2.warpPerspective(picture, warp, size, borderMode=cv2.BORDER_REPLICATE)

        columns = np.arange(left, right, dtype=np.float32) - camera.cx
        offset = x - camera.x
        z = camera.focal * offset / np.where(np.abs(columns) < 1, np.sign(offset), columns)
        z = np.broadcast_to(np.clip(z, near, far), inside.shape)
        self.labels[area][inside] = TRAIN_ID[name]
        self.reflectance[area][inside] = warped(texture)[inside]
        self.light[area][inside] = 0 if light is None else warped(light)[inside]
        self.distance[area][inside] = z[inside]
