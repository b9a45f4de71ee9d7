"""Optimisers and their schedules, as the papers give them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from models.configured import Configured

Named = Iterable[tuple[str, nn.Parameter]]

HEADS = ('head', 'classifier')
"""What the last layers of networks are called here."""


def warm_poly(step: int, steps: float, warmup: int = 0, power: float = 0.9) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, then poly decay."""
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, 1 - (step - warmup) / max(1.0, steps - warmup)) ** power


class PolySGD(Configured):
    """SGD with the poly schedule: segmentation and relighting networks (DANNet, section 4.2).

    Args:
        learning_rate: at the first step.
        momentum: of SGD.
        weight_decay: of all parameters.
        power: of the poly schedule.
        head_lr_factor: learning rate of the last layers relative to the rest (DeepLab has 10; none
            of the three papers says so).
    """

    def __init__(
        self,
        learning_rate: float = 2.5e-4,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        power: float = 0.9,
        head_lr_factor: float = 1.0,
    ) -> None:
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.power = power
        self.head_lr_factor = head_lr_factor

    def configure(self, parameters: Named, steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """Return optimiser and schedule over ``steps``."""
        trained = [(name, p) for name, p in parameters if p.requires_grad]
        heads = [p for name, p in trained if _is_head(name)]
        rest = [p for name, p in trained if not _is_head(name)]
        rate = self.learning_rate
        optimizer = torch.optim.SGD(
            [{'params': rest}, {'params': heads, 'lr': rate * self.head_lr_factor}],
            lr=rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        return optimizer, LambdaLR(optimizer, lambda step: warm_poly(step, steps, 0, self.power))


def _is_head(name: str) -> bool:
    return any(head in part for part in name.split('.') for head in HEADS)


class PolyAdam(Configured):
    """Adam with the poly schedule: discriminators (DANNet, section 4.2).

    Args:
        learning_rate: at the first step (official code: 1e-4).
        betas: of Adam.
        power: of the poly schedule.
    """

    def __init__(
        self,
        learning_rate: float = 2.5e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        power: float = 0.9,
    ) -> None:
        self.learning_rate = learning_rate
        self.betas = tuple(betas)
        self.power = power

    def configure(self, parameters: Named, steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """Return optimiser and schedule over ``steps``."""
        trained = [p for _, p in parameters if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=self.learning_rate, betas=self.betas)
        return optimizer, LambdaLR(optimizer, lambda step: warm_poly(step, steps, 0, self.power))


class PolyAdamW(Configured):
    """AdamW with warm-up and poly schedule: the student. Norms and biases do not decay.

    Args:
        learning_rate: highest of the schedule.
        warmup: steps of linear warm-up.
        weight_decay: of weights with more than one dimension.
        power: of the poly schedule.
    """

    def __init__(
        self,
        learning_rate: float = 1.5e-3,
        warmup: int = 150,
        weight_decay: float = 0.02,
        power: float = 0.9,
    ) -> None:
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.weight_decay = weight_decay
        self.power = power

    def configure(self, parameters: Named, steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """Return optimiser and schedule over ``steps``."""
        trained = [p for _, p in parameters if p.requires_grad]
        optimizer = torch.optim.AdamW(
            [
                {'params': [p for p in trained if p.ndim > 1], 'weight_decay': self.weight_decay},
                {'params': [p for p in trained if p.ndim <= 1], 'weight_decay': 0.0},
            ],
            lr=self.learning_rate,
        )
        schedule = LambdaLR(optimizer, lambda step: warm_poly(step, steps, self.warmup, self.power))
        return optimizer, schedule
