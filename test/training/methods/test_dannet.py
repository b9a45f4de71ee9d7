from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models.relighting import CurveRelighting
from models.student import Student
from training.data.driving_data import Batch
from training.losses.light import LightLoss
from training.losses.segmentation import class_weights
from training.losses.segmentation import segmentation_loss
from training.losses.static import StaticLoss
from training.methods.dannet import DANNet
from training.self_training import SelfTraining

FULL = [
    'adversarial/day', 'light/day',
    'adversarial/night', 'static', 'light/night',
    'segmentation', 'light/source',
    'discriminator/day', 'discriminator/night',
]  # fmt: skip


def make(net: Student, **arguments) -> DANNet:
    full = {'relighting': CurveRelighting(), 'light': LightLoss(), 'static': StaticLoss()}
    return DANNet(net, **{**full, **arguments})


@pytest.mark.parametrize(
    ('ablation', 'left_out'),
    [
        ({}, set()),
        ({'use_day': False}, {'adversarial/day', 'light/day', 'static', 'discriminator/day'}),
        ({'relighting': None, 'light': None}, {'light/day', 'light/night', 'light/source'}),
        ({'light': None}, {'light/day', 'light/night', 'light/source'}),
        ({'static': None}, {'static'}),
    ],
)
def test_rows_of_table_4_leave_out_their_terms(
    net: Student, batch: Batch, run: Callable, ablation: dict, left_out: set[str]
) -> None:
    terms = run(make(net, **ablation), batch)
    assert list(terms) == [name for name in FULL if name not in left_out]
    assert all(torch.isfinite(value) for value in terms.values())


def test_groups_train_what_they_should(
    net: Student, batch: Batch, gradient_of: Callable[..., float]
) -> None:
    method = make(net)
    for group in method.terms(batch):
        method.zero_grad()
        torch.stack(list(group.values())).sum().backward()
        generator, adversaries = gradient_of(method.generator), gradient_of(method.adversaries())
        if any(name.startswith('discriminator') for name in group):
            assert generator == 0
            assert adversaries > 0
        else:
            assert generator > 0
            assert gradient_of(method.generator.relighting) > 0
            assert adversaries == 0


def test_weights_of_equation_11(net: Student, batch: Batch, run: Callable) -> None:
    torch.manual_seed(1)
    one = make(net, light=LightLoss(target_weight=0.01, source_weight=0.01)).eval()
    two = make(net, light=LightLoss(target_weight=0.02, source_weight=1.0), static_weight=3.0)
    two.load_state_dict(one.state_dict())
    first, second = run(one, batch), run(two.eval(), batch)
    ratio = {name: (second[name] / first[name]).item() for name in FULL}
    expected = {'light/day': 2, 'light/night': 2, 'light/source': 100, 'static': 3}
    assert ratio == pytest.approx({name: expected.get(name, 1) for name in FULL}, rel=1e-4)


def test_segmentation_term_is_equation_7_on_the_relit_source(
    net: Student, batch: Batch, run: Callable
) -> None:
    method = make(net, segmentation_reduction='pixel_class_mean', align_corners=True).eval()
    image, labels = batch['source']
    with torch.no_grad():
        x = method.generator.normalise(image)
        logits = method.generator.net(x + method.generator.relighting(x)).logits
        logits = torch.nn.functional.interpolate(
            logits, labels.shape[-2:], mode='bilinear', align_corners=True
        )
        expected = segmentation_loss(logits, labels, class_weights(0.05), 'pixel_class_mean')
    torch.testing.assert_close(run(method, batch)['segmentation'], expected)


def test_target_logits_can_be_larger_than_the_images(net: Student, batch: Batch) -> None:
    method = make(net, target_size=(96, 192))
    generator = method.adapt(batch)
    with pytest.raises(StopIteration) as end:
        while True:
            next(generator)
    adapted = end.value.value
    assert adapted.day.shape == adapted.night.shape == (2, 19, 96, 192)
    assert adapted.source.shape == (2, 19, 64, 128)
    assert not any(logits.requires_grad for logits in adapted)


def test_light_without_relighting_is_refused(net: Student) -> None:
    with pytest.raises(ValueError, match='set light to null'):
        DANNet(net, light=LightLoss())


def test_self_training_adds_its_terms(net: Student, batch: Batch, run: Callable) -> None:
    terms = run(make(net, self_training=SelfTraining(mask_block=16)), batch)
    assert list(terms) == [*FULL, 'self_training/mix', 'self_training/masked']
