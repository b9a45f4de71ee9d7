"""Distillation: a teacher, relighting and all, into the onboard student without relighting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional as F  # noqa: N812

from models.segmentation_output import resize
from training.checkpoint import load_method
from training.data.driving_data import Batch
from training.losses.segmentation import class_weights
from training.methods.method import Terms
from training.methods.supervised import Supervised


class Distill(Supervised):
    """The student's own losses on labelled frames, and the teacher's word on day and night.

    Args:
        net: the student.
        teacher: checkpoint of the method that adapted the teacher.
        distill_weight: weight of the divergence from the teacher, on day and night each.
        temperature: softens both distributions (Hinton et al., 2015).
        teacher_weight_std: spread of the class weights on the teacher's logits: it is tested with
            them, so it teaches with them (DANNet, section 3.3); None leaves them.
        common: see :class:`Supervised`.
    """

    def __init__(
        self,
        net: nn.Module,
        teacher: Path,
        distill_weight: float = 1.0,
        temperature: float = 2.0,
        teacher_weight_std: float | None = 0.16,
        **common: Any,
    ) -> None:
        super().__init__(net, **common)
        self.teacher_path = Path(teacher)
        self.distill_weight = distill_weight
        self.temperature = temperature
        self.register_buffer('teacher_weights', class_weights(teacher_weight_std or 0.0), False)

    def setup(self, stage: str) -> None:
        """Load the teacher; it is no part of the student's checkpoints.

        Raises:
            CheckpointError: when it is none, or was made by other code.
        """
        super().setup(stage)
        if stage == 'fit':
            # In a list, where torch does not look for parameters.
            self._teacher = [load_method(self.teacher_path)]

    def on_fit_start(self) -> None:
        """Bring the teacher where the student is by now."""
        self._teacher[0].to(self.device)

    def terms(self, batch: Batch) -> Iterator[Terms]:
        """Yield the supervised losses, then those on day and night, one at a time."""
        yield from super().terms(batch)
        for name, image in zip(('day', 'night'), batch['target'], strict=True):
            yield {f'distill/{name}': self.distill_weight * self.divergence(image)}

    def divergence(self, image: Tensor) -> Tensor:
        """Return T^2 KL(teacher || student), mean over the pixels of the student's stride."""
        [teacher] = self._teacher
        logits = self.generator(image).segmentation.logits.float()
        with torch.no_grad():
            taught = teacher.predict_logits(image) * self.teacher_weights[:, None, None]
            taught = resize(taught, logits.shape[-2:])
        divergence = F.kl_div(
            (logits / self.temperature).log_softmax(dim=1),
            (taught / self.temperature).log_softmax(dim=1),
            reduction='none',
            log_target=True,
        )
        return self.temperature**2 * divergence.sum(dim=1).mean()
