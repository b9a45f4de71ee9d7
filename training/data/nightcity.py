"""NightCity in its three versions, whose numbers are not comparable."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.data.frames import DataError
from training.data.matching import Files
from training.data.matching import Matched
from training.data.matching import ReleasedSet
from training.data.matching import read_size
from training.data.matching import some

Version = Literal['original', 'plus', 'fine']

MISPLACED = 'Dubai_0016'
"""A training frame that one upload of NightCity, and the first labels of NightCity+, put in val."""

SOURCES = {
    'original': 'unpack NightCity (https://dmcv.sjtu.edu.cn/people/phd/tanxin/NightCity) so that '
    'images/{train,val} and label/{train,val} lie in the root',
    'plus': 'take NightCity (images/{train,val}, label/{train,val}) with the labels of val '
    'replaced by those of https://github.com/xdeng7/NightLab',
    'fine': 'unpack NightCity-fine (https://github.com/w1oves/DTP) so that train/{img,lbl} and '
    'val/{img,lbl} lie in the root; versions original and plus have another layout',
}


class NightCity(ReleasedSet):
    """NightCity (Tan et al., TIP 2021), 1024x512, 2,998 train and 1,299 val.

    - ``original``: ``ROOT/images/SPLIT/CITY_NNNN.png`` with
      ``ROOT/label/SPLIT/CITY_NNNN_labelIds.png``, Cityscapes labelIds;
    - ``plus``: the same, val annotated anew (NightLab, Deng et al., CVPR 2022). Those labels are
      2048x1024: every second row and column is used where the image is half as large;
    - ``fine``: ``ROOT/SPLIT/img/CITY_NNNN.png`` with ``ROOT/SPLIT/lbl/CITY_NNNN_trainIds.png``,
      Cityscapes trainIds, both splits corrected (DTP, Wei et al., ICCV 2023).

    Args:
        root: folder of the data set.
        split: ``train`` or ``val``.
        version: which annotation it holds.
        check_counts: refuse another number of frames.
        cache: keep decoded frames in memory (2 MB each).
    """

    counts = {'train': 2998, 'val': 1299}

    def __init__(
        self,
        root: str | Path,
        split: Literal['train', 'val'] = 'train',
        version: Version = 'original',
        check_counts: bool = True,
        cache: bool = False,
    ) -> None:
        super().__init__(root, split, check_counts, cache)
        if version not in SOURCES:
            raise DataError(f'no NightCity {version!r}: choose from {", ".join(SOURCES)}')
        self.version = version

    @property
    def label_ids(self) -> bool:
        """Whether labels on disk are labelIds: all but those of ``fine``."""
        return self.version != 'fine'

    @property
    def source(self) -> str:
        """Where this version comes from."""
        return SOURCES[self.version]

    @property
    def images(self) -> Files:
        """Where the images of the split are."""
        return self._images(self.split)

    @property
    def labels(self) -> Files:
        """Where the labels of the split are."""
        return self._labels(self.split)

    def _images(self, split: str) -> Files:
        fine = self.version == 'fine'
        return Files(self.root / split / 'img' if fine else self.root / 'images' / split, '.png')

    def _labels(self, split: str) -> Files:
        if self.version == 'fine':
            return Files(self.root / split / 'lbl', '_trainIds.png')
        return Files(self.root / 'label' / split, '_labelIds.png')

    def find(self) -> Matched:
        """Return the complete frames; a frame in both splits or in the wrong one is a problem."""
        matched = super().find()
        return Matched(matched.files, [*self._misplaced(), *self._shared(), *matched.problems])

    def _misplaced(self) -> list[str]:
        if self.version == 'fine':
            return []
        paths = [kind.path(MISPLACED) for kind in (self._images('val'), self._labels('val'))]
        wrong = [path for path in paths if path.is_file()]
        if not wrong:
            return []
        return [
            f'{some(wrong)} belongs to train: this is the upload with 2,997/1,300 frames. Move '
            f'{MISPLACED} to {self._images("train").folder} and {self._labels("train").folder}, '
            'or delete it from val where train has it already'
        ]

    def _shared(self) -> list[str]:
        train, val = (self._images(split).by_name() for split in ('train', 'val'))
        both = [name for name in train if name in val]
        if not both:
            return []
        return [
            f'{len(both)} frames are in {self._images("train").folder} and in '
            f'{self._images("val").folder}: {some(both)}: val would be trained on'
        ]

    def read_labels(self, index: int) -> NDArray[np.uint8]:
        """Return the trainIds of one frame, uint8 [H, W], in the size of its image.

        Raises:
            DataError: when the file does not decode, holds a foreign value, or is of NightCity+
                where another version was asked for.
        """
        labels = super().read_labels(index)
        file = self.files[index]
        size = read_size(file.image)
        if not _is_twice(labels.shape, size):
            return labels
        if self.version != 'plus':
            raise DataError(
                f'{file.labels} is twice as large as its image: this is NightCity+, whose results '
                "are not comparable with NightCity's: choose the version 'plus'"
            )
        return labels[::2, ::2].copy()

    def accepts_size(self, labels: tuple[int, ...], image: tuple[int, ...]) -> bool:
        """Return whether sizes are equal, or the label of NightCity+ is twice as large."""
        return labels == image or (self.version == 'plus' and _is_twice(labels, image))


def _is_twice(labels: tuple[int, ...], image: tuple[int, ...]) -> bool:
    return labels == tuple(2 * length for length in image)
