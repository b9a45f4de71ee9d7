from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.temperature import Temperature
from models.temperature import badness


@pytest.mark.parametrize(
    ('value', 'dark', 'bright'),
    [
        (0.0, 1, 0),
        (0.08, 0.5, 0),
        (0.16, 0, 0),
        (0.5, 0, 0),
        (0.84, 0, 0),
        (0.92, 0, 0.5),
        (1, 0, 1),
    ],
)
def test_badness_grows_towards_black_and_white(value: float, dark: float, bright: float) -> None:
    found = badness(torch.tensor(value))
    assert [float(x) for x in found] == pytest.approx([dark, bright], abs=1e-5)


@given(
    exposure=st.floats(0, 1), base=st.floats(0.2, 4), under=st.floats(0, 4), over=st.floats(0, 4)
)
def test_bad_exposure_never_lowers_the_temperature(
    exposure: float, base: float, under: float, over: float
) -> None:
    scale = Temperature(base, under, over).at(torch.tensor(exposure))
    assert base - 1e-6 <= float(scale) <= base + max(under, over) + 1e-5


def test_without_exposure_the_base_remains() -> None:
    assert Temperature(1.7, 3.0, 3.0).at(None) == 1.7
