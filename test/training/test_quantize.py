from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from models.released_form import ReleasedForm
from models.student import Student
from nightseg_ros.core.backends.openvino import computes_bfloat16
from nightseg_ros.core.model import Model
from nightseg_ros.core.model import load_model
from nightseg_ros.core.model import released_model
from nightseg_ros.core.model import variant
from nightseg_ros.core.self_check import load_reference
from nightseg_ros.simulation.night_drive import NightDrive
from training import quantize as quantize_module
from training.__main__ import main
from training.data.frames import DataError
from training.data.frames import Sample
from training.export import to_onnx
from training.methods.supervised import Supervised
from training.quantization.comparison import Agreement
from training.quantization.comparison import Masks
from training.quantization.comparison import agreement
from training.quantization.comparison import masks_of
from training.quantization.fp16 import float32_tensors
from training.quantization.fp16 import to_fp16
from training.quantization.graph import QuantizationError
from training.quantization.graph import convolutions
from training.quantization.graph import folded
from training.quantization.int8 import calibrate
from training.quantization.int8 import to_int8
from training.quantization.night_frames import load_night_frames
from training.quantization.sensitivity import Choice
from training.quantization.sensitivity import Sensitivity
from training.quantization.sensitivity import choose_kept
from training.quantization.sensitivity import short_name
from training.quantize import Measured
from training.quantize import quantize
from training.quantize import refuse_losses

HEIGHT, WIDTH = 64, 128
LAYERS_KEPT = 2


@pytest.fixture(scope='module')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an exported student of 8 channels with random weights; do not write to it."""
    torch.manual_seed(0)
    generator = Supervised(Student(8, 4)).generator
    released = ReleasedForm(generator.net, generator.mean, generator.std).eval()
    path = tmp_path_factory.mktemp('tiny') / 'tiny.onnx'
    to_onnx(released, HEIGHT, WIDTH, path)
    proto = onnx.load(str(path))
    onnx.helper.set_model_props(proto, {'name': 'tiny', 'licence': 'none'})
    onnx.save(proto, str(path))
    return path


@pytest.fixture(scope='module')
def frames() -> list[np.ndarray]:
    drive = NightDrive(WIDTH, HEIGHT)
    return [drive.frame(index).night for index in range(4)]


@pytest.fixture(scope='module')
def data_root(mini_root: Path, write, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the miniature root with a folder of procedural nights."""
    root = tmp_path_factory.mktemp('data') / 'root'
    shutil.copytree(mini_root, root)
    drive = NightDrive(WIDTH, HEIGHT, seed=3)
    for index in range(8):
        frame = drive.frame(10 * index)
        write(root / 'nights', f'night_{index}', Sample(frame.night, frame.labels))
    return root


def run(model: Path, data_root: Path, output: Path, **arguments) -> None:
    quantize(
        model,
        data_root=data_root,
        night=('nights',),
        output=output,
        **{
            'methods': ('minmax',),
            'target_agreement': 1.1,  # out of reach: layers stay in FP32
            'min_agreement': 0.2,
            'max_loss': 1.0,
            'rounds': 1,
            **arguments,
        },
    )


