"""Replays through the real node over real DDS."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nightseg_ros.evaluation import bags

pytest.importorskip('rclpy', reason='rclpy is not installed: source a ROS 2')


def command(bag: Path, model: Path, out: Path, *options: object) -> list[str]:
    return [
        sys.executable, '-m', 'nightseg_ros.evaluation.evaluate_command', str(bag), '--mode',
        'replay', '--model', str(model), '--out', str(out), '--no-video', *map(str, options),
    ]  # fmt: skip


def evaluate(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize('options', [{'storage': 'sqlite3'}, {'compressed': True}])
def test_latency_age_and_drops_are_measured(drive, channel_model, tmp_path, options) -> None:
    # JPEG moves a few of the red channel's ids: the masks differ, the times do not.
    bag = drive(count=15, **options)
    done = evaluate(bag, channel_model, tmp_path / 'out', '--fail-over', 'p99_ms=5000')
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert (report['frames'], report['received'], report['dropped']) == (15, 15, 0)
    assert report['mode'] == 'replay'
    metrics = report['metrics']
    if 'storage' in options:
        assert metrics['miou'] == 1.0  # a mask under another frame's stamp would cost IoU
    assert 0 < metrics['p50_ms'] <= metrics['p99_ms'] < 5000
    # The bag's times are its stamps: nothing is older than its latency.
    assert metrics['age_p99_ms'] == pytest.approx(metrics['p99_ms'])
    assert report['gap_ms']['p50'] == pytest.approx(100, abs=40)
    assert {'infer', 'total'} <= report['stages_ms'].keys()
    assert report['memory']['process'] == 'node'
    assert report['memory']['peak_mib'] > 20
    assert report['intervals']['p50_ms'][0] <= metrics['p50_ms']


def test_two_cameras_share_a_node(channel_frames, channel_model, tmp_path) -> None:
    frames = channel_frames(10)
    with bags.new_bag(tmp_path / 'two') as writer:
        topics = [
            writer.add_connection(f'/{name}/image_raw', bags.IMAGE, typestore=bags.TYPESTORE)
            for name in ('front', 'left')
        ]
        for frame in frames:
            message = bags.image_message(bags.header_message(frame.stamp_ns), frame.image)
            for topic in topics:
                content = bags.TYPESTORE.serialize_cdr(message, bags.IMAGE)
                writer.write(topic, frame.stamp_ns, content)
    done = evaluate(
        tmp_path / 'two', channel_model, tmp_path / 'out', '--image-topic', '/*/image_raw'
    )
    assert done.returncode == 0, done.stdout + done.stderr
    merged = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert len(merged['drives']) == 2
    assert merged['frames'] == 20
    assert merged['received'] >= 19


def test_a_model_that_the_node_refuses_ends_with_its_words(drive, tmp_path) -> None:
    (tmp_path / 'bad.onnx').write_bytes(b'no model')
    done = evaluate(drive(), tmp_path / 'bad.onnx', tmp_path / 'out')
    assert done.returncode == 2
    assert 'bad.onnx' in done.stderr


def test_ctrl_c_leaves_a_report_of_what_was_played(drive, channel_model, tmp_path) -> None:
    bag, out = drive(count=300), tmp_path / 'out'
    process = subprocess.Popen(
        command(bag, channel_model, out), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    log = out / 'node.log'
    deadline = time.monotonic() + 90
    while not (log.exists() and 'waiting for images' in log.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    time.sleep(3.0)  # it is played once the node has been heard
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert 'Traceback' not in err
    report = json.loads((out / 'report.json').read_text())
    assert report['interrupted'] and not report['complete']
    assert 0 < report['received'] <= report['frames'] < 300
    assert not list(out.glob('.replay-*'))
