"""The 19 Cityscapes classes: the one place where ids, names and colours are written.

Source: the Cityscapes data set's label definition (Cordts et al., 2016). Static and dynamic
follow DANNet (section 3.4): trainIds 0..10 are static, 11..18 dynamic.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

NUM_CLASSES = 19
UNLABELLED = 255
"""trainId of pixels without a class ("ignore" in training)."""


@dataclass(frozen=True)
class SemanticClass:
    """One class: Cityscapes labelId and trainId, name, RGB palette colour, whether it moves."""

    label_id: int
    train_id: int
    name: str
    color: tuple[int, int, int]

    @property
    def dynamic(self) -> bool:
        """Whether the class moves (trainId above 10)."""
        return self.train_id > 10


CLASSES: tuple[SemanticClass, ...] = (
    SemanticClass(7, 0, 'road', (128, 64, 128)),
    SemanticClass(8, 1, 'sidewalk', (244, 35, 232)),
    SemanticClass(11, 2, 'building', (70, 70, 70)),
    SemanticClass(12, 3, 'wall', (102, 102, 156)),
    SemanticClass(13, 4, 'fence', (190, 153, 153)),
    SemanticClass(17, 5, 'pole', (153, 153, 153)),
    SemanticClass(19, 6, 'traffic light', (250, 170, 30)),
    SemanticClass(20, 7, 'traffic sign', (220, 220, 0)),
    SemanticClass(21, 8, 'vegetation', (107, 142, 35)),
    SemanticClass(22, 9, 'terrain', (152, 251, 152)),
    SemanticClass(23, 10, 'sky', (70, 130, 180)),
    SemanticClass(24, 11, 'person', (220, 20, 60)),
    SemanticClass(25, 12, 'rider', (255, 0, 0)),
    SemanticClass(26, 13, 'car', (0, 0, 142)),
    SemanticClass(27, 14, 'truck', (0, 0, 70)),
    SemanticClass(28, 15, 'bus', (0, 60, 100)),
    SemanticClass(31, 16, 'train', (0, 80, 100)),
    SemanticClass(32, 17, 'motorcycle', (0, 0, 230)),
    SemanticClass(33, 18, 'bicycle', (119, 11, 32)),
)

NAMES: tuple[str, ...] = tuple(c.name for c in CLASSES)


@dataclass(frozen=True)
class VoidClass:
    """A class that Cityscapes labels but does not evaluate: labelId, name, RGB palette colour."""

    label_id: int
    name: str
    color: tuple[int, int, int]


VOID_CLASSES: tuple[VoidClass, ...] = (
    VoidClass(0, 'unlabeled', (0, 0, 0)),
    VoidClass(1, 'ego vehicle', (0, 0, 0)),
    VoidClass(2, 'rectification border', (0, 0, 0)),
    VoidClass(3, 'out of roi', (0, 0, 0)),
    VoidClass(4, 'static', (0, 0, 0)),
    VoidClass(5, 'dynamic', (111, 74, 0)),
    VoidClass(6, 'ground', (81, 0, 81)),
    VoidClass(9, 'parking', (250, 170, 160)),
    VoidClass(10, 'rail track', (230, 150, 140)),
    VoidClass(14, 'guard rail', (180, 165, 180)),
    VoidClass(15, 'bridge', (150, 100, 100)),
    VoidClass(16, 'tunnel', (150, 120, 90)),
    VoidClass(18, 'polegroup', (153, 153, 153)),
    VoidClass(29, 'caravan', (0, 0, 90)),
    VoidClass(30, 'trailer', (0, 0, 110)),
    VoidClass(-1, 'license plate', (0, 0, 142)),
)
"""In colours a pole group cannot be told from a pole, nor a license plate from a car."""


def _table(pairs: list[tuple[int, int]]) -> NDArray[np.uint8]:
    table = np.full(256, UNLABELLED, np.uint8)
    for source, target in pairs:
        table[source] = target
    table.setflags(write=False)
    return table


LABEL_ID_TO_TRAIN_ID = _table([(c.label_id, c.train_id) for c in CLASSES])
"""uint8 [256]: labelId -> trainId, 255 where a labelId is not evaluated."""

TRAIN_ID_TO_LABEL_ID = _table([(c.train_id, c.label_id) for c in CLASSES])
"""uint8 [256]: trainId -> labelId, 255 where there is none."""

STATIC_TRAIN_IDS: tuple[int, ...] = tuple(c.train_id for c in CLASSES if not c.dynamic)
DYNAMIC_TRAIN_IDS: tuple[int, ...] = tuple(c.train_id for c in CLASSES if c.dynamic)


def _palette() -> NDArray[np.uint8]:
    palette = np.zeros((256, 3), np.uint8)
    for c in CLASSES:
        palette[c.train_id] = c.color
    palette.setflags(write=False)
    return palette


PALETTE = _palette()
"""uint8 [256, 3]: RGB colour of each trainId; black for everything that is no class."""


def colorize(
    train_ids: NDArray[np.uint8], out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Return the palette colours, RGB uint8 [H, W, 3], of a uint8 [H, W] trainId mask.

    Args:
        train_ids: the mask.
        out: written and returned instead of a new array.
    """
    # Eight times as fast as indexing the palette; it does not care which colour comes first.
    return cv2.applyColorMap(train_ids, PALETTE[:, np.newaxis], dst=out)
