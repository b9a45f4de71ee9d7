from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from models.segmentation_output import resize
from models.student import BasicBlock
from models.student import BoundaryFusion
from models.student import ExposureGuidance
from models.student import PixelAttention
from models.student import PyramidPooling
from models.student import Student
from models.student import stage


def make_student(**arguments) -> Student:
    torch.manual_seed(0)
    return Student(**{'width': 8, 'exposure_width': 4, **arguments})


@pytest.mark.parametrize(
    ('batch', 'height', 'width'),
    [(2, 64, 64), (2, 64, 192), (1, 128, 64), (1, 384, 640)],
)
def test_eval_outputs_lie_at_stride_8_without_auxiliaries(
    batch: int, height: int, width: int
) -> None:
    net = make_student().eval()
    with torch.inference_mode():
        output = net(torch.randn(batch, 3, height, width))
    assert output.logits.shape == (batch, 19, height // 8, width // 8)
    assert output.exposure.shape == (batch, 1, height // 8, width // 8)
    assert 0 <= output.exposure.min() <= output.exposure.max() <= 1
    assert output.detail_logits is None
    assert output.boundary_logits is None


def test_train_outputs_have_auxiliaries_of_the_same_stride() -> None:
    output = make_student(num_classes=5).train()(torch.randn(2, 3, 64, 128))
    assert output.logits.shape == output.detail_logits.shape == (2, 5, 8, 16)
    assert output.boundary_logits.shape == output.exposure.shape == (2, 1, 8, 16)


@pytest.mark.parametrize(
    ('height', 'width', 'remedy'),
    [
        (63, 64, '64x64'),
        (64, 65, '64x128'),
        (360, 640, '384x640'),
        (100, 200, '128x256'),
        (32, 32, '64x64'),
    ],
)
def test_other_sizes_are_refused_with_the_next_valid_size(
    height: int, width: int, remedy: str
) -> None:
    with pytest.raises(ValueError, match=f'got {height}x{width}.*{remedy}$'):
        make_student()(torch.zeros(1, 3, height, width))


def test_without_exposure_the_stream_and_its_weights_are_gone() -> None:
    net = make_student(exposure_width=0)
    assert not net.has_exposure
    assert not [name for name, _ in net.named_parameters() if 'exposure' in name or 'guide' in name]
    output = net(torch.randn(2, 3, 64, 64))
    assert output.exposure is None
    assert output.logits.shape == (2, 19, 8, 8)
    assert output.detail_logits is not None


@pytest.mark.parametrize('exposure_width', [0, 4])
def test_gradients_reach_every_parameter(exposure_width: int) -> None:
    net = make_student(exposure_width=exposure_width).train()
    outputs = [x for x in net(torch.randn(2, 3, 128, 128)) if x is not None]
    sum((x * torch.randn_like(x)).sum() for x in outputs).backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


def test_exported_outputs_do_not_need_the_auxiliary_heads() -> None:
    net = make_student().eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = net(image)
        for head in (net.detail_head, net.boundary_head):
            for parameter in head.parameters():
                parameter.fill_(math.nan)
        after = net(image)
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.exposure, after.exposure)


def test_exposure_stream_steers_the_labels() -> None:
    net = make_student().eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = net(image).logits
        net.guide2.attention.bias.fill_(50)
        assert not torch.allclose(before, net(image).logits)


@pytest.mark.parametrize(('height', 'width'), [(320, 512), (64, 320)])
def test_one_frame_is_a_batch_in_training(height: int, width: int) -> None:
    # The coarsest pooled map must hold two values: batch norm has no statistics of one.
    output = make_student().train()(torch.randn(1, 3, height, width))
    assert all(torch.isfinite(x).all() for x in output)


def test_a_frame_is_segmented_alike_alone_and_in_a_batch() -> None:
    net = make_student().eval()
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        together = net(images).logits
        alone = torch.cat([net(image[None]).logits for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)


@given(
    feature=st.floats(-10, 10),
    exposure=st.floats(-5, 5),
    weight=st.floats(-3, 3),
    bias=st.floats(-3, 3),
    w1=st.floats(0, 2),
    w2=st.floats(0, 2),
)
@settings(max_examples=50, deadline=None)
def test_guidance_is_equation_1(
    feature: float, exposure: float, weight: float, bias: float, w1: float, w2: float
) -> None:
    guide = ExposureGuidance(1, w1, w2)
    nn.init.constant_(guide.attention.weight, weight)
    nn.init.constant_(guide.attention.bias, bias)
    got = guide(torch.full((1, 3, 2, 2), feature), torch.full((1, 1, 2, 2), exposure))
    gate = 1 / (1 + math.exp(-(weight * exposure + bias)))
    expected = torch.full((1, 3, 2, 2), feature * (w1 + w2 * gate))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_guidance_has_the_papers_weights_and_one_channel_of_attention() -> None:
    guide = ExposureGuidance(4)
    features, exposure = torch.randn(2, 6, 3, 5), torch.randn(2, 4, 3, 5)
    attention = torch.sigmoid(guide.attention(exposure))
    assert attention.shape == (2, 1, 3, 5)
    torch.testing.assert_close(guide(features, exposure), features * (1.0 + 0.3 * attention))


def test_pixel_attention_mixes_detail_and_context() -> None:
    attend = PixelAttention(4, 2).eval()
    detail, context = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)
    upsampled = resize(context, (8, 8))
    fused = attend(detail, context)
    low, high = torch.minimum(detail, upsampled), torch.maximum(detail, upsampled)
    assert (fused >= low - 1e-5).all()
    assert (fused <= high + 1e-5).all()
    torch.testing.assert_close(attend(upsampled, context), upsampled)


def test_pixel_attention_of_orthogonal_embeddings_is_half_and_half() -> None:
    attend = PixelAttention(2, 1).eval()
    nn.init.zeros_(attend.detail[0].weight)
    detail, context = torch.full((1, 2, 2, 2), 1.0), torch.full((1, 2, 1, 1), 3.0)
    torch.testing.assert_close(attend(detail, context), torch.full((1, 2, 2, 2), 2.0))


@pytest.mark.parametrize(
    ('boundary', 'expected'),
    [
        (50.0, 2 * 2.0 + 5.0),  # at a boundary the detail counts twice
        (-50.0, 2.0 + 2 * 5.0),  # elsewhere the context does
        (0.0, 1.5 * (2.0 + 5.0)),
    ],
)
def test_boundary_fusion_by_hand(boundary: float, expected: float) -> None:
    fusion = BoundaryFusion(1)
    fusion.detail = fusion.context = nn.Identity()
    maps = [torch.full((1, 1, 1, 1), x) for x in (2.0, 5.0, boundary)]
    assert fusion(*maps).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(('inputs', 'outputs', 'stride'), [(4, 4, 1), (4, 6, 1), (4, 4, 2)])
def test_block_with_silent_body_is_its_skip(inputs: int, outputs: int, stride: int) -> None:
    block = BasicBlock(inputs, outputs, stride, last_relu=False).eval()
    nn.init.zeros_(block.body[1][0].weight)
    x = torch.randn(1, inputs, 8, 8)
    y = block(x)
    assert y.shape == (1, outputs, 8 // stride, 8 // stride)
    torch.testing.assert_close(y, block.skip(x))
    assert isinstance(block.skip, nn.Identity) == (inputs == outputs and stride == 1)


@pytest.mark.parametrize('blocks', [1, 2, 3])
def test_stage_ends_without_relu(blocks: int) -> None:
    torch.manual_seed(0)
    y = stage(4, 8, blocks, stride=2).eval()(torch.randn(1, 4, 16, 16))
    assert y.shape == (1, 8, 8, 8)
    assert y.min() < 0


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (6, 10)])
def test_pyramid_keeps_the_size_of_any_map(size: tuple[int, int]) -> None:
    assert PyramidPooling(8, 4, 6).eval()(torch.randn(1, 8, *size)).shape == (1, 6, *size)


def test_resize_does_not_align_corners() -> None:
    got = resize(torch.tensor([[[[0.0, 1.0]]]]), (1, 4))
    torch.testing.assert_close(got, torch.tensor([[[[0.0, 0.25, 0.75, 1.0]]]]))
