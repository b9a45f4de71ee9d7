from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models.student import Student
from training.data.driving_data import Batch
from training.methods.method import TrainingError
from training.methods.selftrain import SelfTrain
from training.methods.source_only import SourceOnly
from training.self_training import SelfTraining


def make(net: Student, **arguments) -> SelfTrain:
    return SelfTrain(net, SelfTraining(**{'mask_block': 16, **arguments}))


@pytest.mark.parametrize(
    ('weights', 'expected'),
    [
        ({}, ['segmentation', 'self_training/mix', 'self_training/masked']),
        ({'mix_weight': 0}, ['segmentation', 'self_training/masked']),
        ({'masked_weight': 0}, ['segmentation', 'self_training/mix']),
    ],
)
def test_terms(
    net: Student, batch: Batch, run: Callable, weights: dict, expected: list[str]
) -> None:
    assert list(run(make(net, **weights), batch)) == expected


def test_teacher_is_never_trained(
    net: Student, batch: Batch, run: Callable, gradient_of: Callable[..., float]
) -> None:
    method = make(net, threshold=0.0)
    run(method, batch)
    assert gradient_of(method.generator) > 0
    assert gradient_of(method.self_training.teacher) == 0
    assert not any(p.requires_grad for p in method.self_training.teacher.parameters())


def test_unsure_teacher_weighs_nothing(net: Student, batch: Batch, run: Callable) -> None:
    terms = run(make(net, threshold=1.1), batch)
    assert terms['self_training/masked'] == 0
    assert terms['self_training/mix'] > 0  # pasted source pixels count in full


def test_teacher_follows_slower_and_slower(net: Student) -> None:
    method = make(net, decay=0.75)
    weight = method.generator.net.head[1].weight
    mirror = method.self_training.teacher.net.head[1].weight
    with torch.no_grad():
        weight.zero_()
        mirror.fill_(1.0)
    shares = []
    for _ in range(5):
        before = mirror.mean().item()
        method.self_training.follow(method.generator)
        shares.append(mirror.mean().item() / before)
    # Kept: 1 - 1/(step + 1), never more than the decay.
    assert shares == pytest.approx([1 / 2, 2 / 3, 3 / 4, 3 / 4, 3 / 4], rel=1e-5)


def test_teacher_follows_batch_statistics(net: Student) -> None:
    method = make(net)
    norm = method.generator.net.stem[0][1]
    norm.running_mean.fill_(4.0)
    norm.num_batches_tracked.fill_(7)
    method.self_training.follow(method.generator)
    mirror = method.self_training.teacher.net.stem[0][1]
    assert mirror.running_mean.mean().item() == pytest.approx(2.0)
    assert mirror.num_batches_tracked == 7


def test_masks_are_blocks_of_the_asked_share() -> None:
    torch.manual_seed(0)
    image = torch.full((8, 3, 64, 100), 200, dtype=torch.uint8)
    masked = SelfTraining(mask_block=16, mask_ratio=0.7).masked(image)
    assert masked.dtype == torch.uint8
    assert set(masked.unique().tolist()) == {0, 200}
    black = (masked == 0).all(1)
    assert black.float().mean().item() == pytest.approx(0.7, abs=0.1)
    for block in black[:, :, :96].unfold(1, 16, 16).unfold(2, 16, 16).reshape(-1, 256):
        assert block.all() or not block.any()


def test_pseudo_labels_come_from_the_teacher_in_eval_mode(net: Student, batch: Batch) -> None:
    method = make(net).train()
    night = batch['target'][1]
    labels, share = method.self_training.pseudo_labels(night)
    assert labels.shape == (2, 64, 128)
    assert 0 <= share <= 1
    again, _ = method.self_training.pseudo_labels(night[:1])
    assert torch.equal(again, labels[:1])


def test_any_method_takes_self_training_and_says_when_it_cannot(
    net: Student, batch: Batch, run: Callable
) -> None:
    method = SourceOnly(net, self_training=SelfTraining(mask_block=16))
    assert list(run(method, batch)) == ['segmentation', 'self_training/mix', 'self_training/masked']
    with pytest.raises(TrainingError, match=r'give data\.targets'):
        run(method, {'source': batch['source']})
