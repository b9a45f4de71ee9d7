"""Self-training on unlabelled night images with an EMA teacher: a term that any method can add.

Ingredients: mean teacher and confidence-weighted ClassMix (DACS, Tranheden et al., 2021), strong
augmentation as in DAFormer (Hoyer et al., CVPR 2022), masked-image consistency (MIC, Hoyer et al.,
CVPR 2023). Rare-class sampling is the data module's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional as F  # noqa: N812

import models.torchvision_import  # noqa: F401
from models.configured import Configured
from models.generator import Generator
from models.segmentation_output import resize
from training.losses.mixing import class_mask
from training.losses.mixing import confident_share
from training.losses.mixing import mix
from training.losses.segmentation import pixel_weighted_loss

# isort: split
from torchvision.transforms import v2


class SelfTraining(Configured, nn.Module):
    """The teacher and what the student learns from it.

    Args:
        mix_weight: weight of cross entropy on source classes pasted into strongly augmented night
            images, source labels and teacher labels; 0 leaves it out.
        masked_weight: weight of the consistency of masked night images with the teacher; 0 leaves
            it out.
        decay: of the teacher's weights per step; it starts lower, 1 - 1/(step + 1).
        threshold: likelihood from which a pixel counts as confident; the share of such pixels
            weighs what the teacher says.
        jitter: strength of brightness, contrast and saturation jitter of mixed images.
        mask_block: side of the masked blocks in pixels.
        mask_ratio: share of blocks that are masked.
    """

    def __init__(
        self,
        mix_weight: float = 1.0,
        masked_weight: float = 1.0,
        decay: float = 0.999,
        threshold: float = 0.968,
        jitter: float = 0.25,
        mask_block: int = 64,
        mask_ratio: float = 0.7,
    ) -> None:
        super().__init__()
        self.mix_weight = mix_weight
        self.masked_weight = masked_weight
        self.decay = decay
        self.threshold = threshold
        self.mask_block = mask_block
        self.mask_ratio = mask_ratio
        self.strong = v2.Compose(
            [
                v2.ColorJitter(jitter, jitter, jitter, jitter / 5),
                v2.RandomApply([v2.GaussianBlur(5, (0.2, 1.2))], 0.5),
            ]
        )
        self.teacher: Generator | None = None
        self.register_buffer('steps', torch.zeros((), dtype=torch.int64))

    def begin(self, generator: Generator) -> None:
        """Make the teacher a copy of the generator that is to be trained."""
        self.teacher = copy.deepcopy(generator).requires_grad_(False)

    @torch.no_grad()
    def follow(self, generator: Generator) -> None:
        """Move the teacher towards the generator, statistics of batch norm included."""
        self.steps += 1
        keep = min(1 - 1 / (int(self.steps) + 1), self.decay)
        ours, theirs = self.teacher.state_dict(), generator.state_dict()
        for name, value in ours.items():
            if value.is_floating_point():
                value.lerp_(theirs[name], 1 - keep)
            else:
                value.copy_(theirs[name])

    @torch.no_grad()
    def pseudo_labels(self, night: Tensor) -> tuple[Tensor, Tensor]:
        """Return the teacher's trainIds int64 [N, H, W] and the share q of confident pixels."""
        self.teacher.eval()
        logits = self.teacher(night).segmentation.logits.float()
        probabilities = resize(logits, night.shape[-2:]).softmax(dim=1)
        return probabilities.argmax(dim=1), confident_share(probabilities, self.threshold)

    def terms(
        self, generator: Generator, source: Tensor, labels: Tensor, night: Tensor
    ) -> Iterator[dict[str, Tensor]]:
        """Yield the losses of uint8 images [N, 3, H, W]; source and night of one size."""
        taught, share = self.pseudo_labels(night)
        if self.mix_weight:
            mask = class_mask(labels)
            image = self.strong(mix(mask, source, night))
            weights = torch.where(mask, torch.ones_like(share), share)
            loss = self._loss(generator, image, mix(mask, labels, taught), weights)
            yield {'self_training/mix': self.mix_weight * loss}
        if self.masked_weight:
            image = self.masked(night)
            weights = share.expand(taught.shape)
            loss = self._loss(generator, image, taught, weights)
            yield {'self_training/masked': self.masked_weight * loss}

    @staticmethod
    def _loss(generator: Generator, image: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        logits = generator(image).segmentation.logits.float()
        return pixel_weighted_loss(resize(logits, labels.shape[-2:]), labels, weights)

    def masked(self, image: Tensor) -> Tensor:
        """Return images with random blocks black, after MIC (which masks normalised images)."""
        count, _, height, width = image.shape
        blocks = (-(-height // self.mask_block), -(-width // self.mask_block))
        kept = (torch.rand(count, 1, *blocks, device=image.device) >= self.mask_ratio).float()
        kept = F.interpolate(kept, scale_factor=self.mask_block, mode='nearest')
        return (image * kept[..., :height, :width]).to(image.dtype)
