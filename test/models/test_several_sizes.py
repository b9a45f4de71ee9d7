from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch import nn

from models.segmentation_output import SegmentationOutput
from models.segmentation_output import resize
from models.several_sizes import LEAST_PROBABILITY
from models.several_sizes import SeveralSizes
from models.several_sizes import in_sizes
from models.student import Student


class BySize(nn.Module):
    """A net that answers by the height of what it sees."""

    stride = 4
    has_exposure = True

    def __init__(self, answers: dict[int, list[float]]) -> None:
        super().__init__()
        self.answers = answers
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> SegmentationOutput:
        self.seen.append(image)
        n, _, height, width = image.shape
        logits = torch.tensor(self.answers[height]).view(1, -1, 1, 1)
        logits = logits.expand(n, -1, height // 4, width // 4)
        return SegmentationOutput(logits, torch.full((n, 1, height // 4, width // 4), height / 100))


def test_probabilities_are_averaged_over_the_sizes() -> None:
    net = BySize({64: [0.0, 2.0, -30.0], 32: [1.0, 0.0, -30.0], 96: [3.0, 0.0, -30.0]})
    output = SeveralSizes(net, [(32, 64), (96, 96)])(torch.rand(2, 3, 64, 128))
    expected = torch.stack([torch.tensor(a).softmax(0) for a in net.answers.values()]).mean(0)
    assert output.logits.shape == (2, 3, 16, 32)
    found = output.logits.exp()
    assert torch.allclose(found[:, :2], expected[:2].view(1, 2, 1, 1).expand(2, 2, 16, 32))
    # What is out of the question stays a number that half precision holds.
    assert torch.allclose(found[:, 2], torch.tensor(LEAST_PROBABILITY))
    assert float(output.logits.half().min()) > -10


def test_every_size_sees_the_whole_frame_and_exposure_is_that_of_the_frame() -> None:
    net = BySize({64: [0.0, 1.0], 32: [0.0, 1.0]})
    image = torch.rand(1, 3, 64, 128)
    output = SeveralSizes(net, [(32, 96)])(image)
    assert torch.equal(net.seen[0], image)
    assert torch.equal(net.seen[1], resize(image, (32, 96)))
    assert output.exposure.shape == (1, 1, 16, 32)
    assert float(output.exposure.min()) == pytest.approx(0.64)


def test_without_further_sizes_the_network_stays_itself() -> None:
    net = Student(8, 4)
    assert in_sizes(net, []) is net


def test_the_same_size_again_changes_nothing() -> None:
    torch.manual_seed(1)
    net = Student(8, 4).eval()
    image = torch.randn(1, 3, 64, 128)
    with torch.inference_mode():
        once, twice = net(image), in_sizes(net, [(64, 128)])(image)
    seen = once.logits.softmax(dim=1).clamp(min=LEAST_PROBABILITY)
    assert torch.allclose(twice.logits.exp(), seen, atol=1e-6)


def test_a_size_that_the_network_cannot_take_is_an_error() -> None:
    net = in_sizes(Student(8, 4).eval(), [(60, 128)])
    with pytest.raises(ValueError, match='multiples of'):
        net(torch.rand(1, 3, 64, 128))
