from __future__ import annotations

import pytest
import torch

from models.lite_student import LiteStudent


def make(**arguments) -> LiteStudent:
    torch.manual_seed(0)
    return LiteStudent(**{'width': 16, 'exposure_width': 4, **arguments})


@pytest.mark.parametrize(('height', 'width'), [(32, 64), (64, 96), (256, 384)])
def test_eval_outputs_lie_at_stride_4_without_auxiliaries(height: int, width: int) -> None:
    with torch.inference_mode():
        output = make().eval()(torch.randn(1, 3, height, width))
    assert output.logits.shape == (1, 19, height // 4, width // 4)
    assert output.exposure.shape == (1, 1, height // 4, width // 4)
    assert 0 <= output.exposure.min() <= output.exposure.max() <= 1
    assert output.detail_logits is output.boundary_logits is None


def test_training_adds_auxiliaries_and_reaches_every_weight() -> None:
    net = make(num_classes=5).train()
    output = net(torch.randn(2, 3, 64, 64))
    assert output.detail_logits.shape == (2, 5, 8, 8)
    assert output.boundary_logits.shape == (2, 1, 16, 16)
    sum(x.square().mean() for x in output).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_without_exposure_stream_there_is_none() -> None:
    net = make(exposure_width=0).eval()
    assert not net.has_exposure
    assert net(torch.randn(1, 3, 32, 32)).exposure is None


@pytest.mark.parametrize(
    ('height', 'width', 'remedy'), [(33, 64, '64x64'), (360, 640, '384x640'), (16, 16, '32x32')]
)
def test_other_sizes_are_refused_with_the_next_valid_size(
    height: int, width: int, remedy: str
) -> None:
    with pytest.raises(ValueError, match=f'multiples of 32, got {height}x{width}.* to {remedy}'):
        make().eval()(torch.zeros(1, 3, height, width))


def test_exposure_guides_what_is_seen() -> None:
    net = make().eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = net(image).logits
        net.guide4.attention.bias.fill_(5.0)
        assert not torch.allclose(net(image).logits, before)
