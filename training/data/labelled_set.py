"""Labelled data sets: files found and checked when first used, frames decoded one by one."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import ClassVar
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from models.configured import Configured
from nightseg_ros.core.labels import LABEL_ID_TO_TRAIN_ID
from training.data.frames import LABEL_IDS
from training.data.frames import TRAIN_IDS
from training.data.frames import DataError
from training.data.frames import Sample
from training.data.frames import check_same_size
from training.data.frames import list_images
from training.data.frames import read_labels
from training.data.frames import read_rgb
from training.data.sky import mend_sky

LABEL_FOLDERS = ('labels', 'teacher_labels')


class LabelledFile(NamedTuple):
    """One frame on disk; ``name`` is unique in its set and has no suffix."""

    name: str
    image: Path
    labels: Path


class LabelledSet(Configured, Dataset, ABC):
    """A data set with labels. Nothing is read from disk before its files are asked for.

    Args:
        root: folder of the data set.
        cache: keep decoded frames in memory (about 1 MB each at 640x480).

    Attributes:
        label_ids: whether labels on disk are Cityscapes labelIds; they are trainIds otherwise.
    """

    label_ids: ClassVar[bool] = False

    def __init__(self, root: str | Path, cache: bool = False) -> None:
        self.root = Path(root)
        self._cache: dict[int, Sample] | None = {} if cache else None

    @abstractmethod
    def list_files(self) -> list[LabelledFile]:
        """Return the frames in order.

        Raises:
            DataError: when files are missing, in excess or misplaced.
        """

    @cached_property
    def files(self) -> list[LabelledFile]:
        """The frames in order, as :meth:`list_files` found them."""
        return self.list_files()

    @property
    def valid_labels(self) -> Collection[int]:
        """Values that a label on disk may hold."""
        return LABEL_IDS if self.label_ids else TRAIN_IDS

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """Return one frame with its trainIds.

        Raises:
            DataError: when a file does not decode, sizes differ, or a label value is foreign.
        """
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        image = read_rgb(self.files[index].image)
        labels = self.read_labels(index)
        check_same_size(image, labels, self.files[index].labels)
        sample = self.prepare(Sample(image, labels))
        if self._cache is not None:
            self._cache[index] = sample
        return sample

    def prepare(self, sample: Sample) -> Sample:
        """Return a decoded frame as it is used: as it is, unless overridden."""
        return sample

    def read_labels(self, index: int) -> NDArray[np.uint8]:
        """Return the trainIds of one frame, uint8 [H, W].

        Raises:
            DataError: when the file does not decode or holds a foreign value.
        """
        labels = read_labels(self.files[index].labels, self.valid_labels)
        return LABEL_ID_TO_TRAIN_ID[labels] if self.label_ids else labels


class LabelledFrames(LabelledSet):
    """A plain folder: ``images/NAME.jpg``, ``labels/NAME.png`` or ``teacher_labels/NAME.png``.

    Args:
        root: folder with ``images/`` and ``labels/`` or ``teacher_labels/``.
        cache: keep decoded frames in memory.
        labels: folder of the labels, where they are elsewhere.
        extra_labels: label values above 18 that this folder uses on purpose.
        mend: put right the sky that a teacher's labels deny (:func:`training.data.sky.mend_sky`).
        hold_out: leave out every n-th frame, so that something unseen is left to calibrate with; 0
            leaves none out.
        held_out: be those left out instead.
    """

    def __init__(
        self,
        root: str | Path,
        cache: bool = True,
        labels: str | Path | None = None,
        extra_labels: tuple[int, ...] = (),
        mend: bool = False,
        hold_out: int = 0,
        held_out: bool = False,
    ) -> None:
        super().__init__(root, cache)
        self.label_folders = (
            [Path(labels)] if labels is not None else [self.root / name for name in LABEL_FOLDERS]
        )
        self.extra_labels = tuple(extra_labels)
        self.mend = mend
        self.hold_out = hold_out
        self.held_out = held_out

    @property
    def valid_labels(self) -> Collection[int]:
        """TrainIds and what this folder has on top."""
        return TRAIN_IDS | {*self.extra_labels}

    def prepare(self, sample: Sample) -> Sample:
        """Return a decoded frame, its labels mended if they are to be."""
        if not self.mend:
            return sample
        return Sample(sample.image, mend_sky(sample.image, sample.labels))

    def list_files(self) -> list[LabelledFile]:
        """Return the images by name, each with its label.

        Raises:
            DataError: when the folder, its images or a frame's label is missing.
        """
        images = list_images(self.root / 'images')
        if self.hold_out:
            images = [
                image
                for index, image in enumerate(images)
                if (index % self.hold_out == self.hold_out - 1) == self.held_out
            ]
        return [LabelledFile(image.stem, image, self._label_of(image)) for image in images]

    def _label_of(self, image: Path) -> Path:
        for folder in self.label_folders:
            label = folder / f'{image.stem}.png'
            if label.is_file():
                return label
        raise DataError(
            f'{image} has no label: expected {image.stem}.png in '
            + ' or '.join(str(folder) for folder in self.label_folders)
        )
