"""ClassMix (Olsson et al., 2021) in the two directions of Bi-Mix (section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from nightseg_ros.core.labels import UNLABELLED
from training.data.frames import DataError


def class_mask(labels: Tensor, *, draw_unlabelled: bool = False) -> Tensor:
    """Return M_F->M: the pixels of half of each image's classes, bool [N, h, w] (equation 2).

    Args:
        labels: trainIds of the source, int64 [N, h, w].
        draw_unlabelled: let 255 be drawn as a class, as Bi-Mix's code can; the paper must not.
    """
    masks = []
    for image in labels:
        classes = image.unique()
        if not draw_unlabelled:
            classes = classes[classes != UNLABELLED]
        drawn = classes[torch.randperm(len(classes))[: (len(classes) + 1) // 2].to(classes.device)]
        masks.append(torch.isin(image, drawn))
    return torch.stack(masks)


def dynamic_mask(labels: Tensor, first_dynamic: int = 11) -> Tensor:
    """Return M_M->F: the pixels of dynamic classes, bool [N, h, w] (equation 10).

    Args:
        labels: predicted trainIds of the day, int64 [N, h, w].
        first_dynamic: 11 (person) in the paper; Bi-Mix's code leaves it out and begins at 12.
    """
    return labels >= first_dynamic


def mix(mask: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """Return ``inside`` where the mask holds and ``outside`` elsewhere (equations 3 and 11).

    Args:
        mask: bool [N, h, w].
        inside: images [N, C, h, w] or labels [N, h, w].
        outside: the same.

    Raises:
        DataError: when the two differ in size.
    """
    if inside.shape != outside.shape:
        raise DataError(
            f'mixing needs images of one size, got {tuple(inside.shape)} and '
            f'{tuple(outside.shape)}: let source_transform.crop equal the crop (or resize) of '
            'pair_transform'
        )
    return torch.where(mask.unsqueeze(1) if inside.ndim == 4 else mask, inside, outside)


def confident_share(probabilities: Tensor, threshold: float = 0.968) -> Tensor:
    """Return q, the share of pixels whose likeliest class reaches the threshold, a scalar."""
    return (probabilities.amax(dim=1) >= threshold).float().mean()
