from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: source a ROS 2')

from rich.console import Console

from benchmarks.node.__main__ import parse
from benchmarks.node.common_node import LogitsModelError
from benchmarks.node.common_node import LogitsNetwork
from benchmarks.node.common_node import classes_and_confidence
from benchmarks.node.common_node import to_message
from benchmarks.node.common_node import write_logits_model
from benchmarks.node.processes import BenchError
from benchmarks.node.processes import Helper
from benchmarks.node.processes import Process
from benchmarks.node.processes import wait_until
from benchmarks.node.report import all_figures
from benchmarks.node.report import percentiles
from benchmarks.node.report import ratio
from benchmarks.node.report import show
from benchmarks.node.report import size_figures
from benchmarks.node.report import stage_table
from benchmarks.node.report import throughput_figures
from benchmarks.node.report import write_chart
from benchmarks.node.schedule import BACK_TO_BACK
from benchmarks.node.schedule import BARE
from benchmarks.node.schedule import COMMON
from benchmarks.node.schedule import FLOOR
from benchmarks.node.schedule import LISTENERS
from benchmarks.node.schedule import NODE
from benchmarks.node.schedule import WARM_UP
from benchmarks.node.schedule import Measurement
from benchmarks.node.schedule import Samples
from benchmarks.node.schedule import SizeSamples
from benchmarks.node.schedule import Throughput
from nightseg_ros.core.model import ModelError
from nightseg_ros.core.model import released_model
from nightseg_ros.simulation.night_drive import NightDrive

MS = 1_000_000
STAGES = {'infer_ms/p50': '20.0', 'age_ms/p50': '28.0'}
SIZE = (1280, 720)


def samples(**milliseconds: list[list[float]]) -> SizeSamples:
    quantities = {name: Samples(rounds) for name, rounds in milliseconds.items()}
    quantities.setdefault(BACK_TO_BACK, Samples(quantities[BARE].rounds))
    listening = {name: Samples([[30.0]]) for name in LISTENERS}
    return SizeSamples(quantities, listening, {'infer_ms/p50': '20.5', 'infer_ms/p99': '24'})


@pytest.fixture
def two_rounds() -> SizeSamples:
    """Two rounds; the second one twice as slow, as on a machine that others use too."""
    return samples(
        bare=[[20, 20, 20], [40, 40, 40]],
        floor=[[5, 5, 5], [10, 10, 10]],
        node=[[30, 30, 30], [60, 60, 60]],
        common_node=[[90, 90, 90], [120, 120, 120]],
    )


# Figures


def test_percentiles_of_times() -> None:
    figures = percentiles(np.arange(101.0))
    assert (figures['p50'], figures['p95'], figures['p99']) == (50, 95, 99)
    assert (figures['max'], figures['frames']) == (100, 101)


def test_no_times_have_no_percentiles() -> None:
    assert percentiles([])['p50'] is None
    assert ratio(percentiles([])['p50'], 3.0) is None
    assert ratio(3.0, 1.0, None) is None


def test_ratios_compare_the_node_with_inference_and_floor_together(
    two_rounds: SizeSamples,
) -> None:
    figures = size_figures(two_rounds)
    assert figures['ratio_to_floor_p50'] == pytest.approx(45 / (30 + 7.5))
    assert figures['ratio_to_floor_p99'] == pytest.approx(60 / 50)
    assert figures['ratio_of_p99_to_floor_p50'] == pytest.approx(60 / 37.5)
    assert figures['speedup_over_common_node'] == pytest.approx(105 / 45, abs=1e-4)


def test_ratios_of_rounds_do_not_see_how_slow_the_machine_was(two_rounds: SizeSamples) -> None:
    figures = size_figures(two_rounds)
    assert figures['ratio_to_floor_p50_rounds'] == pytest.approx([1.2, 1.2])
    assert figures['ratio_to_floor_p50_median_of_rounds'] == pytest.approx(1.2)
    assert figures['speedup_over_common_node_median_of_rounds'] == pytest.approx(2.5)


