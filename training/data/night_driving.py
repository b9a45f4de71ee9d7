"""The data module: labelled day frames, partly relit to night, and the sets that measure."""

from __future__ import annotations

from pathlib import Path

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from nightseg_ros.core.labels import UNLABELLED
from training.data.frames import LabelledFrames
from training.data.frames import Sample
from training.data.frames import to_tensors
from training.data.relight import Relight

DAY_SETS = ('camvid_day_train', 'campus_day', 'roadscene_day', 'idd_day')
MEASURING_SETS = ('camvid_day_val', 'camvid_dusk_dev', 'night_dev')


class TrainTransform:
    """Random crop, flip and colour; then, with some probability, night falls.

    The crop's aspect varies around that of the network's input, so that stretching a 4:3 camera to
    the fixed input of the released model is nothing new to it.

    Args:
        crop: height and width of what the network sees.
        relight_probability: share of frames that become night.
        relight: the night model.
    """

    def __init__(
        self, crop: tuple[int, int], relight_probability: float, relight: Relight | None = None
    ) -> None:
        self.geometry = v2.Compose(
            [
                v2.RandomResizedCrop(crop, scale=(0.2, 1.0), ratio=(1.0, 2.0), antialias=True),
                v2.RandomHorizontalFlip(),
            ]
        )
        self.color = v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.03)
        self.relight_probability = relight_probability
        self.relight = relight or Relight()

    def __call__(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Return image uint8 [3, h, w] and labels int64 [h, w]."""
        image, labels = to_tensors(sample)
        image, labels = self.geometry(
            tv_tensors.Image(image), tv_tensors.Mask(labels.to(torch.uint8))
        )
        image = self.color(image)
        # Seeded from torch, whose state Lightning sets apart in every worker.
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        sample = Sample(image.permute(1, 2, 0).numpy(), labels.numpy())
        if rng.random() < self.relight_probability:
            sample = self.relight(sample, rng)
        return to_tensors(sample)


class NightDrivingData(lightning.LightningDataModule):
    """Frames under one root: ``ROOT/<set>/images`` beside ``labels`` or ``teacher_labels``.

    Args:
        root: folder of the data sets.
        day_sets: labelled day folders to train on.
        measuring_sets: folders with ground truth; measured after every epoch, never trained on.
        crop: height and width of training crops, multiples of 64.
        relight_probability: share of training frames that are relit to night.
        batch_size: frames per step.
        workers: loader processes; 0 loads in the training process.
    """

    def __init__(
        self,
        root: str = '../shared/data',
        day_sets: tuple[str, ...] = DAY_SETS,
        measuring_sets: tuple[str, ...] = MEASURING_SETS,
        crop: tuple[int, int] = (320, 512),
        relight_probability: float = 0.6,
        batch_size: int = 8,
        workers: int = 1,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.day_sets = day_sets
        self.measuring_sets = measuring_sets
        self.crop = crop
        self.relight_probability = relight_probability
        self.batch_size = batch_size
        self.workers = workers

    def setup(self, stage: str | None = None) -> None:
        """Open the folders.

        Raises:
            DataError: when one is missing or a frame has no label.
        """
        if stage in (None, 'fit'):
            transform = TrainTransform(tuple(self.crop), self.relight_probability)
            self.train_set = ConcatDataset(
                [LabelledFrames(self.root / name, transform) for name in self.day_sets]
            )
        self.measured = [
            LabelledFrames(self.root / name, to_tensors, cache=False)
            for name in self.measuring_sets
        ]

    def train_dataloader(self) -> DataLoader:
        """Return shuffled batches of uint8 [N, 3, h, w] and int64 [N, h, w]."""
        return DataLoader(
            self.train_set,
            batch_size=self.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )

    def val_dataloader(self) -> list[DataLoader]:
        """Return one loader per measuring set; whole frames of their own size, one at a time."""
        return [DataLoader(frames, batch_size=1) for frames in self.measured]


IGNORE_INDEX = UNLABELLED
"""Label that no loss and no metric counts."""
