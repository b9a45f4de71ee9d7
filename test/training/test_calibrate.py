from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.temperature import Temperature
from training.average import average
from training.calibrate import LEAST
from training.calibrate import Pixels
from training.calibrate import calibrate
from training.calibrate import fit_temperature
from training.calibrate import loss
from training.checkpoint import AVERAGED
from training.checkpoint import MORE_SIZES
from training.checkpoint import TEMPERATURE
from training.checkpoint import load_method
from training.checkpoint import read_checkpoint
from training.data.frames import DataError


def drawn(temperature: Temperature, pixels: int = 60_000) -> Pixels:
    """Return pixels whose labels are as likely as logits over a temperature say."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(pixels, 19, generator=generator)
    exposure = torch.rand(pixels, generator=generator)
    exposure[: pixels // 3] = 0.0
    exposure[pixels // 3 : pixels // 2] = 1.0
    scale = torch.as_tensor(temperature.at(exposure[:, None]))
    labels = torch.multinomial((logits / scale).softmax(dim=1), 1, generator=generator)[:, 0]
    return Pixels(logits, labels, exposure)


@pytest.mark.parametrize(
    'true',
    [Temperature(1.0, 0.3, 0.3), Temperature(0.7, 1.5, 0.3), Temperature(1.5, 0.6, 2.0)],
)
def test_the_temperature_that_made_the_labels_is_found(true: Temperature) -> None:
    pixels = drawn(true)
    found = fit_temperature(pixels)
    assert found.base == pytest.approx(true.base, rel=0.05)
    assert found.under == pytest.approx(true.under, abs=0.12)
    assert found.over == pytest.approx(true.over, abs=0.2)
    assert loss(pixels, found) <= loss(pixels, Temperature()) + 1e-4


def test_bad_exposure_never_makes_surer() -> None:
    pixels = drawn(Temperature(2.0))
    sharper = pixels._replace(
        logits=torch.where(pixels.exposure[:, None] < 0.1, pixels.logits / 4, pixels.logits)
    )
    assert fit_temperature(sharper).under >= LEAST


def test_checkpoint_keeps_its_weights_and_gains_a_temperature(
    trained: Path, mini_root: Path, tmp_path: Path
) -> None:
    output = tmp_path / 'calibrated.ckpt'
    folders = [mini_root / 'camvid_day_train']
    calibrate(trained / 'last.ckpt', folders, hold_out=2, output=output, sizes=[(64, 128)])
    before, after = (load_method(path).state_dict() for path in (trained / 'last.ckpt', output))
    assert all(torch.equal(before[name], after[name]) for name in before)
    temperature = Temperature(**read_checkpoint(output)[TEMPERATURE])
    assert temperature.base > 0
    assert min(temperature.under, temperature.over) >= LEAST


def test_a_mean_stays_known_as_one(trained: Path, mini_root: Path, tmp_path: Path) -> None:
    averaged, output = tmp_path / 'mean.ckpt', tmp_path / 'calibrated.ckpt'
    average([trained / 'last.ckpt', trained / 'last.ckpt'], averaged)
    calibrate(averaged, [mini_root / 'camvid_day_train'], 2, output, sizes=[(64, 128)])
    assert read_checkpoint(output)[AVERAGED] == [str(trained / 'last.ckpt')] * 2


def test_further_sizes_are_kept_and_calibrated_for(
    trained: Path, mini_root: Path, tmp_path: Path
) -> None:
    found = []
    for sizes in ([(64, 128)], [(64, 128), (64, 64), (128, 192)]):
        output = tmp_path / 'calibrated.ckpt'
        folders = [mini_root / 'camvid_day_train']
        calibrate(trained / 'last.ckpt', folders, 2, output, sizes=sizes)
        saved = read_checkpoint(output)
        assert saved[MORE_SIZES] == [list(size) for size in sizes[1:]]
        load_method(output)
        found.append(saved[TEMPERATURE])
    assert found[0] != found[1]


@pytest.mark.parametrize('sizes', [[], [(60, 128)], [(64, 128), (64, 100)]])
def test_sizes_that_the_network_cannot_take_are_an_error(
    sizes: list[tuple[int, int]], trained: Path, mini_root: Path
) -> None:
    with pytest.raises(DataError, match='multiples of'):
        calibrate(trained / 'last.ckpt', [mini_root / 'camvid_day_train'], 2, sizes=sizes)


def test_no_held_out_frame_is_an_error(trained: Path, mini_root: Path) -> None:
    with pytest.raises(DataError, match='no frame is held out'):
        calibrate(trained / 'last.ckpt', [mini_root / 'camvid_day_train'], hold_out=10)
