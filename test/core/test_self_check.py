from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from nightseg_ros.core import self_check
from nightseg_ros.core.backends import BackendError
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.backends import create_backend
from nightseg_ros.core.backends import load_backend_class
from nightseg_ros.core.backends.base import Inference
from nightseg_ros.core.backends.openvino import computes_bfloat16
from nightseg_ros.core.model import PRECISIONS
from nightseg_ros.core.model import Model
from nightseg_ros.core.model import ModelError
from nightseg_ros.core.model import load_model
from nightseg_ros.core.self_check import Reference
from nightseg_ros.core.self_check import check
from nightseg_ros.core.self_check import load_reference
from nightseg_ros.core.self_check import reference_path

CPU = ('onnxruntime', 'openvino')
CPU_FLAGS = Path('/proc/cpuinfo').read_text()


def reference_of(path: Path, frame: np.ndarray) -> Reference:
    """Return what the channel model makes of a frame: labels are R, confidence is G."""
    return Reference(frame[None], frame[None, ..., 0], frame[None, ..., 1], load_model(path).sha256)


@pytest.fixture
def checked_model(channel_model: Path, frame: np.ndarray) -> Model:
    """Return a channel model with its reference beside it."""
    reference_of(channel_model, frame).save(reference_path(channel_model))
    return load_model(channel_model)


class Broken:
    """The released model in ONNX Runtime, behind a preprocessing that is not its own."""

    def __init__(self, precision: str, spoil: Callable[[np.ndarray], np.ndarray]) -> None:
        self.model = load_model()
        self.name = 'broken'
        self.precision = precision
        self._spoil = spoil
        self._backend = load_backend_class('onnxruntime')(
            self.model, BackendOptions(precision='fp32'), lambda _: None
        )

    def infer(self, image: np.ndarray) -> Inference:
        return self._backend.infer(np.ascontiguousarray(self._spoil(image)))


class OneClass(Broken):
    """An engine that collapsed."""

    def infer(self, image: np.ndarray) -> Inference:
        result = super().infer(image)
        road, certain = np.zeros_like(result.labels), np.full_like(result.labels, 255)
        return Inference(road, certain, result.exposure)


def swapped(image: np.ndarray) -> np.ndarray:
    return image[..., ::-1]


def other_offset(image: np.ndarray) -> np.ndarray:
    return np.clip(image.astype(int) + 30, 0, 255).astype(np.uint8)


def half_scale(image: np.ndarray) -> np.ndarray:
    return image // 2


def black(image: np.ndarray) -> np.ndarray:
    return np.zeros_like(image)


@pytest.mark.parametrize('precision', PRECISIONS)
@pytest.mark.parametrize('spoil', [swapped, other_offset, half_scale, black])
def test_broken_preprocessing_is_refused_in_every_precision(
    precision: str, spoil: Callable[[np.ndarray], np.ndarray]
) -> None:
    with pytest.raises(BackendError, match=f'broken in {precision} fails the self-check'):
        check(Broken(precision, spoil), load_reference(load_model()))


@pytest.mark.parametrize('precision', PRECISIONS)
def test_an_engine_that_collapsed_to_one_class_is_refused(precision: str) -> None:
    with pytest.raises(BackendError, match='must not drive: use another precision or backend'):
        check(OneClass(precision, lambda image: image), load_reference(load_model()))


@pytest.mark.parametrize('name', CPU)
@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'int8'])
def test_the_released_model_passes(name: str, precision: str) -> None:
    if precision == 'bf16' and (name != 'openvino' or not computes_bfloat16()):
        pytest.skip('bf16 needs OpenVINO and a processor that knows it')
    if (name, precision) == ('openvino', 'int8') and 'amx_int8' not in CPU_FLAGS:
        pytest.skip('no AMX: OpenVINO may compute INT8 wrongly, see docs/quantization.md')
    started = create_backend(load_model(), name, BackendOptions(precision=precision))
    assert started.backend.precision == precision
    assert started.self_check.startswith('passed: ')


def test_equal_masks_pass_and_are_put_into_words(checked_model: Model) -> None:
    started = create_backend(checked_model, 'onnxruntime')
    assert started.self_check == (
        'passed: 100.00% of the labels agree with the reference, confidence differs by 0.0 of 255'
    )


def test_a_backend_whose_confidence_alone_is_wrong_is_refused(
    checked_model: Model, frame: np.ndarray
) -> None:
    reference = load_reference(checked_model)
    wrong = replace(reference, confidence=255 - reference.confidence)
    backend = create_backend(checked_model, 'onnxruntime').backend
    with pytest.raises(BackendError, match='100.00% of the labels agree'):
        check(backend, wrong)


