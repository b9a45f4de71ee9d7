"""The data module of every method: labelled sources, unlabelled day/night pairs, measuring sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset
from torch.utils.data import DataLoader
from torch.utils.data import Dataset
from torch.utils.data import Sampler

from models.configured import Configured
from training.data.frames import DataError
from training.data.frames import to_tensors
from training.data.labelled_set import LabelledSet
from training.data.pair_set import PairSet
from training.data.rare_classes import RareClassSampler
from training.data.rare_classes import class_presence
from training.data.transforms import PairTransform
from training.data.transforms import RelightTransform
from training.data.transforms import SourceTransform

Batch = dict[str, list[Tensor]]
"""``source``: images uint8 [N, 3, h, w] and trainIds int64 [N, h, w]; ``target``, where the method
has one: day and night images uint8 [N, 3, h', w']."""


class Transformed(Dataset):
    """A data set whose items have gone through a transform."""

    def __init__(self, items: Dataset, transform: Callable[[Any], Any]) -> None:
        self.items = items
        self.transform = transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.items[index])


class DrivingData(Configured, lightning.LightningDataModule):
    """Batches for training, whole frames for measuring.

    Args:
        sources: labelled data sets to train on; a set given twice is seen twice an epoch.
        targets: unlabelled day/night pairs, for the methods that adapt; may be empty.
        measuring: labelled data sets by name, measured as training goes and never trained on.
        source_transform: crops and augments a labelled frame.
        pair_transform: crops a pair.
        batch_size: labelled frames, and pairs, per step.
        workers: loader processes for each kind; 0 loads in the training process.
        rare_class_temperature: draw source frames by the rarity of their classes, the more so the
            lower it is (DAFormer, equation 10: 0.01); None draws them uniformly.
        nights: labelled frames that are dark already (``pseudo_label`` makes labels for them): they
            are drawn together with the sources and go through their own transform.
        night_transform: crops and augments them; None is the source's, which may relight.
    """

    def __init__(
        self,
        sources: list[LabelledSet],
        targets: list[PairSet] | None = None,
        measuring: dict[str, LabelledSet] | None = None,
        source_transform: SourceTransform | RelightTransform | None = None,
        pair_transform: PairTransform | None = None,
        batch_size: int = 2,
        workers: int = 2,
        rare_class_temperature: float | None = None,
        nights: list[LabelledSet] | None = None,
        night_transform: SourceTransform | RelightTransform | None = None,
    ) -> None:
        super().__init__()
        self.sources = sources
        self.nights = nights or []
        self.targets = targets or []
        self.measuring = measuring or {}
        self.source_transform = source_transform or SourceTransform()
        self.night_transform = night_transform or self.source_transform
        self.pair_transform = pair_transform or PairTransform()
        self.batch_size = batch_size
        self.workers = workers
        self.rare_class_temperature = rare_class_temperature

    def setup(self, stage: str | None = None) -> None:
        """Open the data sets.

        Raises:
            DataError: when one is missing, misplaced, or smaller than a batch.
        """
        if stage in (None, 'fit'):
            self.source = ConcatDataset(
                [Transformed(frames, self.source_transform) for frames in self.sources]
                + [Transformed(frames, self.night_transform) for frames in self.nights]
            )
            self._check_enough(self.source, 'labelled frames')
            if self.targets:
                self.target = ConcatDataset(self.targets)
                self._check_enough(self.target, 'pairs')
        for name, frames in self.measuring.items():
            if not len(frames):
                raise DataError(f'the measuring set {name} is empty')

    def _check_enough(self, items: Dataset, kind: str) -> None:
        if len(items) < self.batch_size:
            raise DataError(
                f'{len(items)} {kind} do not fill one batch of {self.batch_size}: '
                'lower data.batch_size or add data'
            )

    def source_images(self, count: int) -> Tensor:
        """Return that many random crops, uint8 [N, 3, h, w], as training sees them."""
        self.setup('fit')
        chosen = torch.randperm(len(self.source))[:count].tolist()
        return torch.stack([self.source[index][0] for index in chosen])

    def train_dataloader(self) -> dict[str, DataLoader]:
        """Return the loaders that together yield a :data:`Batch`; the shorter starts over."""
        sampler = None
        if self.rare_class_temperature is not None:
            presence = class_presence([*self.sources, *self.nights])
            sampler = RareClassSampler(presence, self.rare_class_temperature)
        loaders = {'source': self._train_loader(self.source, sampler)}
        if self.targets:
            loaders['target'] = self._train_loader(Transformed(self.target, self.pair_transform))
        return loaders

    def _train_loader(self, items: Dataset, sampler: Sampler | None = None) -> DataLoader:
        return DataLoader(
            items,
            batch_size=self.batch_size,
            shuffle=sampler is None,
            sampler=sampler,
            drop_last=True,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> list[DataLoader]:
        """Return one loader per measuring set; whole frames of their own size, one at a time."""
        return [
            DataLoader(Transformed(frames, to_tensors), batch_size=1)
            for frames in self.measuring.values()
        ]
