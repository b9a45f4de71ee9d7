from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.student import Student
from training.data.driving_data import Batch
from training.methods.supervised import Supervised


def make_method(exposure_width: int = 4, **arguments) -> Supervised:
    torch.manual_seed(0)
    net = Student(8, exposure_width)
    return Supervised(net, **{'measure_size': (64, 128), **arguments})


@pytest.mark.parametrize('exposure_width', [0, 4])
def test_terms_reach_every_weight(batch: Batch, run: Callable, exposure_width: int) -> None:
    method = make_method(exposure_width)
    terms = run(method, batch)
    expected = {'segmentation', 'detail', 'boundary'} | ({'exposure'} if exposure_width else set())
    assert set(terms) == expected
    assert all(value > 0 for value in terms.values())
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


@pytest.mark.parametrize(
    ('argument', 'term'),
    [
        ('detail_weight', 'detail'),
        ('boundary_weight', 'boundary'),
        ('exposure_weight', 'exposure'),
    ],
)
def test_weights_scale_their_loss(batch: Batch, run: Callable, argument: str, term: str) -> None:
    got = [run(make_method(**{argument: w}), batch)[term].item() for w in (0.0, 1.0, 2.5)]
    assert got[0] == 0
    assert got[2] == pytest.approx(2.5 * got[1], rel=1e-4)


def test_unlabelled_batch_does_not_harm(batch: Batch, run: Callable) -> None:
    method = make_method()
    image, labels = batch['source']
    terms = run(method, {'source': [image, torch.full_like(labels, 255)]})
    assert all(torch.isfinite(value) for value in terms.values())
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


def test_a_few_steps_on_one_batch_lower_the_loss(run: Callable) -> None:
    torch.manual_seed(0)
    labels = torch.zeros(2, 64, 128, dtype=torch.int64)
    labels[:, :, 64:] = 10
    image = torch.where(labels[:, None] == 10, 200, 60).expand(-1, 3, -1, -1).to(torch.uint8)
    method = make_method()
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    history = []
    for _ in range(12):
        optimizer.zero_grad()
        history.append(sum(run(method, {'source': [image, labels]}).values()).item())
        optimizer.step()
    assert history[-1] < 0.6 * history[0]


@pytest.mark.parametrize('size', [(64, 128), (37, 50), (120, 160)])
def test_predicted_labels_have_the_size_of_the_frame(size: tuple[int, int]) -> None:
    method = make_method().eval()
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    with torch.inference_mode():
        got = method.predict_labels(image)
        x = F.interpolate(image / 255, (64, 128), mode='bilinear', antialias=True)
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        logits = method.generator.net((x - mean) / std).logits
        upsampled = F.interpolate(logits, size, mode='bilinear', align_corners=False)
    assert got.shape == (1, *size)
    assert got.dtype == torch.int64
    assert (got == upsampled.argmax(1)).float().mean() > 0.999


def logged(method: Supervised, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Return what the method will log, filled as it goes."""
    values: dict[str, Tensor] = {}
    monkeypatch.setattr(method, 'log', lambda name, value, **_: values.update({name: value}))
    return values


def test_validation_counts_each_set_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    datamodule = SimpleNamespace(measuring={'one': None, 'two': None})
    monkeypatch.setattr(Supervised, 'trainer', SimpleNamespace(datamodule=datamodule))
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