@pytest.fixture(scope='module')
def quantized(
    tiny: Path, data_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, Path]:
    """Return the tiny model with its files beside it, and the folder of the report."""
    folder = tmp_path_factory.mktemp('quantized')
    (folder / 'model').mkdir()
    model = Path(shutil.copy(tiny, folder / 'model' / 'tiny.onnx'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('training.quantization.sensitivity.KEPT_STEPS', (0, LAYERS_KEPT))
        run(model, data_root, folder / 'report')
    return load_model(model), folder / 'report'


def initializers(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {c.name: numpy_helper.to_array(c) for c in proto.graph.initializer}


def producers(proto: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in proto.graph.node for output in node.output}


@pytest.mark.parametrize('precision', ['fp16', 'int8'])
def test_files_are_found_beside_the_model(quantized, precision: str) -> None:
    model, _ = quantized
    found = variant(model, precision)
    assert (found.height, found.width, found.has_exposure) == (HEIGHT, WIDTH, True)
    assert found.precision == precision
    proto = onnx.load(str(found.path))
    assert [(o.domain, o.version) for o in proto.opset_import] == [('', 17)]
    assert {node.domain for node in proto.graph.node} == {''}
    assert len(found.content) < len(model.content) * (0.6 if precision == 'fp16' else 0.5)
    assert load_reference(found).sha256 == model.sha256


def test_nothing_else_is_left_there(quantized) -> None:
    model, report = quantized
    names = {'tiny.onnx', 'tiny_fp16.onnx', 'tiny_int8.onnx', 'tiny.check.npz'}
    assert {path.name for path in model.path.parent.iterdir()} == names
    assert {path.name for path in report.iterdir()} == {
        'report.json', 'sensitivity.json', 'sensitivity.png',
    }  # fmt: skip


@pytest.mark.parametrize('precision', ['fp16', 'int8'])
def test_card_says_what_it_is_and_what_it_lost(quantized, precision: str) -> None:
    model, _ = quantized
    card = variant(model, precision).card
    assert card['name'] == f'tiny_{precision}'
    assert card['licence'] == 'none'
    assert card['quantized_from'] == model.sha256
    metrics, before = json.loads(card['metrics']), json.loads(card['metrics_fp32'])
    assert {*metrics} == {*before}
    assert len(metrics) == 4
    assert 0.2 <= json.loads(card['agreement'])['onnxruntime']['labels'] <= 1
    recipe = json.loads(card['quantization'])
    assert recipe['min_agreement'] == 0.2
    if precision == 'int8':
        assert recipe['method'] == 'minmax'
        assert recipe['calibration'] == {'frames': 2, 'folders': ['nights']}
        assert recipe['convolutions'] > 60
        assert len(recipe['kept_in_fp32']) in (0, LAYERS_KEPT)
        assert {*json.loads(card['metrics_by_runtime'])} == {'onnxruntime', 'openvino'}


def test_report_compares_all_precisions(quantized) -> None:
    rows = json.loads((quantized[1] / 'report.json').read_text())
    expected = {
        ('fp32', 'onnxruntime'), ('fp32', 'openvino'), ('fp16', 'onnxruntime'),
        ('int8', 'onnxruntime'), ('int8', 'openvino'),
    }  # fmt: skip
    if computes_bfloat16():
        expected.add(('bf16', 'openvino'))
    assert {(row['precision'], row['runtime']) for row in rows} == expected
    assert all(row['ms'] > 0 for row in rows)


def test_ranking_names_every_layer_the_worst_first(quantized, tiny: Path) -> None:
    content = json.loads((quantized[1] / 'sensitivity.json').read_text())
    shares = [entry['labels'] for entry in content['layers']]
    assert shares == sorted(shares)
    names = {entry['layer'] for entry in content['layers']}
    assert names == {*convolutions(folded(onnx.load(str(tiny))))}


@pytest.fixture(scope='module')
def calibrated(tiny: Path, frames: list[np.ndarray]):
    proto = folded(onnx.load(str(tiny)))
    return proto, calibrate(proto, frames, 'minmax')


@pytest.mark.parametrize('float_weights', [False, True])
def test_scales_are_symmetric_and_weights_per_channel(calibrated, float_weights: bool) -> None:
    proto = to_int8(*calibrated, float_weights=float_weights)
    constants, source = initializers(proto), producers(proto)
    pairs = [n for n in proto.graph.node if n.op_type in ('QuantizeLinear', 'DequantizeLinear')]
    for node in pairs:
        assert constants[node.input[2]].dtype == np.int8
        assert not constants[node.input[2]].any()
        assert (constants[node.input[1]] > 0).all()
    convs = [node for node in proto.graph.node if node.op_type == 'Conv']
    for node in convs:
        activation, weights = (source[name] for name in node.input[:2])
        assert (activation.op_type, weights.op_type) == ('DequantizeLinear', 'DequantizeLinear')
        assert constants[activation.input[1]].ndim == 0
        assert {a.name: a.i for a in weights.attribute}['axis'] == 0
        assert all(constants[bias].dtype == np.float32 for bias in node.input[2:])
        first = weights if not float_weights else source[weights.input[0]]
        values = constants[first.input[0]]
        assert values.dtype == (np.float32 if float_weights else np.int8)
        assert constants[weights.input[1]].shape == values.shape[:1]
        assert constants[weights.input[2]].shape == values.shape[:1]
    assert len(convs) == len(convolutions(calibrated[0]))


def test_float_weights_compute_the_same(calibrated, frames: list[np.ndarray]) -> None:
    found = [masks_of(to_int8(*calibrated, float_weights=flag), frames) for flag in (False, True)]
    assert agreement(*found).labels > 0.999


def test_residual_additions_read_one_quantised_skip(calibrated) -> None:
    proto = to_int8(*calibrated)
    source = producers(proto)
    blocks = [n for n in proto.graph.node if n.op_type == 'Add' and 'stage2' in n.name]
    assert len(blocks) == 2
    for node in blocks:
        kinds = [source[name].op_type for name in node.input]
        assert kinds == ['Conv', 'DequantizeLinear'], node.name


def test_kept_layers_are_really_float(calibrated) -> None:
    names = convolutions(calibrated[0])
    kept = (names[0], names[10], names[-1])
    proto = to_int8(*calibrated, kept)
    constants, source = initializers(proto), producers(proto)
    for node in proto.graph.node:
        if node.op_type != 'Conv':
            continue
        if node.name in kept:
            assert constants[node.input[1]].dtype == np.float32
            assert source[node.input[0]].op_type != 'DequantizeLinear'
        else:
            assert source[node.input[1]].op_type == 'DequantizeLinear'
    read = {name for node in proto.graph.node for name in node.input}
    assert {*constants} <= read


def test_all_layers_kept_is_the_model_itself(calibrated) -> None:
    proto = calibrated[0]
    same = to_int8(*calibrated, convolutions(proto))
    assert not [node for node in same.graph.node if node.op_type == 'QuantizeLinear']


def test_int8_is_near_and_not_equal(calibrated, frames: list[np.ndarray]) -> None:
    expected = masks_of(calibrated[0], frames)
    found = agreement(masks_of(to_int8(*calibrated), frames), expected)
    assert 0.3 < found.labels < 1


def test_percentiles_clip_what_minmax_keeps(calibrated, frames: list[np.ndarray]) -> None:
    proto, widest = calibrated
    clipped = calibrate(proto, frames, 'percentile_99')
    edges = [(clipped[name].range_value[1], widest[name].range_value[1]) for name in clipped]
    assert all(a <= b * 1.01 for a, b in edges)
    assert np.mean([a < b for a, b in edges]) > 0.9


@pytest.mark.parametrize('method', ['guess', 'percentile_', 'percentile_101', 'percentile_9x'])
def test_unknown_methods_are_refused(calibrated, frames: list[np.ndarray], method: str) -> None:
    with pytest.raises(QuantizationError, match='choose minmax, entropy or percentile_P'):
        calibrate(calibrated[0], frames, method)


def test_fp16_has_no_float32_between_the_casts(tiny: Path, frames: list[np.ndarray]) -> None:
    source = onnx.load(str(tiny))
    proto = to_fp16(source)
    assert float32_tensors(proto) == []
    types = {v.name: v.type.tensor_type.elem_type for v in proto.graph.value_info}
    first = next(node for node in proto.graph.node if 'image' in node.input)
    assert first.op_type == 'Cast'
    assert types[first.output[0]] == onnx.TensorProto.FLOAT16
    casts = [node for node in proto.graph.node if node.op_type == 'Cast']
    assert onnx.TensorProto.FLOAT not in [cast.attribute[0].i for cast in casts]
    found = agreement(masks_of(proto, frames), masks_of(source, frames))
    assert found.labels > 0.98


def test_folded_graphs_compute_no_shapes(tiny: Path, frames: list[np.ndarray]) -> None:
    source = onnx.load(str(tiny))
    proto = folded(source)
    assert not {'Shape', 'Constant'} & {node.op_type for node in proto.graph.node}
    assert agreement(masks_of(proto, frames), masks_of(source, frames)) == Agreement(1.0, 0.0)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'min_agreement': 1.1}, 'fp16 in onnxruntime is refused: only .*110.00% is needed'),
        ({'max_loss': -0.5, 'precisions': ('int8',)}, 'int8 in onnxruntime .* miou/camvid_day_val'),
    ],
)
def test_refused_files_leave_what_was_there(
    tiny: Path, data_root: Path, tmp_path: Path, arguments: dict, message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(quantize_module, 'rank_layers', lambda *_: [])
    monkeypatch.setattr(quantize_module, 'choose_kept', lambda *_: [Choice((), Agreement(1, 0))])
    model = Path(shutil.copy(tiny, tmp_path / 'tiny.onnx'))
    old = [tmp_path / f'tiny_{precision}.onnx' for precision in ('fp16', 'int8')]
    for path in old:
        path.write_text('the release before')
    with pytest.raises(QuantizationError, match=message):
        run(model, data_root, tmp_path / 'report', **arguments)
    assert [path.read_text() for path in old] == ['the release before'] * 2
    assert {*tmp_path.iterdir()} == {model, *old, tmp_path / 'report'}


def test_only_sets_with_many_frames_judge() -> None:
    before = {'miou/camvid_day_val': 0.5, 'miou/camvid_dusk_dev': 0.5, 'miou/night_dev': 0.5}
    after = {**before, 'miou/night_dev': 0.1}
    refuse_losses('x', Measured(after, Agreement(0.98, 1)), before, 0.01, 0.97)
    after['miou/camvid_dusk_dev'] = 0.485
    with pytest.raises(QuantizationError, match='dusk_dev falls from 0.5000 to 0.4850'):
        refuse_losses('x', Measured(after, Agreement(0.98, 1)), before, 0.01, 0.97)


def test_layers_are_kept_until_the_target_is_reached(
    calibrated, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    proto, ranges = calibrated
    ranking = [Sensitivity(name, Agreement(0.9, 1)) for name in convolutions(proto)]
    expected = masks_of(proto, frames)
    tried = choose_kept(proto, ranges, ranking, frames, expected, target=0.0)
    assert [choice.kept for choice in tried] == [()]
    monkeypatch.setattr('training.quantization.sensitivity.KEPT_STEPS', (0, 1, 60))
    tried = choose_kept(proto, ranges, ranking, frames, expected, target=1.1)
    assert len(tried) == 3
    assert tried[-1].agreement == max(choice.agreement for choice in tried)


def test_agreement_by_hand() -> None:
    a = Masks(np.array([[0, 1], [2, 3]], np.uint8), np.array([[0, 255], [9, 9]], np.uint8))
    b = Masks(np.array([[0, 1], [2, 4]], np.uint8), np.array([[4, 255], [9, 9]], np.uint8))
    assert agreement([a, a], [a, b]) == Agreement(0.875, 0.5)


def test_no_frame_is_used_twice(data_root: Path) -> None:
    sets = load_night_frames([data_root / 'nights' / 'images'], HEIGHT, WIDTH, 40, 40, 40)
    assert [len(frames) for frames in sets] == [2, 2, 4]
    images = [frame.tobytes() for frames in sets for frame in frames]
    assert len({*images}) == 8


def test_too_few_night_frames_are_refused(data_root: Path) -> None:
    with pytest.raises(DataError, match='holds 1 images: at least 4'):
        load_night_frames([data_root / 'campus_night' / 'images'], HEIGHT, WIDTH, 4, 4, 4)


@pytest.mark.parametrize(
    ('name', 'short'),
    [
        ('/net/stem/stem.0/stem.0.0/Conv', 'stem.0.0'),
        ('/net/stem/stem.2/stem.2.0/body/body.0/body.0.0/Conv', 'stem.2.0/body.0.0'),
        ('/net/guide2/attention/Conv', 'guide2/attention'),
        ('conv', 'conv'),
    ],
)
def test_short_names(name: str, short: str) -> None:
    assert short_name(name) == short


def test_a_quantised_model_is_not_quantised_again(
    quantized, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = quantized
    path = model.path.with_name('tiny_int8.onnx')
    assert main(['quantize', '--model', str(path)]) == 2
    assert 'is in int8 already: give the FP32 model' in capsys.readouterr().err


def test_cli_without_a_model_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['quantize', '--model', 'nowhere.onnx']) == 2
    assert 'cannot read the model nowhere.onnx' in capsys.readouterr().err


@pytest.mark.parametrize('precision', ['fp16', 'int8'])
def test_released_files_belong_to_the_released_model(precision: str) -> None:
    model = load_model(released_model())
    found = variant(model, precision)
    lost = json.loads(found.card['agreement'])['onnxruntime']['labels']
    assert lost > (0.995 if precision == 'fp16' else 0.97)
    assert load_reference(model) is not None
