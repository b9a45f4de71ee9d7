"""Nighttime Driving, a test set."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from training.data.matching import Files
from training.data.matching import ReleasedSet


class NighttimeDriving(ReleasedSet):
    """Nighttime Driving test (Dai and Van Gool, ITSC 2018): 50 frames, 1920x1080, coarse labels.

    ``ROOT/leftImg8bit/test/night/*_leftImg8bit.png`` with
    ``ROOT/gtCoarse_daytime_trainvaltest/test/night/*_gtCoarse_labelTrainIds.png``, as
    NighttimeDrivingTest.zip unpacks. Corrected labels of the same names exist (Lengyel et al.,
    CIConv, ICCV 2021): results on them are not comparable, so say which were used.

    Args:
        root: folder with ``leftImg8bit/``.
        split: ``test``, there is no other.
        check_counts: refuse another number of frames.
        cache: keep decoded frames in memory (8 MB each).
    """

    counts = {'test': 50}
    source = (
        'unpack NighttimeDrivingTest.zip (http://people.ee.ethz.ch/~daid/NightDriving) so that '
        'leftImg8bit and gtCoarse_daytime_trainvaltest lie in the root'
    )

    def __init__(
        self,
        root: str | Path,
        split: Literal['test'] = 'test',
        check_counts: bool = True,
        cache: bool = False,
    ) -> None:
        super().__init__(root, split, check_counts, cache)

    @property
    def images(self) -> Files:
        """Where the images are."""
        return Files(self.root / 'leftImg8bit' / 'test' / 'night', '_leftImg8bit.png')

    @property
    def labels(self) -> Files:
        """Where the labels are."""
        folder = self.root / 'gtCoarse_daytime_trainvaltest' / 'test' / 'night'
        return Files(folder, '_gtCoarse_labelTrainIds.png')
