"""Random crops and colours: from decoded frames to the tensors of a training batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import models.torchvision_import  # noqa: F401
from models.configured import Configured
from nightseg_ros.core.labels import UNLABELLED
from training.data.frames import Pair
from training.data.frames import Sample
from training.data.frames import to_tensors
from training.data.night_style import NightStyle
from training.data.occlusion import HiddenBlocks
from training.data.occlusion import OwnVehicle
from training.data.relight import Relight

# isort: split
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as vF  # noqa: N812

BICUBIC = v2.InterpolationMode.BICUBIC


class RandomScale(v2.Transform):
    """Resize everything by one random factor: images bicubic, labels to the nearest.

    Args:
        scale: range of the factor.
    """

    def __init__(self, scale: tuple[float, float]) -> None:
        super().__init__()
        self.scale = scale

    def make_params(self, flat_inputs: list) -> dict:
        """Draw the size."""
        height, width = v2.query_size(flat_inputs)
        low, high = self.scale
        factor = low + (high - low) * float(torch.rand(()))
        return {'size': [round(height * factor), round(width * factor)]}

    def transform(self, inpt: Tensor, params: dict) -> Tensor:
        """Resize one input."""
        return self._call_kernel(
            vF.resize, inpt, params['size'], interpolation=BICUBIC, antialias=True
        )


def _random_crop(crop: tuple[int, int]) -> v2.RandomCrop:
    fill = {tv_tensors.Image: 0, tv_tensors.Mask: UNLABELLED}
    return v2.RandomCrop(tuple(crop), pad_if_needed=True, fill=fill)


class SourceTransform(Configured):
    """DANNet's source augmentation (section 4.2): random scale, crop and flip.

    What a crop holds beyond the frame is black and ignored.

    Args:
        crop: height and width of the result.
        scale: range of the scale.
        resize: height and width that frames are brought to first (EGNet: 900, 900); None keeps.
        flip: probability of a horizontal flip.
    """

    def __init__(
        self,
        crop: tuple[int, int] = (512, 512),
        scale: tuple[float, float] = (0.5, 1.0),
        resize: tuple[int, int] | None = None,
        flip: float = 0.5,
    ) -> None:
        self.steps = v2.Compose(
            [
                v2.Resize(tuple(resize), antialias=True) if resize else v2.Identity(),
                RandomScale(tuple(scale)),
                _random_crop(crop),
                v2.RandomHorizontalFlip(flip),
            ]
        )

    def __call__(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Return image uint8 [3, h, w] and labels int64 [h, w]."""
        image, labels = to_tensors(sample)
        image, labels = self.steps(tv_tensors.Image(image), tv_tensors.Mask(labels.to(torch.uint8)))
        return image.as_subclass(Tensor), labels.as_subclass(Tensor).long()


class PairTransform(Configured):
    """DANNet's target augmentation (section 4.2): the same scale, crop and flip for day and night.

    Args:
        crop: height and width of the crop.
        scale: range of the scale.
        resize: height and width that the crop is brought to (official: 512, 512); None keeps it.
        flip: probability of a horizontal flip.
    """

    def __init__(
        self,
        crop: tuple[int, int] = (960, 960),
        scale: tuple[float, float] = (0.9, 1.1),
        resize: tuple[int, int] | None = (512, 512),
        flip: float = 0.5,
    ) -> None:
        self.steps = v2.Compose(
            [
                RandomScale(tuple(scale)),
                _random_crop(crop),
                v2.RandomHorizontalFlip(flip),
                v2.Resize(tuple(resize), BICUBIC, antialias=True) if resize else v2.Identity(),
            ]
        )

    def __call__(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Return day and night, uint8 [3, h, w]."""
        images = [
            tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1))
            for image in pair
        ]
        day, night = self.steps(*images)
        return day.as_subclass(Tensor), night.as_subclass(Tensor)


class RelightTransform(Configured):
    """Random crop, flip and colour; then, with some probability, night falls.

    The crop's aspect varies around that of the network's input, so that stretching a 4:3 camera to
    the fixed input of the released model is nothing new to it.

    Args:
        crop: height and width of what the network sees.
        relight_probability: share of frames that become night.
        relight: the night model.
        style: of real night frames, given to day and relit frames alike; None leaves them.
        scale: range of the share of the frame's area that a crop shows.
        grey: probability of a frame without colours, so that shapes count, too: a night sky is not
            blue.
        own_vehicle: parts of the own vehicle in the picture; None draws none.
        hidden: blocks to be hidden; None hides none.
    """

    def __init__(
        self,
        crop: tuple[int, int] = (320, 512),
        relight_probability: float = 0.6,
        relight: Relight | None = None,
        style: NightStyle | None = None,
        scale: tuple[float, float] = (0.2, 1.0),
        grey: float = 0.0,
        own_vehicle: OwnVehicle | None = None,
        hidden: HiddenBlocks | None = None,
    ) -> None:
        self.geometry = v2.Compose(
            [
                v2.RandomResizedCrop(
                    tuple(crop), scale=tuple(scale), ratio=(1.0, 2.0), antialias=True
                ),
                v2.RandomHorizontalFlip(),
            ]
        )
        self.color = v2.Compose(
            [
                v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.03),
                v2.RandomGrayscale(grey),
            ]
        )
        self.relight_probability = relight_probability
        self.relight = relight or Relight()
        self.style = style
        self.own_vehicle = own_vehicle
        self.hidden = hidden

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
        if self.own_vehicle is not None:
            sample = self.own_vehicle(sample, rng)
        if rng.random() < self.relight_probability:
            sample = self.relight(sample, rng)
        if self.style is not None:
            sample = Sample(self.style(sample.image, rng), sample.labels)
        if self.hidden is not None:
            sample = Sample(self.hidden(sample.image, rng), sample.labels)
        return to_tensors(sample)
