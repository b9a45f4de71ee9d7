from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch import nn

from models.released_form import ReleasedForm
from models.released_form import repeat_pixels
from models.released_form import to_steps
from models.segmentation_output import SegmentationOutput
from models.segmentation_output import resize
from models.student import Student
from models.temperature import Temperature

MEAN = torch.tensor([0.485, 0.456, 0.406])
STD = torch.tensor([0.229, 0.224, 0.225])


class KnownNet(nn.Module):
    """Return what it was given, and remember what it was asked."""

    def __init__(self, logits: Tensor, exposure: Tensor | None) -> None:
        super().__init__()
        self.output = SegmentationOutput(logits, exposure, None, None)
        self.has_exposure = exposure is not None
        self.seen: Tensor | None = None

    def forward(self, image: Tensor) -> SegmentationOutput:
        self.seen = image
        return self.output


def twice(mask: Tensor) -> Tensor:
    return mask.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)


@pytest.fixture
def image() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, 64, 128, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ('value', 'expected'),
    [(0.0, 0), (1.0, 255), (0.5, 128), (0.499, 127), (0.001, 0), (0.002, 1), (0.9985, 255)],
)
def test_to_steps_rounds(value: float, expected: int) -> None:
    assert int(to_steps(torch.tensor(value))) == expected


def test_pixels_are_repeated_in_both_directions() -> None:
    x = torch.tensor([[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]])
    assert repeat_pixels(x)[0, 0].tolist() == [[1, 1, 2, 2]] * 2 + [[3, 3, 4, 4]] * 2
    assert repeat_pixels(x)[0, 1].tolist() == [[5, 5, 6, 6]] * 2 + [[7, 7, 8, 8]] * 2


@pytest.mark.parametrize(
    ('exposure_width', 'names'),
    [(4, ['labels', 'confidence', 'exposure']), (0, ['labels', 'confidence'])],
)
def test_equals_a_forward_pass_made_by_hand(
    image: Tensor, exposure_width: int, names: list[str]
) -> None:
    torch.manual_seed(3)
    net = Student(8, exposure_width).eval()
    released = ReleasedForm(net, MEAN, STD).eval()
    with torch.inference_mode():
        outputs = dict(zip(released.output_names, released(image), strict=True))
        scaled = (image.float() / 255 - MEAN) / STD
        output = net(scaled.permute(0, 3, 1, 2))
        logits = resize(output.logits, (32, 64))
    assert list(outputs) == names
    for mask in outputs.values():
        assert mask.dtype == torch.uint8
        assert mask.shape == (1, 64, 128)
    # Normalising in another order may tip a tie between two classes, nothing more.
    assert (outputs['labels'] == twice(logits.argmax(1))).float().mean() > 0.999
    confidence = twice((255 * logits.softmax(1).amax(1)).round())
    assert (outputs['confidence'].float() - confidence).abs().max() <= 1
    if exposure_width:
        exposure = twice((255 * resize(output.exposure, (32, 64))[:, 0]).round())
        assert (outputs['exposure'].float() - exposure).abs().max() <= 1


@pytest.mark.parametrize(
    ('share', 'expected'), [(0.5, 128), (0.6, 153), (0.9, 230), (0.99, 252), (0.9999, 255)]
)
def test_confidence_is_the_largest_softmax_in_255_steps(
    image: Tensor, share: float, expected: int
) -> None:
    logits = torch.zeros(1, 2, 8, 16)
    logits[:, 1] = math.log(share / (1 - share)) + 1e-6
    labels, confidence = ReleasedForm(KnownNet(logits, None), MEAN, STD)(image)
    assert (labels == 1).all()
    assert (confidence == expected).all()


def test_labels_are_the_argmax_of_upsampled_logits(image: Tensor) -> None:
    logits = torch.zeros(1, 19, 8, 16)
    logits[:, 18, :, :8] = 1
    logits[:, 7, :, 8:] = 2
    labels, _ = ReleasedForm(KnownNet(logits, None), MEAN, STD)(image)
    # Decided once per two pixels, at x = 0.5, 2.5, ... Between the centres of columns 7 (x = 59.5)
    # and 8 (x = 67.5) 1 - t = 2t at x = 62.17: the decision at 60.5 is the last for 18.
    assert labels[0, 32].tolist() == [18] * 62 + [7] * 66


def test_temperature_lowers_the_confidence_where_exposure_is_bad_and_keeps_labels(
    image: Tensor,
) -> None:
    logits = torch.randn(1, 19, 8, 16, generator=torch.Generator().manual_seed(1))
    exposure = torch.full((1, 1, 8, 16), 0.5)
    exposure[..., :4], exposure[..., 12:] = 0.0, 1.0
    plain = ReleasedForm(KnownNet(logits, exposure), MEAN, STD)
    tempered = ReleasedForm(KnownNet(logits, exposure), MEAN, STD, Temperature(1.0, 1.0, 2.0))
    (labels, before, _), (same, after, _) = plain(image), tempered(image)
    inside = [slice(0, 24), slice(40, 88), slice(104, 128)]
    for place in inside:
        assert torch.equal(labels[..., place], same[..., place])
    dark, normal, bright = ((before.int() - after.int())[..., place] for place in inside)
    assert dark.min() > 0
    assert bright.min() > 0
    assert normal.abs().max() == 0


def test_exposure_is_upsampled_and_scaled(image: Tensor) -> None:
    exposure = torch.full((1, 1, 8, 16), 0.25)
    released = ReleasedForm(KnownNet(torch.zeros(1, 19, 8, 16), exposure), MEAN, STD)
    assert (released(image)[2] == 64).all()


@pytest.mark.parametrize(
    ('pixel', 'expected'),
    [
        ((0, 0, 0), [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]),
        ((255, 0, 255), [0.515 / 0.229, -0.456 / 0.224, 0.594 / 0.225]),
        ((124, 116, 104), [0.0056, -0.0049, 0.0082]),
    ],
)
def test_the_net_sees_normalised_rgb(pixel: tuple[int, int, int], expected: list[float]) -> None:
    net = KnownNet(torch.zeros(1, 19, 8, 8), None)
    frame = torch.tensor(pixel, dtype=torch.uint8).expand(1, 64, 64, 3)
    ReleasedForm(net, MEAN.view(1, 3, 1, 1), STD.view(1, 3, 1, 1))(frame)
    assert net.seen.shape == (1, 3, 64, 64)
    assert net.seen[0, :, 5, 9].tolist() == pytest.approx(expected, abs=1e-4)
