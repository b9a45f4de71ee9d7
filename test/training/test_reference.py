from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from nightseg_ros.core.model import ModelError
from nightseg_ros.core.model import load_model
from nightseg_ros.core.model import released_model
from nightseg_ros.core.self_check import load_reference
from nightseg_ros.core.self_check import reference_path
from training.reference import FRAMES
from training.reference import LEVELS
from training.reference import write_reference


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a copy of the released model, alone in its folder."""
    return Path(shutil.copy(released_model(), tmp_path / 'copy.onnx'))


def test_it_holds_frames_and_what_the_model_makes_of_them(model: Path) -> None:
    path = write_reference(model)
    assert {*model.parent.iterdir()} == {model, path}
    assert path == reference_path(model)
    reference = load_reference(load_model(model))
    assert reference.images.shape == (len(FRAMES), 384, 640, 3)
    assert all(len(np.unique(labels)) > 5 for labels in reference.labels)
    assert path.stat().st_size < 1_500_000


def test_written_again_it_is_the_same(model: Path) -> None:
    first = write_reference(model).read_bytes()
    assert write_reference(model).read_bytes() == first


def test_the_released_one_is_up_to_date(model: Path) -> None:
    write_reference(model)
    written, released = load_reference(load_model(model)), load_reference(load_model())
    # Processors round differently: one without AVX-512 renders a few pixels one of 64 levels off.
    assert np.mean(written.images == released.images) > 0.999
    assert np.ptp(written.images.astype(int) - released.images) <= 2 * 256 // LEVELS
    assert np.mean(written.labels == released.labels) > 0.999


def test_variants_have_none_of_their_own(channel_model: Path) -> None:
    proto = onnx.load(str(channel_model))
    onnx.helper.set_model_props(proto, {'precision': 'int8'})
    onnx.save(proto, str(channel_model))
    with pytest.raises(ModelError, match='is in int8: its reference is that of the FP32 model'):
        write_reference(channel_model)
    assert [*channel_model.parent.iterdir()] == [channel_model]


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match='nowhere.onnx'):
        write_reference(tmp_path / 'nowhere.onnx')
