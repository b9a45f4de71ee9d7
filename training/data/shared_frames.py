"""The small labelled sets of this project, each a folder of its own under one root."""

from __future__ import annotations

from pathlib import Path

from training.data.labelled_set import LABEL_FOLDERS
from training.data.matching import Files
from training.data.matching import ReleasedSet


class SharedFrames(ReleasedSet):
    """CamVid, campus (MSRS), RoadScene, IDD and Zurich frames of ``../shared/data``.

    ``ROOT/SPLIT/images/*.jpg`` with ``ROOT/SPLIT/labels/*.png``, or ``teacher_labels`` where a
    network labelled them: trainIds. For folders of your own take
    :class:`training.data.labelled_set.LabelledFrames`.

    Args:
        root: folder of the sets.
        split: name of the set.
        check_counts: refuse another number of frames.
        cache: keep decoded frames in memory.
    """

    counts = {
        'camvid_day_train': 406,
        'camvid_day_val': 171,
        'camvid_dusk_dev': 62,
        'campus_day': 179,
        'idd_day': 702,
        'night_dev': 2,
        'roadscene_day': 102,
    }
    source = 'copy the sets so that each has images/ and labels/ or teacher_labels/'

    def __init__(
        self, root: str | Path, split: str, check_counts: bool = True, cache: bool = True
    ) -> None:
        super().__init__(root, split, check_counts, cache)

    @property
    def images(self) -> Files:
        """Where the images are."""
        return Files(self.root / self.split / 'images', '.jpg')

    @property
    def labels(self) -> Files:
        """Where the labels are."""
        truth, teacher = (self.root / self.split / name for name in LABEL_FOLDERS)
        return Files(truth if truth.is_dir() else teacher, '.png')
