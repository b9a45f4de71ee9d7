from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from training.evaluation.protocol import EvaluationProtocol
from training.evaluation.protocol import class_scores
from training.evaluation.protocol import decide
from training.evaluation.protocol import network_input
from training.losses.segmentation import class_weights

PLAIN = EvaluationProtocol(None, None)


def test_weights_change_the_argmax() -> None:
    # At std .16 road weighs .6932, motorcycle 1.2204: 3.0 * .6932 = 2.08 < 1.9 * 1.2204 = 2.32.
    logits = torch.zeros(1, 19, 2, 2)
    logits[:, 0], logits[:, 17] = 3.0, 1.9
    plain = decide(class_scores(logits, PLAIN), (4, 4), PLAIN)
    assert plain.labels.flatten().tolist() == [0] * 16
    weighted = EvaluationProtocol(None, 0.16)
    scores = class_scores(logits, weighted)
    assert scores[0, 0, 0, 0] == pytest.approx(2.0796, abs=1e-3)
    assert scores[0, 17, 0, 0] == pytest.approx(2.3188, abs=1e-3)
    assert decide(scores, (4, 4), weighted).labels.flatten().tolist() == [17] * 16
    # As probabilities road wins: e^3 * .6932 = 13.9 > e^1.9 * 1.2204 = 8.2.
    words = EvaluationProtocol(None, 0.16, 'probabilities')
    assert decide(class_scores(logits, words), (4, 4), words).labels.flatten().tolist() == [0] * 16


def test_confidence_by_hand() -> None:
    logits = torch.zeros(1, 19, 1, 1)
    logits[:, 5] = math.log(18.0)
    found = decide(class_scores(logits, PLAIN), (2, 2), PLAIN)
    assert found.confidence.flatten().tolist() == pytest.approx([0.5] * 4)
    words = EvaluationProtocol(None, 0.16, 'probabilities')
    weights = class_weights(0.16)
    others = float(weights.sum() - weights[5])
    expected = 18 * float(weights[5]) / (18 * float(weights[5]) + others)
    found = decide(class_scores(logits, words), (2, 2), words)
    assert found.confidence.flatten().tolist() == pytest.approx([expected] * 4)


@pytest.mark.parametrize(
    ('align', 'share'),
    [
        # The second of eight pixels lies 1/7 of the way: logits 24/7, 4/7 and 2.5.
        (True, math.exp(24 / 7) / (math.exp(24 / 7) + math.exp(4 / 7) + math.exp(2.5))),
        # It lies before the centre of the first logit: logits 4, 0 and 2.5.
        (False, math.exp(4) / (math.exp(4) + 1 + math.exp(2.5))),
    ],
)
def test_logits_are_upsampled_before_the_argmax(align: bool, share: float) -> None:
    # Class 0 fades 4 -> 0, class 1 rises 0 -> 4, class 2 is 2.5 at both ends: it wins between.
    logits = torch.full((1, 19, 1, 2), -99.0)
    logits[0, 0, 0] = torch.tensor([4.0, 0.0])
    logits[0, 1, 0] = torch.tensor([0.0, 4.0])
    logits[0, 2, 0] = 2.5
    protocol = EvaluationProtocol(None, None, align_corners=align)
    scores = class_scores(logits, protocol)
    assert decide(scores, (1, 5), protocol).labels[0].tolist() == [0, 0, 2, 1, 1]
    assert decide(scores, (1, 8), protocol).confidence[0, 1].item() == pytest.approx(share)


def test_frames_are_resized_like_pil(knowing: type) -> None:
    image = np.random.default_rng(0).integers(0, 256, (54, 96, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((48, 27), Image.Resampling.BILINEAR))
    found = network_input(image, knowing(), (27, 48))[0].permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (network_input(image, knowing(), None)[0].permute(1, 2, 0).numpy() == image).all()


def test_protocol_in_words() -> None:
    assert '540x960' in str(EvaluationProtocol())
    assert 'logits times class weights (std 0.16)' in str(EvaluationProtocol())
    assert 'at their own size' in str(PLAIN)
    assert 'no class weights' in str(PLAIN)
