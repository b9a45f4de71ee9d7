from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from training.data.frames import DataError
from training.data.labelled_set import LabelledFrames
from training.evaluation.protocol import EvaluationProtocol
from training.evaluation.scores import evaluate_method

SIZE = (24, 40)
PLAIN = EvaluationProtocol(None, None)


@pytest.mark.parametrize('stride', [1, 4])
def test_who_knows_the_truth_scores_one(knowing: type, frames: LabelledFrames, stride: int) -> None:
    found = evaluate_method(knowing(stride=stride), frames, PLAIN)
    if stride == 1:
        assert found.mean_iou == 1.0
        assert found.exposure.mean_micro == 1.0
        assert [frame.miou for frame in found.frames] == [1.0, 1.0, 1.0]
    assert found.mean_iou > 0.9
    half = SIZE[0] * SIZE[1] // 2
    assert found.support[[0, 2, 10, 13]].tolist() == [2 * half, half, half, half]
    assert found.support.sum() == 5 * half
    assert found.sizes == ('24x40',)
    assert found.uncertainty is None


def test_who_is_always_wrong_scores_zero(knowing: type, frames: LabelledFrames) -> None:
    found = evaluate_method(knowing(shift=8), frames, PLAIN)
    assert found.mean_iou == 0.0
    assert found.exposure.mean_micro == 0.0


def test_who_is_partly_wrong_scores_by_hand(
    knowing: type, root: Path, halves: Callable[[int, int], np.ndarray]
) -> None:
    # The frame shows sky over road; its label says road for the upper half of the sky as well.
    labels = halves(10, 0)
    labels[: SIZE[0] // 4] = 0
    assert cv2.imwrite(str(root / 'labels' / 'a.png'), labels)
    found = evaluate_method(knowing(), LabelledFrames(root, cache=False), PLAIN, indices=[0])
    # Truth: 3/4 road, 1/4 sky; predicted 1/2 each. Road 2/3 of its union, sky 1/2.
    assert found.class_iou[[0, 10]].tolist() == pytest.approx([2 / 3, 1 / 2])
    assert found.mean_iou == found.frames[0].miou == pytest.approx(7 / 12)
    # Sky (V = 125/255, bin 4) is right on half of its pixels, road (60/255, bin 2) everywhere.
    assert found.exposure.micro[[2, 4]].tolist() == pytest.approx([1, 1 / 2])
    assert found.exposure.mean_micro == pytest.approx(3 / 4)


def test_labels_are_compared_at_their_size(knowing: type, frames: LabelledFrames) -> None:
    method = knowing()
    found = evaluate_method(method, frames, EvaluationProtocol((12, 20), None))
    assert set(method.sizes) == {(12, 20)}
    assert found.sizes == ('24x40',)
    assert found.mean_iou > 0.85


def test_uncertainty_where_the_set_knows_it(knowing: type, masked: LabelledFrames) -> None:
    found = evaluate_method(knowing(), masked, PLAIN)
    assert found.uncertainty.mean_uiou[0] == pytest.approx(1.0)
    # Labelled: 5 halves, 2 of them upper and invalid.
    assert found.uncertainty.invalid_share == pytest.approx(2 / 5)


def test_refuses(
    knowing: type, root: Path, frames: LabelledFrames, paint: Callable, halves: Callable
) -> None:
    with pytest.raises(DataError, match='no frame'):
        evaluate_method(knowing(), frames, PLAIN, indices=[])
    paint(root, 'd', halves(253, 0))
    odd = LabelledFrames(root, cache=False, extra_labels=(253,))
    with pytest.raises(DataError, match=r'truth holds \[253\]'):
        evaluate_method(knowing(), odd, PLAIN)
    method = knowing()
    method.predict_logits = lambda image: torch.zeros(1, 5, 2, 2)
    with pytest.raises(DataError, match=r'predicts \(1, 5, 2, 2\)'):
        evaluate_method(method, frames, PLAIN)


def test_says_which_size_a_network_cannot_take(knowing: type, frames: LabelledFrames) -> None:
    def refuse(image: Tensor) -> Tensor:
        raise ValueError('sides must be multiples of 64')

    method = knowing()
    method.predict_logits = refuse
    with pytest.raises(DataError, match=r'24x40 \(set --predict_size\): sides must be'):
        evaluate_method(method, frames, PLAIN)


def test_refuses_masks_of_a_part(knowing: type, masked: LabelledFrames) -> None:
    whole = masked.invalid_mask
    masked.invalid_mask = lambda index: whole(index) if index else None
    with pytest.raises(DataError, match='only 2 of 3'):
        evaluate_method(knowing(), masked, PLAIN)
    masked.invalid_mask = lambda index: np.zeros((2, 2), bool)
    with pytest.raises(DataError, match='differ in size'):
        evaluate_method(knowing(), masked, PLAIN)
