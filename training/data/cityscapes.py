"""Cityscapes, the labelled day source."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from training.data.matching import Files
from training.data.matching import ReleasedSet


class Cityscapes(ReleasedSet):
    """Cityscapes with fine labels (Cordts et al., CVPR 2016), 2048x1024.

    ``ROOT/leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` with
    ``ROOT/gtFine/SPLIT/CITY/*_gtFine_labelIds.png``, as the two zips unpack. The labelTrainIds that
    cityscapesscripts can make are not needed.

    Args:
        root: folder with ``leftImg8bit/`` and ``gtFine/``.
        split: ``train`` (2,975) or ``val`` (500); the test labels are not public.
        check_counts: refuse another number of frames.
        cache: keep decoded frames in memory (8 MB each).
    """

    label_ids = True
    counts = {'train': 2975, 'val': 500}
    source = (
        'unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip '
        '(https://www.cityscapes-dataset.com/downloads) into the root'
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
        return Files(self.root / 'leftImg8bit' / self.split, '_leftImg8bit.png')

    @property
    def labels(self) -> Files:
        """Where the labels of the split are."""
        return Files(self.root / 'gtFine' / self.split, '_gtFine_labelIds.png')