def test_stages_are_read_from_the_diagnostics() -> None:
    values = {'infer_ms/p50': '20.50', 'infer_ms/p99': '24.00', 'frames': '7'}
    assert stage_table(values) == {'infer': {'p50': 20.5, 'p99': 24.0}}


def test_ages_of_masks_are_told_in_inference_times() -> None:
    aged = [1000] * WARM_UP + [30] * 99 + [50]
    arrivals = [(index, index + age * MS) for index, age in enumerate(aged)]
    situation = Throughput('one', 30.0, 10.0, {'camera': 300}, {'camera': arrivals}, STAGES)
    figures = throughput_figures(situation)
    assert figures['sent'] == 300
    assert figures['received'] == len(aged)
    assert figures['age_ms']['max'] == 50
    assert figures['age_in_inference_times']['p50'] == pytest.approx(1.5)
    assert figures['age_in_inference_times']['max'] == pytest.approx(2.5)
    assert figures['age_when_published_in_inference_times'] == {'p50': 1.4}


def test_several_cameras_are_told_one_by_one_and_together() -> None:
    old = [(0, 40 * MS)] * (WARM_UP + 1)
    new = [(0, 20 * MS)] * (WARM_UP + 1)
    situation = Throughput('2', 30.0, 1.0, {'a': 30, 'b': 30}, {'a': old, 'b': new}, STAGES)
    figures = throughput_figures(situation)
    assert figures['cameras']['a']['age_ms']['p50'] == 40
    assert figures['cameras']['b']['age_ms']['p50'] == 20
    assert figures['age_ms']['frames'] == 2
    assert figures['age_ms']['max'] == 40


def test_report_of_everything(two_rounds: SizeSamples, tmp_path: Path) -> None:
    two_rounds.default_transport = Samples([[12.0]], lost=3)
    silent = samples(bare=[[20]], floor=[[]], node=[[]], common_node=[[]])
    measurement = Measurement(
        {'model': 'student', 'backend': 'onnxruntime', 'why': ''},
        {(640, 480): silent, SIZE: two_rounds},
        [
            Throughput('one', 30.0, 1.0, {'camera': 30}, {'camera': [(0, MS)] * 9}, STAGES),
            Throughput('4', 30.0, 1.0, skipped='no masks'),
        ],
    )
    figures = json.loads(json.dumps(all_figures(measurement, SIZE, {})))
    assert figures['ratio_to_floor_p50'] == pytest.approx(1.2)
    assert figures['headline_size'] == '1280x720'
    assert list(figures['overload_age_in_inference_times']) == ['one']
    assert figures['machine']['cores'] > 0
    output = io.StringIO()
    show(figures, Console(file=output, width=80))
    text = output.getvalue()
    assert '3 of 4 lost' in text
    assert 'skipped' in text
    assert '…' not in text, 'a table does not fit into 80 columns'
    write_chart(figures, tmp_path / 'node.png')
    assert (tmp_path / 'node.png').read_bytes().startswith(b'\x89PNG')


# The common node


@pytest.fixture(scope='module')
def logits_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('logits') / 'logits.onnx'
    try:
        write_logits_model(released_model(), path)
    except (LogitsModelError, ModelError) as error:
        pytest.skip(f'the released model cannot be cut: {error}')
    return path


def test_cut_model_takes_normalised_floats_and_returns_logits(logits_model: Path) -> None:
    graph = onnx.load(logits_model).graph
    assert [value.type.tensor_type.elem_type for value in graph.input] == [onnx.TensorProto.FLOAT]
    assert [value.type.tensor_type.elem_type for value in graph.output] == [onnx.TensorProto.FLOAT]
    assert not {'ArgMax', 'Softmax'} & {node.op_type for node in graph.node}


def test_common_node_computes_the_released_classes(logits_model: Path) -> None:
    whole = onnxruntime.InferenceSession(released_model(), providers=['CPUExecutionProvider'])
    network = LogitsNetwork(logits_model)
    frame = NightDrive(network.width, network.height).frame(7).night
    expected_labels, expected_confidence = (
        output[0] for output in whole.run(['labels', 'confidence'], {'image': frame[None]})
    )
    logits = network(frame)
    assert logits.dtype == np.float32
    assert logits.shape == (1, 19, network.height, network.width)
    labels, confidence = classes_and_confidence(logits)
    # The released model may decide once for a block of pixels.
    assert np.mean(labels == expected_labels) > 0.97
    assert np.abs(confidence.astype(int) - expected_confidence).mean() < 5


