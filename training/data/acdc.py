"""The night frames of ACDC."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from training.data.matching import Files
from training.data.matching import ReleasedSet


class ACDCNight(ReleasedSet):
    """ACDC, condition night (Sakaridis et al., ICCV 2021), 1920x1080.

    ``ROOT/rgb_anon/night/SPLIT/RECORDING/*_rgb_anon.png`` with
    ``ROOT/gt/night/SPLIT/RECORDING/*_gt_labelTrainIds.png``; the day references beside them
    (``SPLIT_ref``) are not read.

    Args:
        root: folder with ``rgb_anon/`` and ``gt/``.
        split: ``train`` (400) or ``val`` (106); the labels of the 500 test frames are not public.
        check_counts: refuse another number of frames.
        cache: keep decoded frames in memory (8 MB each).
    """

    counts = {'train': 400, 'val': 106}
    source = (
        'unpack rgb_anon_trainvaltest.zip and gt_trainval.zip (https://acdc.vision.ee.ethz.ch) so '
        'that rgb_anon and gt lie in the root'
    )

    def __init__(
        self,
        root: str | Path,
        split: Literal['train', 'val'] = 'train',
        check_counts: bool = True,
        cache: bool = False,
    ) -> None:
        super().__init__(root, split, check_counts, cache)

    @property
    def images(self) -> Files:
        """Where the images of the split are."""
        return Files(self.root / 'rgb_anon' / 'night' / self.split, '_rgb_anon.png')

    @property
    def labels(self) -> Files:
        """Where the labels of the split are."""
        return Files(self.root / 'gt' / 'night' / self.split, '_gt_labelTrainIds.png')
