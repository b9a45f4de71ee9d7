"""Sky that a teacher's labels deny.

Networks take a white sky between leaves for leaves or walls: in the labels that come with
RoadScene's days every fourth pixel of it. Relit to night, such a frame would teach that what is
bright and even above the trees is a tree.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.labels import NAMES
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED

SKY = NAMES.index('sky')

_LEAST = 0.005
"""Share of a frame from which labelled sky tells the sky's colours."""

_COMMON = 0.01
"""Share of the sky from which a colour (16 levels a channel) is one of the sky's."""

_EVEN = 10
"""Difference from the neighbourhood (0..255) up to which a pixel is even."""

_WHITE = 225
"""Level of all channels from which a pixel is white."""

_MISTAKEN = np.zeros(256, bool)
_MISTAKEN[[NAMES.index(n) for n in ('building', 'wall', 'fence', 'vegetation', 'terrain')]] = True
_MISTAKEN[[*range(NUM_CLASSES, 256)]] = True
"""Labels that a sky may have got. Poles, lights and vehicles before it are not mistaken for it."""


def mend_sky(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return labels that say sky where a frame by day plainly shows it.

    Even regions in the colours of the labelled sky, which touch it and lie no lower, become sky.
    Even white in the upper half that is called something else is probably sky: it becomes
    unlabelled.

    Args:
        image: RGB by day, uint8 [H, W, 3].
        labels: trainIds uint8 [H, W], 255 = ignore.
    """
    smooth = cv2.GaussianBlur(image, (0, 0), 1.2)
    texture = cv2.absdiff(smooth, cv2.blur(smooth, (7, 7))).max(axis=2)
    open_to_doubt = (texture < _EVEN) & _MISTAKEN[labels]
    sky = labels == SKY
    mended = labels.copy()
    white = open_to_doubt & (smooth.min(axis=2) >= _WHITE)
    white[len(white) // 2 :] = False
    mended[white] = UNLABELLED
    if sky.mean() >= _LEAST:
        missed = open_to_doubt & _has_colours_of(smooth, sky)
        missed[np.flatnonzero(sky.any(axis=1)).max() + 1 :] = False
        missed = cv2.morphologyEx(missed.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3)))
        _, regions = cv2.connectedComponents((missed.astype(bool) | sky).astype(np.uint8))
        mended[np.isin(regions, np.unique(regions[sky]))] = SKY
    return mended


def _has_colours_of(image: NDArray[np.uint8], region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where a frame has one of the colours that are common in a region."""
    red, green, blue = cv2.split(image >> 4)
    colour = (red.astype(np.int32) << 8) | (green.astype(np.int32) << 4) | blue
    return (np.bincount(colour[region], minlength=4096) >= _COMMON * region.sum())[colour]
