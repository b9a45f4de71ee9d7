"""The street: what stands and moves where, endless and the same whenever one looks."""

from __future__ import annotations

import cv2
import numpy as np

from nightseg_ros.simulation.canvas import TRAIN_ID
from nightseg_ros.simulation.canvas import Array
from nightseg_ros.simulation.canvas import Canvas
from nightseg_ros.simulation.canvas import Color

ROAD = 5.0
"""Half the road's width, in metres."""

SIDEWALK = 8.5
"""From the middle of the road to the buildings."""

CELL = 12.0
"""Length of one lot along the street."""

VIEW = 170.0
"""How far the street is drawn."""

NEAREST = 2.5
"""What is nearer than this is beside the camera and not drawn."""

SPEED = 7.0
"""Of the camera, in m/s."""

LANE = 1.8
"""The camera drives this far right of the middle."""

WARM: Color = (1.0, 0.72, 0.38)
COLD: Color = (0.85, 0.95, 1.0)


class Street:
    """Paints the street as seen after some seconds of driving.

    Args:
        seed: another street for each.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        rng = np.random.default_rng([seed, 7])
        self._grain = _tileable_noise(rng, 256)

    def _rng(self, kind: int, index: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, kind, index % (1 << 31)])

    def paint(self, canvas: Canvas, seconds: float) -> list[tuple[float, float, float, Color]]:
        """Paint everything and return the lamps: x, y, z and colour of those in view."""
        position = SPEED * seconds
        self._ground(canvas, position)
        lamps: list[tuple[float, float, float, Color]] = []
        things = []
        first = int(position // CELL) - 1
        for lot in range(first, first + int(VIEW / CELL) + 2):
            z = lot * CELL - position
            for side in (-1, 1):
                # By its far end: what stands before a facade is painted after it.
                things.append((z + CELL, self._lot, (lot, side, z)))
                things += self._furniture(lot, side, z, lamps)
        things += self._traffic(seconds, position)
        for z, paint, arguments in sorted(things, key=lambda thing: -thing[0]):
            if z < VIEW + CELL:
                paint(canvas, *arguments)
        return [lamp for lamp in lamps if lamp[2] < 70]

    # Ground

    def _ground(self, canvas: Canvas, position: float) -> None:
        camera = canvas.camera
        top = int(np.ceil(camera.horizon + 1))
        v = np.arange(top, camera.height, dtype=np.float32)[:, None]
        u = np.arange(camera.width, dtype=np.float32)[None]
        z = camera.focal * camera.HEIGHT / (v - np.float32(camera.horizon))
        offset = (u - np.float32(camera.cx)) * z / camera.focal
        x: Array = (camera.x + offset).astype(np.float32)
        z = np.broadcast_to(z, x.shape)
        along = z + np.float32(position)
        side = np.abs(x)
        names = np.full(x.shape, TRAIN_ID['sidewalk'], np.uint8)
        names[side < ROAD] = TRAIN_ID['road']
        names[side > SIDEWALK + 1] = TRAIN_ID['terrain']
        grain = self._sample(x, along, 3.0)
        coarse = self._sample(x, along, 0.25)
        fade = np.clip(14 / z, 0, 1)
        texture = (1 + 0.5 * fade * (grain - 0.5) + 0.4 * (coarse - 0.5))[..., None]
        color = np.empty((*x.shape, 3), np.float32)
        color[names == TRAIN_ID['road']] = (0.10, 0.10, 0.105)
        color[names == TRAIN_ID['sidewalk']] = (0.24, 0.23, 0.21)
        color[names == TRAIN_ID['terrain']] = (0.10, 0.15, 0.05)
        slabs = (along % 1.5 < 0.06) | (x % 1.5 < 0.06)
        color[slabs & (names == TRAIN_ID['sidewalk']) & (z < 25)] *= 0.7
        color[np.abs(side - ROAD) < 0.12] = (0.34, 0.33, 0.31)  # kerb
        dashed = (np.abs(x) < 0.09) & (along % 9 < 4)
        edges = np.abs(side - (ROAD - 2.1)) < 0.06
        crossing = (along % 84 < 3.2) & (side < ROAD - 0.4) & (x % 1.1 < 0.55)
        markings = dashed | edges | crossing
        color[markings] = (0.62, 0.61, 0.57)
        canvas.reflectance[top:] = color * texture
        canvas.labels[top:] = names
        canvas.distance[top:] = z
        # Between the horizon and the first row that reaches the ground it is far away.
        far = slice(int(camera.horizon), top)
        canvas.labels[far] = TRAIN_ID['road']
        canvas.reflectance[far] = (0.1, 0.1, 0.1)
        canvas.distance[far] = 300

    def _sample(self, x: Array, z: Array, per_metre: float) -> Array:
        scale = np.float32(per_metre * 16)
        size = self._grain.shape[0]
        columns = np.ascontiguousarray((x * scale) % (size - 1), np.float32)
        rows = np.ascontiguousarray((z * scale) % (size - 1), np.float32)
        return cv2.remap(self._grain, columns, rows, cv2.INTER_LINEAR)

    # Beside the road

    def _lot(self, canvas: Canvas, lot: int, side: int, z: float) -> None:
        rng = self._rng(10 + side, lot)
        near, far = max(z, NEAREST), z + CELL
        if far <= NEAREST + 0.5:
            return
        kind = rng.random()
        x = side * SIDEWALK
        if kind < 0.68:
            self._building(canvas, rng, x, side, z, near, far)
        elif kind < 0.8:
            texture = _plain(rng, (0.30, 0.26, 0.22), 16, 96)
            canvas.wall(x, near, far, rng.uniform(1.2, 2.2), 'wall', texture, None)
        elif kind < 0.9:
            texture = _plain(rng, (0.16, 0.15, 0.14), 16, 96)
            texture[:, ::6] *= 0.3
            canvas.wall(x, near, far, rng.uniform(1.0, 1.6), 'fence', texture, None)
        for step in range(4 if kind >= 0.68 else 0):  # a park behind walls and fences
            depth = z + CELL * (3.5 - step) / 4
            if depth > NEAREST:
                _tree(canvas, rng, x + side * rng.uniform(1, 5), depth, rng.uniform(4, 8))

    def _building(
        self,
        canvas: Canvas,
        rng: np.random.Generator,
        x: float,
        side: int,
        z: float,
        near: float,
        far: float,
    ) -> None:
        height = rng.uniform(7, 22)
        base = rng.choice([(0.3, 0.22, 0.17), (0.34, 0.32, 0.28), (0.2, 0.2, 0.22)])
        texture, light = _facade(rng, tuple(base * rng.uniform(0.7, 1.2)), height)
        # What lies beside the camera is cut off, and so is that part of the facade.
        cut = int(texture.shape[1] * (near - z) / (far - z))
        canvas.wall(
            x, near, far, height, 'building', texture[:, cut:].copy(), light[:, cut:].copy()
        )
        if z > NEAREST:  # the end that faces the camera
            corners = [(0.0, 0.0), (side * 14.0, 0.0), (side * 14.0, height), (0.0, height)]
            canvas.billboard(corners, x, z, 'building', tuple(base * 0.6))

    def _furniture(self, lot: int, side: int, z: float, lamps: list) -> list:
        rng = self._rng(20 + side, lot)
        things = []

        def add(depth: float, paint, *arguments) -> None:
            if depth > NEAREST:
                things.append((depth, paint, (*arguments, depth)))

        if lot % 2 == (side > 0):
            color = WARM if self._seed % 2 == 0 else COLD
            depth = z + 3
            if depth > -5:
                lamps.append((side * (ROAD - 0.8), 6.4, depth, color))
            add(depth, _lamp, side, color)
        if rng.random() < 0.45:
            tree = (side * (SIDEWALK - 1.2), rng.uniform(4, 7), int(rng.integers(1 << 30)))
            add(z + rng.uniform(5, 8), _street_tree, *tree)
        if rng.random() < 0.25:
            add(z + 9.5, _sign, side * (ROAD + 0.6), int(rng.integers(3)))
        if lot % 7 == 0:
            add(z + 1.0, _traffic_light, side * (ROAD + 0.5), int(lot // 7) % 3)
        if rng.random() < 0.4:
            look = (_car_color(rng), int(rng.integers(2)))
            add(z + rng.uniform(2, 5), _parked_car, side * (ROAD - 1.1), *look)
        return things

    # What moves

    def _traffic(self, seconds: float, position: float) -> list:
        things = []

        def add(z: float, paint, *arguments) -> None:
            if NEAREST < z < VIEW:
                things.append((z, paint, (*arguments, z)))

        # Ahead: keeps its distance, more or less.
        rng = self._rng(30, 0)
        leader = 17 + 5 * np.sin(0.25 * seconds + rng.uniform(0, 6))
        add(leader, _vehicle, LANE, 'car', _car_color(rng), False)
        add(leader + 26, _vehicle, LANE, 'truck', (0.4, 0.4, 0.42), False)
        # Oncoming, at the same speed: they pass twice as fast.
        gap, speed = 34.0, 7.0
        first = int((position + speed * seconds) // gap)
        for index in range(first - 1, first + int(2 * VIEW / gap)):
            rng = self._rng(31, index)
            z = index * gap + rng.uniform(-8, 8) - speed * seconds - position
            kind = rng.choice(['car', 'car', 'car', 'car', 'bus', 'motorcycle'])
            paint = _motorcycle if kind == 'motorcycle' else _vehicle
            add(z, paint, -LANE, kind, _car_color(rng), True)
        # People walk on the sidewalks, in both directions.
        for side in (-1, 1):
            gap = 14.0
            for index in range(int(position // gap) - 2, int((position + VIEW) // gap) + 2):
                rng = self._rng(40 + side, index)
                pace = rng.choice([-1.3, 1.3])
                z = index * gap + rng.uniform(0, 10) + pace * (seconds % 40) - position
                x = side * rng.uniform(ROAD + 0.8, SIDEWALK - 0.8)
                add(z, _person, x, seconds, int(rng.integers(1 << 30)))
        # One crosses now and then, one cycles at the kerb.
        for index in range(int(position // 84), int((position + VIEW) // 84) + 1):
            rng = self._rng(50, index)
            z = index * 84 + 1.5 - position
            x = (rng.uniform(0, 12) + 1.3 * seconds) % 16 - 8
            if z > 9:
                add(z, _person, x, seconds, int(rng.integers(1 << 30)))
        rider = (40 - 3.0 * seconds) % 120
        add(rider, _cyclist, ROAD - 0.6)
        return things


# Things: canvas, what they need, distance last


def _lamp(canvas: Canvas, side: int, color: Color, z: float) -> None:
    x = side * (ROAD + 0.4)
    grey = (0.12, 0.12, 0.12)
    canvas.billboard([(-0.09, 0), (0.09, 0), (0.06, 6.5), (-0.06, 6.5)], x, z, 'pole', grey)
    arm = [(0, 6.4), (-side * 1.3, 6.5), (-side * 1.3, 6.62), (0, 6.55)]
    canvas.billboard(arm, x, z, 'pole', grey)
    light = tuple(14 * c for c in color)
    head = [(-side * 0.7, 6.36), (-side * 1.5, 6.42), (-side * 1.5, 6.6), (-side * 0.7, 6.6)]
    canvas.billboard(head, x, z, 'pole', (0.8, 0.8, 0.8), light)


def _tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float, height: float) -> None:
    bark, green = (0.07, 0.05, 0.03), np.array([0.06, 0.10, 0.03])
    trunk = [(-0.16, 0), (0.16, 0), (0.11, 0.6 * height), (-0.11, 0.6 * height)]
    canvas.billboard(trunk, x, z, 'vegetation', bark)
    for _ in range(26):
        dx, dy = rng.normal(0, 0.16 * height), rng.normal(0.72 * height, 0.13 * height)
        color = tuple(green * rng.uniform(0.5, 1.6))
        radius = height * rng.uniform(0.05, 0.13)
        canvas.disc(x + dx, max(dy, 1.2), z, radius, 'vegetation', color)


def _street_tree(canvas: Canvas, x: float, height: float, seed: int, z: float) -> None:
    _tree(canvas, np.random.default_rng(seed), x, z, height)


def _sign(canvas: Canvas, x: float, kind: int, z: float) -> None:
    canvas.billboard([(-0.04, 0), (0.04, 0), (0.04, 2.4), (-0.04, 2.4)], x, z, 'pole', (0.2,) * 3)
    color = ((0.5, 0.03, 0.03), (0.04, 0.1, 0.5), (0.6, 0.5, 0.05))[kind]
    canvas.disc(x, 2.6, z, 0.38, 'traffic sign', (0.75, 0.75, 0.75))
    canvas.disc(x, 2.6, z, 0.3, 'traffic sign', color)


def _traffic_light(canvas: Canvas, x: float, phase: int, z: float) -> None:
    canvas.billboard([(-0.07, 0), (0.07, 0), (0.07, 2.6), (-0.07, 2.6)], x, z, 'pole', (0.1,) * 3)
    box = [(-0.2, 2.5), (0.2, 2.5), (0.2, 3.5), (-0.2, 3.5)]
    canvas.billboard(box, x, z, 'traffic light', (0.03, 0.03, 0.03))
    lights = (((0.9, 0.08, 0.04), 3.3), ((0.9, 0.5, 0.05), 3.0), ((0.08, 0.8, 0.45), 2.7))
    for index, (color, y) in enumerate(lights):
        shining = tuple(5 * c for c in color) if index == phase else None
        canvas.disc(x, y, z, 0.11, 'traffic light', color, shining)


def _car_color(rng: np.random.Generator) -> Color:
    colors = [(0.5, 0.5, 0.5), (0.05, 0.05, 0.06), (0.3, 0.03, 0.03), (0.04, 0.08, 0.25)]
    return colors[rng.integers(len(colors))]


def _parked_car(canvas: Canvas, x: float, color: Color, kind: int, z: float) -> None:
    _body(canvas, x, z, 'car', color, 1.75, 1.45 + 0.15 * kind, None)


def _vehicle(canvas: Canvas, x: float, name: str, color: Color, oncoming: bool, z: float) -> None:
    width, height = {'car': (1.8, 1.5), 'truck': (2.4, 3.3), 'bus': (2.5, 3.1)}[name]
    light = (11.0, 10.4, 9.2) if oncoming else (5.0, 0.16, 0.10)
    _body(canvas, x, z, name, color, width, height, light)


def _body(
    canvas: Canvas,
    x: float,
    z: float,
    name: str,
    color: Color,
    width: float,
    height: float,
    light: Color | None,
) -> None:
    """Paint a vehicle seen from its end: shadow, flank, wheels, body, window, lamps."""
    w = width / 2
    shade = tuple(0.55 * c for c in color)
    # The flank towards the camera, and with it a vehicle's length.
    back = z + (4.2 if name == 'car' else 8.0)
    belt = 0.62 * height if name == 'car' else height
    edge = x - np.sign(x - canvas.camera.x + 1e-6) * w
    flank = [(edge, 0.3, z), (edge, 0.3, back), (edge, belt, back), (edge, belt, z)]
    canvas.polygon(canvas.camera.polygon(flank), name, shade, z)
    shadow = [(-w, 0.0), (w, 0.0), (w, 0.35), (-w, 0.35)]
    canvas.billboard(shadow, x, z, name, (0.015, 0.015, 0.015))
    for wheel in (-w + 0.05, w - 0.3):
        tyre = [(wheel, 0), (wheel + 0.25, 0), (wheel + 0.25, 0.5), (wheel, 0.5)]
        canvas.billboard(tyre, x, z, name, (0.02, 0.02, 0.02))
    if name == 'car':
        roof = [(-w, 0.88), (-0.72 * w, height), (0.72 * w, height), (w, 0.88)]
        canvas.billboard(roof, x, z, name, color)
        glass = [(-0.85 * w, 0.9), (-0.66 * w, height - 0.1), (0.66 * w, height - 0.1)]
        canvas.billboard([*glass, (0.85 * w, 0.9)], x, z, name, (0.05, 0.06, 0.07))
        top = 0.92
    else:
        top = height
    body = [(-w, 0.28), (w, 0.28), (w, top), (-w, top)]
    canvas.billboard(body, x, z, name, color)
    if name == 'bus':
        glass = [(-0.9 * w, 1.3), (0.9 * w, 1.3), (0.9 * w, 2.6), (-0.9 * w, 2.6)]
        canvas.billboard(glass, x, z, name, (0.1, 0.1, 0.1), (0.16, 0.15, 0.11))
    plate = [(-0.26, 0.4), (0.26, 0.4), (0.26, 0.52), (-0.26, 0.52)]
    canvas.billboard(plate, x, z, name, (0.6, 0.6, 0.55))
    for lamp in (-w + 0.25, w - 0.25):
        canvas.disc(x + lamp, 0.7, z, 0.11, name, (0.5, 0.4, 0.4), light)


def _motorcycle(
    canvas: Canvas, x: float, name: str, color: Color, oncoming: bool, z: float
) -> None:
    wheel = [(-0.09, 0), (0.09, 0), (0.09, 0.7), (-0.09, 0.7)]
    canvas.billboard(wheel, x, z, 'motorcycle', (0.02, 0.02, 0.02))
    frame = [(-0.25, 0.45), (0.25, 0.45), (0.38, 1.0), (-0.38, 1.0)]
    canvas.billboard(frame, x, z, 'motorcycle', color)
    _torso(canvas, x, z, 'rider', (0.08, 0.08, 0.1), bottom=0.85)
    light = (9.0, 8.5, 7.5) if oncoming else (2.0, 0.1, 0.05)
    canvas.disc(x, 0.85, z, 0.1, 'motorcycle', (0.6, 0.6, 0.6), light)


def _torso(
    canvas: Canvas, x: float, z: float, name: str, color: Color, bottom: float = 0.8
) -> None:
    shoulders = [(-0.16, bottom), (0.16, bottom), (0.24, bottom + 0.58), (-0.24, bottom + 0.58)]
    canvas.billboard(shoulders, x, z, name, color)
    canvas.disc(x, bottom + 0.74, z, 0.13, name, (0.35, 0.24, 0.18))


def _person(canvas: Canvas, x: float, seconds: float, seed: int, z: float) -> None:
    rng = np.random.default_rng(seed)
    coat = tuple(rng.uniform(0.02, 0.35, 3) * rng.uniform(0.3, 1))
    trousers = tuple(rng.uniform(0.02, 0.12, 3))
    stride = 0.16 * np.sin(5.5 * seconds + rng.uniform(0, 6))
    for foot in (stride, -stride):
        leg = [(foot - 0.07, 0), (foot + 0.07, 0), (0.1, 0.86), (-0.1, 0.86)]
        canvas.billboard(leg, x, z, 'person', trousers)
    _torso(canvas, x, z, 'person', coat)


def _cyclist(canvas: Canvas, x: float, z: float) -> None:
    wheel = [(-0.05, 0), (0.05, 0), (0.05, 0.7), (-0.05, 0.7)]
    canvas.billboard(wheel, x, z, 'bicycle', (0.03, 0.03, 0.03))
    handlebar = [(-0.3, 0.9), (0.3, 0.9), (0.3, 0.98), (-0.3, 0.98)]
    canvas.billboard(handlebar, x, z, 'bicycle', (0.15, 0.15, 0.15))
    _torso(canvas, x, z, 'rider', (0.3, 0.28, 0.03), bottom=0.75)
    canvas.disc(x, 0.6, z, 0.05, 'bicycle', (0.4, 0.02, 0.02), (1.6, 0.05, 0.03))


# Textures


def _tileable_noise(rng: np.random.Generator, size: int) -> Array:
    """Return noise of several scales in [0, 1], float32 [size, size], that repeats seamlessly."""
    noise = np.zeros((size, size), np.float32)
    for scale in (1, 2, 6, 16):
        octave = rng.standard_normal((size, size)).astype(np.float32)
        tiled = cv2.GaussianBlur(np.tile(octave, (3, 3)), (0, 0), scale)
        octave = tiled[size : 2 * size, size : 2 * size]
        noise += octave / octave.std()
    return np.clip(0.5 + noise / 8, 0, 1)


def _plain(rng: np.random.Generator, color: Color, rows: int, columns: int) -> Array:
    texture = np.empty((rows, columns, 3), np.float32)
    texture[:] = color
    return texture * rng.uniform(0.8, 1.2, (rows, columns, 1)).astype(np.float32)


def _facade(rng: np.random.Generator, base: Color, height: float) -> tuple[Array, Array]:
    """Return the texture and the lit windows of a facade, 8 pixels to the metre."""
    rows, columns = int(8 * height), int(8 * CELL)
    texture = _plain(rng, base, rows, columns)
    light = np.zeros_like(texture)
    storey, window = 26, int(rng.integers(10, 15))
    glow = np.array(WARM if rng.random() < 0.7 else COLD, np.float32)
    occupied = rng.uniform(0.1, 0.5)
    for top in range(6, rows - 34, storey):
        for left in range(5, columns - window, window + int(rng.integers(6, 9))):
            pane = (slice(top, top + 13), slice(left, left + window - 2))
            texture[pane] = (0.06, 0.07, 0.08)
            if rng.random() < occupied:
                light[pane] = glow * rng.uniform(0.25, 1.1)
                texture[pane] = 0.3 * glow
    if rng.random() < 0.35 and rows > 40:  # a shop on the ground floor
        pane = (slice(rows - 22, rows - 4), slice(8, columns - 8))
        texture[pane] = (0.1, 0.1, 0.1)
        light[pane] = glow * rng.uniform(0.5, 1.4)
        light[pane][:, ::17] *= 0.2
    return texture, light
