"""The night frames of BDD100K that have semantic labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from training.data.frames import DataError
from training.data.matching import Files
from training.data.matching import Matched
from training.data.matching import ReleasedSet
from training.data.matching import some

SPLITS = ('train', 'val')

ATTRIBUTES = ('labels/det_20/det_{}.json', 'labels/bdd100k_labels_images_{}.json')
"""Files of the detection task, under the root, that tell the time of day of a frame."""


class BDD100KNight(ReleasedSet):
    """Night frames of BDD100K (Yu et al., CVPR 2020), 1280x720.

    ``ROOT/images/10k/SPLIT/NAME.jpg`` with ``ROOT/labels/sem_seg/masks/SPLIT/NAME.png`` (trainIds).
    The segmentation task does not say which of them are night frames. They are taken from, in this
    order:

    1. ``names``: a list with one image a line, a path or a bare name, for example BDD100K-night of
       MGCDA (``data/bdd100k_lists_file_names/images_trainval_night_correct_filenames.txt`` in
       https://github.com/sakaridis/MGCDA): 87 frames whose labels were found correct, 74 in train
       and 13 in val, none for training;
    2. ``ROOT/lists/night_SPLIT.txt``, the same form;
    3. ``attributes.timeofday == 'night'`` in ``ROOT/labels/det_20/det_{train,val}.json`` or
       ``ROOT/labels/bdd100k_labels_images_{train,val}.json``. About 3,000 of the 10k images are in
       neither and some attributes are wrong (issues 20 and 120 of
       https://github.com/bdd100k/bdd100k), so this finds a part. NightCity's paper counts 345
       night frames in train and val together.

    Args:
        root: folder with ``images/10k`` and ``labels/sem_seg/masks``.
        split: ``train`` or ``val``.
        names: a list of night frames; lines in a folder ``train`` or ``val`` count for that split.
        check_counts: refuse a list that names a frame which is not there. There is no released
            number of frames.
        cache: keep decoded frames in memory (4 MB each).
    """

    counts = dict.fromkeys(SPLITS)
    source = (
        'unpack the 10K Images and the Segmentation archive (http://bdd-data.berkeley.edu) so that '
        'images/10k/{train,val} and labels/sem_seg/masks/{train,val} lie in the root; archives '
        'with seg/images are an older release'
    )

    def __init__(
        self,
        root: str | Path,
        split: Literal['train', 'val'] = 'val',
        names: str | Path | None = None,
        check_counts: bool = True,
        cache: bool = False,
    ) -> None:
        super().__init__(root, split, check_counts, cache)
        self.names = None if names is None else Path(names)

    @property
    def images(self) -> Files:
        """Where the images of the split are, by day and by night."""
        return Files(self.root / 'images' / '10k' / self.split, '.jpg')

    @property
    def labels(self) -> Files:
        """Where the labels of the split are."""
        return Files(self.root / 'labels' / 'sem_seg' / 'masks' / self.split, '.png')

    def find(self) -> Matched:
        """Return the complete night frames, and every problem with names."""
        files, problems = super().find()
        try:
            named, nights = self._nights()
        except DataError as error:
            return Matched([], [*problems, str(error)])
        absent = sorted(named - self.images.by_name().keys()) if self.check_counts else []
        if absent:
            problems.append(
                f'{len(absent)} night frames of the list are not in {self.images.folder}: '
                f'{some(absent)}: {self.source}'
            )
        at_night = [file for file in files if file.name in nights]
        if files and not at_night:
            problems.append(f'none of the {len(files)} frames of {self.images.folder} is at night')
        return Matched(at_night, problems)

    def _nights(self) -> tuple[set[str], set[str]]:
        """Return the names that must be in this split, and all that are night frames."""
        default = self.root / 'lists' / f'night_{self.split}.txt'
        path = self.names or (default if default.is_file() else None)
        if path is None:
            return set(), self._nights_by_attribute()
        if not path.is_file():
            raise DataError(f'{path}, the list of night frames, does not exist')
        images = [Path(line.split(',')[0].strip()) for line in path.read_text().split('\n') if line]
        here = {image.stem for image in images if image.parent.name == self.split}
        return here, here | {image.stem for image in images if image.parent.name not in SPLITS}

    def _nights_by_attribute(self) -> set[str]:
        # The 10k and the 100k images are split differently: a val frame may be described in train.
        candidates = [self.root / form.format(s) for form in ATTRIBUTES for s in SPLITS]
        found = [path for path in candidates if path.is_file()]
        if not found:
            raise DataError(
                f'{self.root} does not tell which frames are at night: give a list of their names '
                f'(names, or {self.root}/lists/night_{self.split}.txt), or add one of '
                + ', '.join(str(path) for path in candidates)
            )
        return {
            Path(frame['name']).stem
            for path in found
            for frame in json.loads(path.read_text())
            if frame.get('attributes', {}).get('timeofday') == 'night'
        }
