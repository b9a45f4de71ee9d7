"""Supervised training of the student on labelled day frames, relit to night by the data module."""

from __future__ import annotations

import lightning
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchmetrics.classification import MulticlassConfusionMatrix

from models.student import Student
from models.student import resize
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED
from nightseg_ros.core.segmentation_score import mean_iou
from training import losses

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Supervised(lightning.LightningModule):
    """Cross entropy, PIDNet's branch losses and EGNet's exposure loss on one network.

    Args:
        width: width of the student.
        exposure_width: channels of its exposure stream; 0 trains without.
        learning_rate: highest of the schedule (AdamW; linear warm-up, then poly with power 0.9).
        warmup: steps of linear warm-up.
        weight_decay: of AdamW.
        class_weight_std: spread of DANNet's class weights in the cross entropy; 0 is uniform.
        detail_weight: weight of the detail branch's cross entropy.
        boundary_weight: weight of the boundary loss.
        exposure_weight: weight of the exposure loss.
        loss_stride: the loss is taken on every n-th pixel of labels and upsampled logits.
        input_size: height and width at which frames are measured, that of the released model.
    """

    def __init__(
        self,
        width: int = 24,
        exposure_width: int = 16,
        learning_rate: float = 1.5e-3,
        warmup: int = 150,
        weight_decay: float = 0.02,
        class_weight_std: float = 0.16,
        detail_weight: float = 0.4,
        boundary_weight: float = 5.0,
        exposure_weight: float = 0.5,
        loss_stride: int = 2,
        input_size: tuple[int, int] = (384, 640),
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = Student(width, exposure_width).to(memory_format=torch.channels_last)
        self.register_buffer('class_weights', losses.class_weights(class_weight_std))
        self.register_buffer('mean', torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer('std', torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def setup(self, stage: str) -> None:
        """Prepare one confusion matrix per measuring set; counts are no part of a checkpoint."""
        self.confusions = {
            name: MulticlassConfusionMatrix(NUM_CLASSES, ignore_index=UNLABELLED)
            for name in self.trainer.datamodule.measuring_sets
        }

    def normalise(self, image: Tensor) -> Tensor:
        """Return ImageNet-normalised float of RGB in [0, 1]."""
        return ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the weighted sum of the losses on uint8 images and trainIds."""
        image, labels = batch
        image = image.float() / 255
        output = self.net(self.normalise(image))
        p = self.hparams
        stride = p.loss_stride
        targets = labels[:, stride // 2 :: stride, stride // 2 :: stride]
        size = targets.shape[-2:]
        parts = {
            'segmentation': losses.segmentation_loss(
                resize(output.logits.float(), size), targets, self.class_weights
            ),
            'detail': p.detail_weight
            * losses.segmentation_loss(
                resize(output.detail_logits.float(), size), targets, self.class_weights
            ),
            'boundary': p.boundary_weight * self._boundary_loss(output.boundary_logits, labels),
        }
        if output.exposure is not None:
            parts['exposure'] = p.exposure_weight * losses.exposure_loss(
                output.exposure.float(), image
            )
        loss = torch.stack(list(parts.values())).sum()
        self.log_dict({f'loss/{name}': value for name, value in parts.items()})
        self.log('loss', loss, prog_bar=True)
        return loss

    @staticmethod
    def _boundary_loss(logits: Tensor, labels: Tensor) -> Tensor:
        boundaries = F.adaptive_max_pool2d(losses.label_boundaries(labels), logits.shape[-2:])
        return losses.boundary_loss(logits.float(), boundaries)

    def predict_labels(self, image: Tensor) -> Tensor:
        """Return trainIds int64 [N, H, W] of uint8 frames [N, 3, H, W], as the release does it."""
        resized = resize(image.float() / 255, self.hparams.input_size)
        logits = self.net(self.normalise(resized)).logits
        return resize(logits.float(), image.shape[-2:]).argmax(dim=1)

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

    def configure_optimizers(self) -> dict:
        """Return AdamW with the poly schedule over the trainer's steps; norms do not decay."""
        decay = [p for p in self.net.parameters() if p.ndim > 1]
        rest = [p for p in self.net.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {'params': decay, 'weight_decay': self.hparams.weight_decay},
                {'params': rest, 'weight_decay': 0.0},
            ],
            lr=self.hparams.learning_rate,
        )
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warm_poly(step, steps, self.hparams.warmup)
        )
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': schedule, 'interval': 'step'},
        }


def warm_poly(step: int, steps: float, warmup: int, power: float = 0.9) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, then poly decay."""
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, 1 - (step - warmup) / max(1.0, steps - warmup)) ** power
