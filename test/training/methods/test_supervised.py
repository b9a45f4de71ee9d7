from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from training.methods.supervised import Supervised
from training.methods.supervised import warm_poly


def make_method(**arguments) -> Supervised:
    torch.manual_seed(0)
    return Supervised(
        **{'width': 8, 'exposure_width': 4, 'input_size': (64, 128), 'warmup': 2, **arguments}
    )


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (2, 3, 64, 128), dtype=torch.uint8, generator=generator)
    blocks = torch.randint(0, 19, (2, 2, 4), generator=generator)
    labels = blocks.repeat_interleave(32, 1).repeat_interleave(32, 2)
    labels[:, :8] = 255
    return image, labels


def logged(method: Supervised, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Return what the method will log, filled as it goes."""
    values: dict[str, Tensor] = {}
    monkeypatch.setattr(method, 'log', lambda name, value, **_: values.update({name: value}))
    monkeypatch.setattr(method, 'log_dict', values.update)
    return values


@pytest.mark.parametrize('exposure_width', [0, 4])
def test_training_step_sums_its_parts(
    batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch, exposure_width: int
) -> None:
    method = make_method(exposure_width=exposure_width)
    values = logged(method, monkeypatch)
    loss = method.training_step(batch, 0)
    parts = {'loss/segmentation', 'loss/detail', 'loss/boundary'}
    parts |= {'loss/exposure'} if exposure_width else set()
    assert set(values) == parts | {'loss'}
    assert loss.item() == pytest.approx(sum(values[part].item() for part in parts), rel=1e-5)
    assert all(values[part] > 0 for part in parts)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


@pytest.mark.parametrize(
    ('argument', 'part'),
    [
        ('detail_weight', 'loss/detail'),
        ('boundary_weight', 'loss/boundary'),
        ('exposure_weight', 'loss/exposure'),
    ],
)
def test_weights_scale_their_loss(
    batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch, argument: str, part: str
) -> None:
    got = []
    for weight in (0.0, 1.0, 2.5):
        method = make_method(**{argument: weight})
        values = logged(method, monkeypatch)
        method.training_step(batch, 0)
        got.append(values[part].item())
    assert got[0] == 0
    assert got[2] == pytest.approx(2.5 * got[1], rel=1e-4)


def test_unlabelled_batch_does_not_harm(batch: tuple[Tensor, Tensor]) -> None:
    method = make_method()
    loss = method.training_step((batch[0], torch.full_like(batch[1], 255)), 0)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


def test_a_few_steps_on_one_batch_lower_the_loss() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(2, 64, 128, dtype=torch.int64)
    labels[:, :, 64:] = 10
    image = torch.where(labels[:, None] == 10, 200, 60).expand(-1, 3, -1, -1).to(torch.uint8)
    method = make_method()
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    history = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = method.training_step((image, labels), 0)
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.6 * history[0]


@pytest.mark.parametrize('size', [(64, 128), (37, 50), (120, 160)])
def test_predicted_labels_have_the_size_of_the_frame(size: tuple[int, int]) -> None:
    method = make_method().eval()
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    with torch.inference_mode():
        got = method.predict_labels(image)
        x = F.interpolate(image / 255, (64, 128), mode='bilinear', align_corners=False)
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        logits = method.net((x - mean) / std).logits
        upsampled = F.interpolate(logits, size, mode='bilinear', align_corners=False)
    assert got.shape == (1, *size)
    assert got.dtype == torch.int64
    assert (got == upsampled.argmax(1)).float().mean() > 0.999


@pytest.fixture
def in_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let methods believe in a trainer of 12 steps that measures two sets."""
    trainer = SimpleNamespace(
        estimated_stepping_batches=12, datamodule=SimpleNamespace(measuring_sets=('one', 'two'))
    )
    monkeypatch.setattr(Supervised, 'trainer', trainer)


@pytest.mark.usefixtures('in_trainer')
def test_validation_counts_each_set_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    method = make_method()
    values = logged(method, monkeypatch)
    method.setup('fit')
    truth = torch.zeros(1, 4, 4, dtype=torch.int64)
    truth[0, 0] = 255
    half = truth.clone()
    half[0, 1:, :2] = 5
    frame = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    monkeypatch.setattr(method, 'predict_labels', lambda image: torch.zeros_like(truth))
    method.validation_step((frame, truth), 0, dataloader_idx=0)
    method.validation_step((frame, half), 0, dataloader_idx=1)
    method.on_validation_epoch_end()
    # Half the counted pixels are right; the union of road is all, that of pole the other half.
    assert values['miou/one'] == pytest.approx(1)
    assert values['miou/two'] == pytest.approx((0.5 + 0) / 2)
    # The next epoch counts anew.
    method.validation_step((frame, half), 0, dataloader_idx=0)
    method.validation_step((frame, truth), 0, dataloader_idx=1)
    method.on_validation_epoch_end()
    assert values['miou/one'] == pytest.approx((0.5 + 0) / 2)
    assert values['miou/two'] == pytest.approx(1)


@pytest.mark.usefixtures('in_trainer')
def test_norms_and_biases_do_not_decay() -> None:
    method = make_method(weight_decay=0.02, learning_rate=1e-3)
    configured = method.configure_optimizers()
    decayed, kept = configured['optimizer'].param_groups
    assert decayed['weight_decay'] == 0.02
    assert kept['weight_decay'] == 0
    assert {p.ndim for p in decayed['params']} == {4}
    assert {p.ndim for p in kept['params']} == {1}
    total = len(list(method.net.parameters()))
    assert len(decayed['params']) + len(kept['params']) == total
    assert configured['lr_scheduler']['interval'] == 'step'
    assert decayed['lr'] == pytest.approx(1e-3 * 1 / 2)  # the first of two steps of warm-up


@pytest.mark.parametrize(
    ('step', 'steps', 'warmup', 'expected'),
    [
        (0, 6000, 150, 1 / 150),
        (74, 6000, 150, 0.5),
        (149, 6000, 150, 1.0),
        (150, 6000, 150, 1.0),
        (3075, 6000, 150, 0.5**0.9),
        (6000, 6000, 150, 0.0),
        (7000, 6000, 150, 0.0),
        (0, 10, 0, 1.0),
        (5, 10, 0, 0.5**0.9),
        (3, 4, 150, 4 / 150),
    ],
)
def test_warm_poly_by_hand(step: int, steps: int, warmup: int, expected: float) -> None:
    assert warm_poly(step, steps, warmup) == pytest.approx(expected)


@given(steps=st.integers(1, 500), warmup=st.integers(0, 100))
def test_warm_poly_climbs_then_falls(steps: int, warmup: int) -> None:
    rates = [warm_poly(step, steps, warmup) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
