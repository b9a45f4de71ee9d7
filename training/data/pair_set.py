"""Unlabelled targets: frames of one place by day and by night."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from torch.utils.data import Dataset

from models.configured import Configured
from training.data.frames import DataError
from training.data.frames import Pair
from training.data.frames import list_images
from training.data.frames import read_rgb
from training.data.labelled_set import LabelledSet
from training.data.relight import Relight


class PairedFiles(NamedTuple):
    """One place on disk."""

    day: Path
    night: Path


class PairSet(Configured, Dataset, ABC):
    """Pairs of day and night frames without labels; nothing is read before it is asked for."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Pair: ...


class PairedFileSet(PairSet):
    """Pairs of files.

    Args:
        root: folder of the data set.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @abstractmethod
    def list_pairs(self) -> list[PairedFiles]:
        """Return the pairs in order.

        Raises:
            DataError: when files or lists are missing or unequal.
        """

    @cached_property
    def pairs(self) -> list[PairedFiles]:
        """The pairs in order, as :meth:`list_pairs` found them."""
        return self.list_pairs()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        """Return one pair; the day frame is resized to the night frame where their sizes differ.

        Raises:
            DataError: when a file does not decode.
        """
        day, night = (read_rgb(path) for path in self.pairs[index])
        if day.shape != night.shape:
            height, width = night.shape[:2]
            day = cv2.resize(day, (width, height), interpolation=cv2.INTER_AREA)
        return Pair(day, night)


class PairedFolders(PairedFileSet):
    """Two folders in which a name is one place.

    Args:
        root: folder that holds both.
        day: folder under it with ``images/`` by day.
        night: the same by night.
    """

    def __init__(self, root: str | Path, day: str, night: str) -> None:
        super().__init__(root)
        self.day = day
        self.night = night

    def list_pairs(self) -> list[PairedFiles]:
        """Return the pairs by name.

        Raises:
            DataError: when a folder is missing or empty, or their names differ.
        """
        days, nights = (
            {path.stem: path for path in list_images(self.root / folder / 'images')}
            for folder in (self.day, self.night)
        )
        alone = sorted(days.keys() ^ nights.keys())
        if alone:
            raise DataError(
                f'{len(alone)} names are only in one of {self.day} and {self.night} under '
                f'{self.root}, {alone[0]} is the first: pairs need the same names'
            )
        return [PairedFiles(days[name], nights[name]) for name in days]


class SimilarPairs(PairedFileSet):
    """Coarse pairs without GPS: each night frame beside the most similar day frame.

    Likeness is the correlation of gradients of small, contrast-equalised grey images: what places
    share by day and by night is where their edges are. A stand-in for Dark Zurich's GPS pairs.

    Args:
        root: folder that holds both.
        day: folder under it with ``images/`` by day.
        night: the same by night.
    """

    SIZE = (32, 24)

    def __init__(self, root: str | Path, day: str, night: str) -> None:
        super().__init__(root)
        self.day = day
        self.night = night

    def list_pairs(self) -> list[PairedFiles]:
        """Return one pair for each night frame, by name.

        Raises:
            DataError: when a folder is missing or empty, or a file does not decode.
        """
        days = list_images(self.root / self.day / 'images')
        nights = list_images(self.root / self.night / 'images')
        likeness = np.stack([self._edges(path) for path in nights]) @ (
            np.stack([self._edges(path) for path in days]).T
        )
        return [
            PairedFiles(days[best], night)
            for night, best in zip(nights, likeness.argmax(axis=1), strict=True)
        ]

    def _edges(self, path: Path) -> np.ndarray:
        grey = cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2GRAY)
        grey = cv2.equalizeHist(cv2.resize(grey, self.SIZE, interpolation=cv2.INTER_AREA))
        gradients = [np.abs(cv2.Sobel(grey, cv2.CV_32F, dx, 1 - dx)) for dx in (0, 1)]
        edges = np.concatenate([g.ravel() for g in gradients])
        edges -= edges.mean()
        return edges / max(float(np.linalg.norm(edges)), 1e-6)


class UnpairedNights(PairSet):
    """Night frames without days, for methods that only look at the night: both are the night.

    Args:
        folders: folders of images.
    """

    def __init__(self, folders: list[str]) -> None:
        self.folders = [Path(folder) for folder in folders]

    @cached_property
    def paths(self) -> list[Path]:
        """The images, folder by folder.

        Raises:
            DataError: when a folder is missing or empty.
        """
        return [path for folder in self.folders for path in list_images(folder)]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pair:
        """Return one night twice.

        Raises:
            DataError: when the file does not decode.
        """
        night = read_rgb(self.paths[index])
        return Pair(night, night)


class RelitPairs(PairSet):
    """Perfectly aligned pairs: day frames of a labelled set, and the same relit to night.

    Args:
        days: the day frames; their labels tell the relighting where sky and lamps are.
        seed: of the relighting; frame ``i`` is always relit alike.
    """

    def __init__(self, days: LabelledSet, seed: int = 0) -> None:
        self.days = days
        self.seed = seed

    def __len__(self) -> int:
        return len(self.days)

    def __getitem__(self, index: int) -> Pair:
        """Return one pair."""
        sample = self.days[index]
        night = Relight()(sample, np.random.default_rng([self.seed, index]))
        return Pair(sample.image, night.image)
