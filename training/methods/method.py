"""What all methods share: the training step, optimisers, measuring, and a checkpoint that tells."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torchmetrics.classification import MulticlassConfusionMatrix

from models.configured import Configured
from models.generator import Generator
from models.segmentation_output import resize
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED
from nightseg_ros.core.segmentation_score import mean_iou
from training.checkpoint import CONFIG
from training.data.driving_data import Batch
from training.losses.segmentation import Reduction
from training.losses.segmentation import class_weights
from training.losses.segmentation import segmentation_loss
from training.optimisation import PolyAdamW
from training.optimisation import PolySGD
from training.self_training import SelfTraining

Terms = dict[str, Tensor]
"""Weighted losses by name; their sum is minimised."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what was saved and what to try."""


class Method(Configured, lightning.LightningModule, ABC):
    """Base of the methods: a subclass says in :meth:`terms` what it minimises.

    Every group of terms that :meth:`terms` yields is propagated backwards at once, so that the
    activations of one domain are gone before the next is forwarded; then all optimisers step.

    Args:
        net: the segmentation network M.
        relighting: the relighting network before it, or None.
        optimizer: of both; None is the papers' SGD.
        class_weight_std: spread of DANNet's class weights in the source's cross entropy; None
            leaves it unweighted.
        segmentation_reduction: how the source's cross entropy is reduced.
        align_corners: how logits are upsampled (True in the papers' codes).
        self_training: an EMA teacher that adds its terms on the night images, or None.
        gradient_clip: largest norm of the generator's gradient; None does not clip.
        measure_size: height and width at which frames are measured; None is their own.
        measure_weight_std: spread of the class weights on measured logits (DANNet: 0.16).
    """

    automatic_optimization = False

    def __init__(
        self,
        net: nn.Module,
        relighting: nn.Module | None = None,
        optimizer: PolySGD | PolyAdamW | None = None,
        class_weight_std: float | None = 0.05,
        segmentation_reduction: Reduction = 'weighted_mean',
        align_corners: bool = False,
        self_training: SelfTraining | None = None,
        gradient_clip: float | None = None,
        measure_size: tuple[int, int] | None = None,
        measure_weight_std: float | None = 0.16,
    ) -> None:
        super().__init__()
        # Past Lightning's setter, which knows the optimisers only once training has begun.
        self.generator = Generator(net, relighting)
        self.optimisation = optimizer or PolySGD()
        self.segmentation_reduction = segmentation_reduction
        self.align_corners = align_corners
        self.gradient_clip = gradient_clip
        self.measure_size = measure_size and tuple(measure_size)
        self.accumulate = 1
        self.register_buffer('class_weights', class_weights(class_weight_std or 0.0), False)
        self.register_buffer('measure_weights', class_weights(measure_weight_std or 0.0), False)
        self.self_training = self_training
        if self_training is not None:
            self_training.begin(self.generator)

    # What is minimised

    @abstractmethod
    def terms(self, batch: Batch) -> Iterator[Terms]:
        """Yield the groups of weighted losses of one step."""

    def all_terms(self, batch: Batch) -> Iterator[Terms]:
        """Yield the method's own groups of terms, then those of self-training.

        Raises:
            TrainingError: when self-training has no night images.
        """
        yield from self.terms(batch)
        if self.self_training is None:
            return
        if 'target' not in batch:
            raise TrainingError('self-training needs night images: give data.targets')
        source, labels = batch['source']
        yield from self.self_training.terms(self.generator, source, labels, batch['target'][1])

    def adversaries(self) -> nn.ModuleList:
        """Return what has a discriminator to train; none unless overridden."""
        return nn.ModuleList()

    def segmentation_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the source's cross entropy of logits at any stride."""
        positions = logits.shape[-2] * logits.shape[-1]
        logits = self.upsample(logits, labels.shape[-2:])
        reduction = self.segmentation_reduction
        return segmentation_loss(logits, labels, self.class_weights, reduction, positions)

    def upsample(self, logits: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
        """Return float logits of a given height and width."""
        return resize(logits.float(), size, align_corners=self.align_corners)

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """Propagate all terms backwards and step the optimisers, every ``accumulate`` batches."""
        terms: Terms = {}
        for group in self.all_terms(batch):
            self.manual_backward(torch.stack(list(group.values())).sum() / self.accumulate)
            terms |= {name: value.detach() for name, value in group.items()}
        self._check_finite(terms, batch)
        self._log_terms(terms)
        if (batch_index + 1) % self.accumulate == 0 or self.trainer.is_last_batch:
            self._step()

    def _step(self) -> None:
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for index, optimizer in enumerate(optimizers):
            if index:
                # Lightning counts the steps of all optimisers; a step here is one of the generator.
                optimizer._on_before_step = optimizer._on_after_step = _nothing
            optimizer.step()
            optimizer.zero_grad()
        schedulers = self.lr_schedulers()
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            scheduler.step()
        if self.self_training is not None:
            self.self_training.follow(self.generator)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the generator's gradient: here mixed precision has scaled it back already."""
        first = self.optimizers()
        first = first[0] if isinstance(first, list) else first
        if self.gradient_clip is not None and optimizer is first.optimizer:
            self.clip_gradients(optimizer, self.gradient_clip, 'norm')

    def _log_terms(self, terms: Terms) -> None:
        self.log_dict({f'loss/{name}': value for name, value in terms.items()})
        total = [value for name, value in terms.items() if not name.startswith('discriminator')]
        self.log('loss', torch.stack(total).sum(), prog_bar=True)

    def _check_finite(self, terms: Terms, batch: Batch) -> None:
        if torch.stack(list(terms.values())).sum().isfinite():
            return
        step = self.trainer.global_step
        path = Path(self.trainer.default_root_dir) / f'not_finite_step_{step}.pt'
        path.parent.mkdir(parents=True, exist_ok=True)
        values = {name: float(value) for name, value in terms.items()}
        torch.save({'step': step, 'terms': values, 'batch': _on_cpu(batch)}, path)
        bad = ', '.join(name for name, value in terms.items() if not value.isfinite())
        raise TrainingError(
            f'{bad} is not finite at step {step}. The batch and all losses are in {path}. '
            'Lower the learning rate, or use bf16-mixed or 32-true instead of 16-mixed.'
        )

    def configure_optimizers(self) -> tuple[list, list]:
        """Return the generator's optimiser, and one for all discriminators if there are any."""
        steps = self.trainer.max_steps
        configured = [self.optimisation.configure(self.generator.named_parameters(), steps)]
        adversaries = self.adversaries()
        if len(adversaries):
            optimisation = self.discriminator_optimizer
            configured.append(optimisation.configure(adversaries.named_parameters(), steps))
        optimizers, schedules = zip(*configured, strict=True)
        return list(optimizers), [{'scheduler': s, 'interval': 'step'} for s in schedules]

    # What is measured

    @torch.no_grad()
    def predict_logits(self, image: Tensor) -> Tensor:
        """Return logits float [N, 19, h, w], at the net's stride, of RGB [N, 3, H, W].

        Frames are uint8 (0..255) or float (0..1).
        """
        return self.generator(image).segmentation.logits.float()

    @torch.no_grad()
    def relight(self, image: Tensor) -> Tensor | None:
        """Return frames as the segmentation network sees them, uint8; None without relighting."""
        if self.generator.relighting is None:
            return None
        return (self.generator.relit(image) * 255).round().to(torch.uint8)

    def predict_labels(self, image: Tensor) -> Tensor:
        """Return trainIds int64 [N, H, W] of uint8 frames [N, 3, H, W], as they are measured."""
        size = image.shape[-2:]
        x = image.float() / 255
        if self.measure_size is not None:
            x = F.interpolate(x, self.measure_size, mode='bilinear', antialias=True)
        logits = self.predict_logits(x) * self.measure_weights[:, None, None]
        return self.upsample(logits, size).argmax(dim=1)

    def setup(self, stage: str) -> None:
        """Prepare one confusion matrix per measuring set; counts are no part of a checkpoint."""
        self.confusions = {
            name: MulticlassConfusionMatrix(NUM_CLASSES, ignore_index=UNLABELLED)
            for name in self.trainer.datamodule.measuring
        }

    def validation_step(
        self, batch: tuple[Tensor, Tensor], batch_index: int, dataloader_idx: int = 0
    ) -> None:
        """Count one frame into the confusion matrix of its set."""
        image, labels = batch
        confusion = list(self.confusions.values())[dataloader_idx].to(self.device)
        confusion.update(self.predict_labels(image), labels)

    def on_validation_epoch_end(self) -> None:
        """Log the mIoU of each set (one confusion matrix over the set)."""
        for name, confusion in self.confusions.items():
            score = mean_iou(confusion.compute().cpu().numpy())
            self.log(f'miou/{name}', score, prog_bar=True)
            confusion.reset()

    # What a checkpoint holds

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store how this method was made."""
        checkpoint[CONFIG] = self.config


def _nothing() -> None:
    """Stand in for Lightning's step counter."""


def _on_cpu(batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return batch.detach().cpu()
    if isinstance(batch, dict):
        return {key: _on_cpu(value) for key, value in batch.items()}
    return [_on_cpu(value) for value in batch]