def test_every_frame_counts(checked_model: Model) -> None:
    one = load_reference(checked_model)
    wrong = replace(one, labels=one.labels ^ 1)
    both = Reference(
        *(np.concatenate([getattr(one, n), getattr(wrong, n)]) for n in
          ('images', 'labels', 'confidence')),
        one.sha256,
    )  # fmt: skip
    backend = create_backend(checked_model, 'onnxruntime').backend
    with pytest.raises(BackendError, match='50.00% of the labels'):
        check(backend, both)


def test_without_a_reference_nothing_is_checked(channel_model: Path) -> None:
    assert load_reference(load_model(channel_model)) is None
    started = create_backend(load_model(channel_model), 'onnxruntime')
    assert 'no reference beside the model' in started.self_check


def test_a_variant_has_the_reference_of_its_origin(
    checked_model: Model, make_channel_model: Callable[..., Path]
) -> None:
    path = make_channel_model(checked_model.path.with_name('channels_fp16.onnx'), 32, 48)
    proto = onnx.load(str(path))
    card = {'precision': 'fp16', 'quantized_from': checked_model.sha256}
    onnx.helper.set_model_props(proto, card)
    onnx.save(proto, str(path))
    assert load_reference(load_model(path)).sha256 == checked_model.sha256
    onnx.helper.set_model_props(proto, {**card, 'quantized_from': 'f' * 64})
    onnx.save(proto, str(path))
    with pytest.raises(ModelError, match='belongs to another model'):
        load_reference(load_model(path))


def test_the_reference_of_another_model_is_refused(checked_model: Model, tmp_path: Path) -> None:
    other = tmp_path / 'other.onnx'
    proto = onnx.load(str(checked_model.path))
    proto.producer_name = 'another'
    onnx.save(proto, str(other))
    shutil.copy(reference_path(checked_model.path), reference_path(other))
    with pytest.raises(ModelError, match='other.check.npz belongs to another model'):
        load_reference(load_model(other))
    with pytest.raises(BackendError, match='copy both files again'):
        create_backend(load_model(other), 'onnxruntime')


@pytest.mark.parametrize('name', ['images', 'labels', 'confidence'])
@pytest.mark.parametrize('part', [slice(0), np.s_[:, :16]])
def test_wrong_sizes_are_refused(checked_model: Model, name: str, part) -> None:
    reference = load_reference(checked_model)
    if part == slice(0):
        reference = replace(reference, images=reference.images[:0])
    else:
        reference = replace(reference, **{name: getattr(reference, name)[part]})
    reference.save(reference_path(checked_model.path))
    with pytest.raises(ModelError, match='belongs to another model'):
        load_reference(checked_model)


def damaged(content: bytes) -> dict[str, bytes]:
    """Return what a copy may have become."""
    flipped = bytearray(content)
    flipped[-200] ^= 0xFF
    lacking, pickled = io.BytesIO(), io.BytesIO()
    np.savez(lacking, images=np.zeros(1))
    np.savez(pickled, images=np.array([{}], object), labels=0, confidence=0, sha256='')
    return {
        'empty': b'',
        'half': content[: len(content) // 2],
        'last byte missing': content[:-1],
        'flipped': bytes(flipped),
        'text': b'version https://git-lfs.github.com/spec/v1\n',
        'noise': np.random.default_rng(0).bytes(5000),
        'lacking': lacking.getvalue(),
        'pickled': pickled.getvalue(),
    }


@pytest.mark.parametrize('damage', damaged(bytes(400)))
def test_a_damaged_reference_says_what_to_do(checked_model: Model, damage: str) -> None:
    path = reference_path(checked_model.path)
    path.write_bytes(damaged(path.read_bytes())[damage])
    with pytest.raises(ModelError, match='channels.check.npz is no reference of a model'):
        load_reference(checked_model)
    with pytest.raises(BackendError, match='without a self-check'):
        create_backend(checked_model, 'onnxruntime')


def test_stricter_precisions_have_stricter_bounds() -> None:
    needed = [self_check.MIN_AGREEMENT[precision] for precision in PRECISIONS]
    allowed = [self_check.MAX_CONFIDENCE_DIFFERENCE[precision] for precision in PRECISIONS]
    assert needed == sorted(needed, reverse=True)
    assert allowed == sorted(allowed)
