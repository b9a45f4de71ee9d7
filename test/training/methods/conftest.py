"""A batch of two streets by day and night, and what a method makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from models.student import Student
from training.data.driving_data import Batch
from training.data.frames import Sample
from training.data.frames import to_tensors
from training.data.relight import Relight
from training.methods.method import Method


@pytest.fixture
def batch(street: Callable[..., Sample]) -> Batch:
    """Return source frames with labels, and pairs, of 64x128."""
    samples = [street(64, 128, seed=index) for index in range(4)]
    nights = [Relight()(sample, np.random.default_rng(i)) for i, sample in enumerate(samples)]
    image, labels = zip(*(to_tensors(sample) for sample in samples[:2]), strict=True)
    day = [to_tensors(sample)[0] for sample in samples[2:]]
    night = [to_tensors(sample)[0] for sample in nights[2:]]
    return {
        'source': [torch.stack(image), torch.stack(labels)],
        'target': [torch.stack(day), torch.stack(night)],
    }


@pytest.fixture
def net() -> Student:
    """Return a small network without exposure stream."""
    torch.manual_seed(0)
    return Student(8, 0)


@pytest.fixture
def run() -> Callable[[Method, Batch], dict[str, Tensor]]:
    """Return a function that propagates all groups of terms backwards and returns the terms."""

    def run_terms(method: Method, batch: Batch) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        for group in method.all_terms(batch):
            assert group, 'an empty group has nothing to propagate'
            torch.stack(list(group.values())).sum().backward()
            assert not set(group) & set(terms)
            terms |= {name: value.detach() for name, value in group.items()}
        return terms

    return run_terms


def gradient(module: torch.nn.Module) -> float:
    """Return the sum of absolute gradients."""
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


@pytest.fixture
def gradient_of() -> Callable[[torch.nn.Module], float]:
    """Return :func:`gradient`."""
    return gradient
