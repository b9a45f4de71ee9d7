"""The real thing, where there is a GPU and TensorRT: the first test to run on a new machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nightseg_ros.core.backends import BackendError
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.backends import create_backend
from nightseg_ros.core.backends import load_backend_class
from nightseg_ros.core.model import Model
from nightseg_ros.core.model import load_model


@pytest.fixture(autouse=True, scope='module')
def gpu() -> Iterator[None]:
    try:
        load_backend_class('tensorrt')
        from nightseg_ros.core.backends.tensorrt.cuda import Device

        Device.find(0)
    except BackendError as error:
        pytest.skip(f'TensorRT cannot run here: {error}')
    yield


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / 'engines'


def test_masks_are_the_channels_and_the_engine_is_kept(
    channel_model: Path, frame: np.ndarray, cache: Path
) -> None:
    options = BackendOptions(precision='fp32', engine_cache_dir=cache)
    for built in ('built at', 'from cache'):
        reports: list[str] = []
        backend = create_backend(
            load_model(channel_model), 'tensorrt', options, reports.append
        ).backend
        for image in (frame, np.ascontiguousarray(frame[::-1])):
            result = backend.infer(image[None])
            for mask, channel in zip(result, range(3), strict=True):
                assert (mask == image[..., channel]).all()
        assert backend.describe()['built'].startswith(built)
        assert backend.describe()['cuda_graph'] == 'yes'
        assert any(text.startswith('building') for text in reports) == (built == 'built at')
        backend.close()


@pytest.mark.parametrize(('precision', 'agreement'), [('fp32', 0.99), ('fp16', 0.98)])
def test_the_released_model_agrees_with_onnx_runtime(
    precision: str, agreement: float, cache: Path
) -> None:
    pytest.importorskip('onnxruntime')
    model: Model = load_model()
    options = BackendOptions(precision=precision, engine_cache_dir=cache)
    try:
        backend = create_backend(model, 'tensorrt', options).backend
    except BackendError as error:
        if 'there is no fp16 file' in str(error):
            pytest.skip(str(error))
        raise
    reference = create_backend(model, 'onnxruntime', BackendOptions(precision='fp32')).backend
    ramp = np.linspace(0, 255, model.width, dtype=np.uint8)
    image = np.broadcast_to(ramp[None, None, :, None], (1, model.height, model.width, 3))
    image = np.ascontiguousarray(image)
    labels = backend.infer(image).labels.copy()
    assert np.mean(labels == reference.infer(image).labels) > agreement
    backend.close()
