from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.relighting import CurveRelighting
from models.student import Student
from training.data.driving_data import Batch
from training.losses.light import LightLoss
from training.methods.bimix import BiMix
from training.methods.dannet import Adapted
from training.self_training import SelfTraining

BASE = {
    'adversarial/day', 'light/day', 'adversarial/night', 'static', 'light/night', 'segmentation',
    'light/source', 'discriminator/day', 'discriminator/night',
}  # fmt: skip


def make(net: Student, **arguments) -> BiMix:
    full = {'relighting': CurveRelighting(), 'light': LightLoss('bimix')}
    return BiMix(net, **{**full, **arguments})


@pytest.mark.parametrize('form', ['paper', 'official'])
@pytest.mark.parametrize(
    ('row', 'mixed', 'light'),
    [
        ({'mix_to_segmentation': 0, 'mix_to_relighting': 0}, set(), True),
        ({'mix_to_segmentation': 0}, {'mix/relighting'}, True),
        ({'mix_to_relighting': 0}, {'mix/segmentation'}, True),
        (
            {'mix_to_relighting': 0, 'relighting': None, 'light': None},
            {'mix/segmentation'},
            False,
        ),
        ({}, {'mix/segmentation', 'mix/relighting'}, True),
    ],
)
def test_rows_of_table_3(
    net: Student, batch: Batch, run: Callable, form: str, row: dict, mixed: set[str], light: bool
) -> None:
    terms = run(make(net, form=form, **row), batch)
    expected = BASE | mixed if light else {n for n in BASE if not n.startswith('light')} | mixed
    assert set(terms) == expected
    assert all(torch.isfinite(value) for value in terms.values())


def answers(label: Tensor) -> Tensor:
    """Return logits that say a label with certainty."""
    return torch.nn.functional.one_hot(label, 19).movedim(-1, 1).float() * 30


class Recorded(torch.nn.Module):
    """Stands in for a network and keeps what it was shown."""

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return self.answer(x)


def adapted(labels: Tensor, day: Tensor, night: Tensor) -> Adapted:
    return Adapted(answers(labels % 19), answers(day), answers(night))


def test_trans2seg_pastes_source_into_the_raw_night(net: Student, batch: Batch) -> None:
    method = make(net)
    source, labels = batch['source']
    night = batch['target'][1]
    night_label = torch.full_like(labels, 10)
    logits = torch.zeros(2, 19, 64, 128, requires_grad=True)
    shown = Recorded(lambda x: type('Output', (), {'logits': logits}))
    method.generator.net = shown
    torch.manual_seed(4)
    terms = method.trans2seg(source, labels, night, adapted(labels, night_label, night_label))
    [image] = shown.seen
    pasted = (image == method.generator.normalise(source)).all(1)
    kept = (image == method.generator.normalise(night)).all(1)
    assert (pasted | kept).all()
    assert 0.02 < pasted.float().mean() < 0.98
    assert (labels[pasted & ~kept] != 255).all()
    terms['mix/segmentation'].backward()
    # Descent raises the source's label where it was pasted, the night's own elsewhere.
    wanted = torch.where(pasted & ~kept, labels, night_label)
    assert (logits.grad.gather(1, wanted.unsqueeze(1)) < 0).all()


def test_official_mixed_labels_ignore_what_moves_at_night(net: Student, batch: Batch) -> None:
    method = make(net, form='official')
    source, labels = batch['source']
    car = torch.full_like(labels, 13)
    logits = torch.zeros(2, 19, 64, 128, requires_grad=True)
    method.generator.net = Recorded(lambda x: type('Output', (), {'logits': logits}))
    terms = method.trans2seg(source, labels, batch['target'][1], adapted(labels, car, car))
    assert set(terms) == {'mix/segmentation', 'static'}
    terms['mix/segmentation'].backward()
    trained = logits.grad.abs().sum(1) > 0
    assert trained.any()
    assert (labels[trained] != 255).all()  # only pasted pixels are left


@pytest.mark.parametrize(('form', 'person_moves'), [('paper', True), ('official', False)])
def test_seg2trans_moves_what_is_dynamic_by_day(
    net: Student, batch: Batch, form: str, person_moves: bool
) -> None:
    method = make(net, form=form)
    day, night = batch['target']
    label = torch.zeros(2, 64, 128, dtype=torch.int64)
    label[:, :20, :30], label[:, 30:40, :30] = 11, 13
    f = Recorded(lambda x: x * 2)
    method.generator.relighting = f
    method.generator.net = Recorded(lambda x: type('Output', (), {'logits': answers(label)}))
    loss = method.seg2trans(day, night, adapted(label, label, label))
    seen_day, seen_mix = f.seen
    moved = (label == 13) | ((label == 11) & person_moves)
    expected = torch.where(
        moved[:, None], method.generator.normalise(day), method.generator.normalise(night)
    )
    torch.testing.assert_close(seen_mix, expected)
    torch.testing.assert_close(seen_day, method.generator.normalise(day))
    torch.testing.assert_close(loss, (2 * (expected - seen_day)).abs().mean())
    # The paper's prediction is that of the relit day, the code's one of its own on the raw day.
    assert len(method.generator.net.seen) == (0 if form == 'paper' else 1)


@pytest.mark.parametrize(('form', 'attached'), [('paper', False), ('official', True)])
def test_only_the_code_pulls_at_the_day(
    net: Student, batch: Batch, form: str, attached: bool
) -> None:
    method = make(net, form=form)
    day, night = batch['target']
    outputs = []

    def f(x: Tensor) -> Tensor:
        outputs.append((x * 2).requires_grad_())
        return outputs[-1]

    method.generator.relighting = Recorded(f)
    label = torch.zeros(2, 64, 128, dtype=torch.int64)
    method.seg2trans(day, night, adapted(label, label, label)).backward()
    assert outputs[1].grad is not None
    assert (outputs[0].grad is not None) == attached


@pytest.mark.parametrize('missing', [{'relighting': None, 'light': None}, {'use_day': False}])
def test_relighting_direction_needs_relighting_and_day(net: Student, missing: dict) -> None:
    with pytest.raises(ValueError, match='set mix_to_relighting to 0'):
        make(net, **missing)


def test_crops_of_two_sizes_are_refused(net: Student, batch: Batch, run: Callable) -> None:
    batch['target'] = [x[..., :64] for x in batch['target']]
    with pytest.raises(ValueError, match='one size.*source_transform.crop'):
        run(make(net), batch)


def test_self_training_adds_its_terms(net: Student, batch: Batch, run: Callable) -> None:
    terms = run(make(net, self_training=SelfTraining(mask_block=16)), batch)
    assert {'self_training/mix', 'self_training/masked'} <= set(terms)
