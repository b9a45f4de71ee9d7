from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from models.generator import Generator
from models.lite_student import LiteStudent
from models.released_form import ReleasedForm
from models.several_sizes import in_sizes
from nightseg_ros.core.model import IMAGE
from nightseg_ros.core.model import load_model
from nightseg_ros.core.segmenter import Segmenter
from training.checkpoint import MORE_SIZES
from training.checkpoint import CheckpointError
from training.checkpoint import load_method
from training.data.driving_data import DrivingData
from training.data.frames import list_images
from training.data.frames import read_rgb
from training.export import export
from training.export import to_onnx
from training.fit import fit
from training.methods.supervised import Supervised
from training.optimisation import PolyAdamW
from training.release_weights import load_release

onnxruntime = pytest.importorskip('onnxruntime')

ROOT = Path(__file__).parents[2]
RELEASED = ROOT / 'models/released/student_384x640.onnx'


@pytest.fixture(scope='module')
def images(mini_data: Callable[..., DrivingData]) -> torch.Tensor:
    """Return crops as training sees them."""
    return mini_data().source_images(4)


@pytest.fixture(scope='module')
def loaded(images: torch.Tensor) -> Generator:
    """Return a network with the weights of the released model."""
    generator = Generator(LiteStudent())
    load_release(generator, RELEASED, images)
    assert generator.training
    return generator.eval()


def test_the_network_computes_what_the_file_does(loaded: Generator) -> None:
    form = ReleasedForm(loaded.net, loaded.mean, loaded.std).eval()
    frame = torch.randint(256, (1, 384, 640, 3), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(str(RELEASED))
    labels, _, exposure = session.run(None, {IMAGE: frame.numpy()})
    with torch.inference_mode():
        ours = form(frame)
    assert (ours[0].numpy() == labels).mean() > 0.999
    assert abs(ours[2].numpy().astype(int) - exposure).max() <= 1


def test_batch_norms_are_ready_to_train(loaded: Generator, images: torch.Tensor) -> None:
    with torch.no_grad():
        by_running = loaded.eval()(images).segmentation.logits
        by_batch = loaded.train()(images).segmentation.logits
    loaded.eval()
    # Of the images that the statistics come from, a batch has the very same ones.
    assert torch.allclose(by_running, by_batch, atol=0.05)
    variances = [m.running_var for m in loaded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert max(float(v.std()) for v in variances) > 0.1


def test_another_architecture_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(CheckpointError, match='another architecture than LiteStudent'):
        load_release(Generator(LiteStudent(width=32)), RELEASED, images)


def test_a_file_that_is_no_model_is_refused(images: torch.Tensor, tmp_path: Path) -> None:
    path = tmp_path / 'x.onnx'
    path.write_bytes(b'no model')
    with pytest.raises(CheckpointError, match=r'x\.onnx'):
        load_release(Generator(LiteStudent()), path, images)


def test_another_network_of_the_same_shapes_is_refused(
    images: torch.Tensor, tmp_path: Path
) -> None:
    proto = onnx.load(str(RELEASED))
    for node in proto.graph.node:
        if node.op_type == 'Clip':  # no longer ReLU6
            node.op_type = 'HardSwish'
            del node.input[1:]
    path = tmp_path / 'x.onnx'
    onnx.save(proto, str(path))
    with pytest.raises(CheckpointError, match='agree on .* not the same network'):
        load_release(Generator(LiteStudent()), path, images)


def test_training_goes_on_from_the_released_model(
    mini_data: Callable[..., DrivingData], tmp_path: Path
) -> None:
    method = Supervised(LiteStudent(), PolyAdamW(learning_rate=1e-6), measure_size=(64, 128))
    data = mini_data(measuring={})
    fit(data, method, tmp_path, steps=2, initial=RELEASED, accelerator='cpu', progress=False)
    weights = load_method(tmp_path / 'last.ckpt').state_dict()
    fresh = Generator(LiteStudent())
    load_release(fresh, RELEASED, data.source_images(4))
    name = 'net.backbone.stem.0.weight'
    trained, released = weights[f'generator.{name}'], fresh.state_dict()[name]
    assert not torch.equal(trained, released)
    assert torch.allclose(trained, released, atol=1e-4)


def test_a_model_that_looks_in_several_sizes_is_loaded_too(
    loaded: Generator, images: torch.Tensor, tmp_path: Path
) -> None:
    form = ReleasedForm(in_sizes(loaded.net, [(64, 96)]), loaded.mean, loaded.std).eval()
    path = tmp_path / 'two_sizes.onnx'
    to_onnx(form, 96, 128, path)
    proto = onnx.load(str(path))
    onnx.helper.set_model_props(proto, {'recipe': json.dumps({MORE_SIZES: [[64, 96]]})})
    onnx.save(proto, str(path))
    fresh = Generator(LiteStudent())
    load_release(fresh, path, images)
    image = torch.rand(1, 3, 96, 128)
    with torch.inference_mode():
        ours, theirs = (g.eval()(image).segmentation.logits for g in (fresh, loaded))
    assert torch.allclose(ours, theirs, atol=1e-3)


def test_a_release_is_exported_in_another_size(mini_root: Path, tmp_path: Path) -> None:
    output = tmp_path / 'small.onnx'
    export(RELEASED, output, 320, 544, data_root=mini_root)
    before, after = load_model(RELEASED), load_model(output)
    assert (after.height, after.width) == (320, 544)
    for key in ('training', 'temperature'):
        assert json.loads(after.card[key]) == json.loads(before.card[key])
    recipe, same = (json.loads(model.card['recipe']) for model in (before, after))
    assert {**recipe, MORE_SIZES: []} == same
    frame = read_rgb(list_images(mini_root / 'campus_night' / 'images')[0])
    labels = [Segmenter.load(path, 'onnxruntime').segment_rgb(frame) for path in (RELEASED, output)]
    assert (labels[0].labels == labels[1].labels).mean() > 0.85


def test_a_file_that_does_not_say_how_it_was_made_is_refused(tmp_path: Path) -> None:
    proto = onnx.load(str(RELEASED))
    kept = {entry.key: entry.value for entry in proto.metadata_props}
    path = tmp_path / 'x.onnx'
    for recipe in ('{}', '{"class_path": "os.system", "init_args": {}, "steps": 1}', 'no json'):
        onnx.helper.set_model_props(proto, {**kept, 'recipe': recipe})
        onnx.save(proto, str(path))
        with pytest.raises(CheckpointError, match=r'x\.onnx'):
            load_method(path)