def test_a_model_that_cannot_be_cut_is_refused(make_channel_model, tmp_path: Path) -> None:
    released = make_channel_model(tmp_path / 'channels.onnx', 64, 96)
    with pytest.raises(LogitsModelError, match='no Conv'):
        write_logits_model(released, tmp_path / 'logits.onnx')


def test_message_holds_the_pixels() -> None:
    from std_msgs.msg import Header

    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    message = to_message(pixels, 'rgb8', Header(frame_id='camera'))
    assert (message.height, message.width, message.step) == (4, 6, 18)
    assert message.data.tobytes() == pixels.tobytes()
    assert message.header.frame_id == 'camera'


# Command line


@pytest.mark.parametrize('arguments', [['--sizes', '12'], ['--sizes', '8x8'], ['--rounds', '0']])
def test_bad_arguments_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert 'error' in capsys.readouterr().err


def test_arguments() -> None:
    options = parse(['--sizes', '640x480', '1280x720', '--no-throughput'])
    assert isinstance(options, argparse.Namespace)
    assert options.sizes == [(640, 480), SIZE]
    assert not options.throughput


# Processes

ECHO = """
import sys, time
from benchmarks.node.processes import serve
class Answers:
    def double(self, number): return 2 * number
    def fail(self): raise ValueError('as asked')
    def sleep(self): time.sleep(60)
    def leave(self): print('farewell', file=sys.stderr); sys.exit(3)
serve(Answers())
"""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / 'echo_helper.py').write_text(ECHO)
    monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{Path(__file__).parents[2]}')
    with Helper('echo', 'echo_helper', [], tmp_path) as process:
        yield process


def test_helper_answers(helper: Helper) -> None:
    assert helper.ask('double', number=21) == 42
    with pytest.raises(BenchError, match='as asked'):
        helper.ask('fail')
    assert helper.ask('double', number=1) == 2


def test_helper_that_ends_says_its_last_words(helper: Helper) -> None:
    with pytest.raises(BenchError, match='farewell'):
        helper.ask('leave')


def test_helper_that_hangs_is_given_up_and_ended(
    helper: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('benchmarks.node.processes.ANSWER_LIMIT_S', 0.5)
    with pytest.raises(BenchError, match='no answer'):
        helper.ask('sleep')


def test_waiting_has_an_end(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match='no miracle in 0 s'):
        wait_until(lambda: False, 'miracle', [], limit=0.2)
    with Process('gone', 'benchmarks.node.no_such_module', [], tmp_path) as process:
        start = time.monotonic()
        with pytest.raises(BenchError, match='no_such_module'):
            wait_until(lambda: False, 'miracle', [process], limit=60)
        assert time.monotonic() - start < 30


# All of it


def test_measures_over_dds(tmp_path: Path, logits_model: Path) -> None:
    command = [
        sys.executable, '-m', 'benchmarks.node', '--sizes', '96x64', '--seconds', '0.9',
        '--rounds', '1', '--cameras', '1', '--backend', 'onnxruntime', '--output', str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / 'node.json').read_text())
    assert figures['headline_size'] == '96x64'
    assert figures['engine']['backend'] == 'onnxruntime'
    ms = figures['sizes']['96x64']['ms']
    assert set(ms) == {BARE, BACK_TO_BACK, FLOOR, NODE, COMMON}
    assert all(of['frames'] > 0 for of in ms.values())
    assert 0 < ms[FLOOR]['p50'] < ms[NODE]['p50']
    assert figures['speedup_over_common_node'] > 0
    assert 'infer' in figures['sizes']['96x64']['stages_ms']
    overload = figures['throughput']['one, overload']
    assert 0 < overload['received'] <= overload['sent']
    assert (tmp_path / 'node.png').stat().st_size > 10_000
