"""The main job, end to end: a drive through the real node over real DDS, and its report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from nightseg_ros.evaluation import bags
from nightseg_ros.evaluation.bags import Frame

pytest.importorskip('rclpy', reason='rclpy is not installed: source a ROS 2')


def demo(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'nightseg_ros.evaluation.demo', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_every_mask_comes_back_for_its_own_frame(
    tmp_path: Path, channel_model: Path, drive, storage
) -> None:
    drive('bag', 12, storage=storage)
    out = tmp_path / 'out'
    done = demo('--bag', tmp_path / 'bag', '--output', out, '--model', channel_model)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((out / 'report.json').read_text())
    assert report['frames'] == 12
    assert report['received'] == 12
    assert report['dropped'] == 0
    metrics = report['metrics']
    assert metrics['miou'] == 1.0  # a mask under another frame's stamp would cost IoU
    assert report['model'] == 'channels'
    assert report['backend'].startswith(('openvino', 'onnxruntime'))
    assert 0 < metrics['p50_ms'] <= metrics['p99_ms'] < 5000
    assert metrics['over_share'] == pytest.approx(0.5)
    assert str(out / 'report.html') in done.stdout.replace('\n', '')
    video = cv2.VideoCapture(str(out / 'overlay.mp4'))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 12


def test_compressed_frames_without_truth(
    tmp_path: Path, channel_model: Path, channel_frames
) -> None:
    frames = [Frame(f.stamp_ns, f.image) for f in channel_frames(5)]
    bags.write_drive(tmp_path / 'bag', frames, compressed=True)
    out = tmp_path / 'out'
    done = demo('--bag', tmp_path / 'bag', '--output', out, '--model', channel_model)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((out / 'report.json').read_text())
    assert (report['received'], report['metrics']['miou']) == (5, None)


def test_the_procedural_drive_with_the_released_model(tmp_path: Path) -> None:
    done = demo('--seconds', 1.5, '--rate', 0.3, '--output', tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['frames'] == 15
    assert report['received'] > 0
    assert report['metrics']['miou'] > 0.05
    assert any('procedural' in note for note in report['notes'])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--bag', '{}/nowhere'], 'nowhere does not exist'),
        (['--frames', '{}'], 'holds no'),
        (['--seconds', '0'], '--seconds'),
        (['--rate', '0'], '--rate'),
        (['--model', '{}/nowhere.onnx'], 'nowhere.onnx'),
    ],
)
def test_bad_input_exits_with_2_and_says_what_to_do(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = demo('--output', tmp_path / 'out', *(a.format(tmp_path) for a in arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_topic_that_is_not_there_is_answered_with_those_that_are(
    tmp_path: Path, channel_model: Path, drive
) -> None:
    drive('bag', 1)
    done = demo('--bag', tmp_path / 'bag', '--image-topic', '/front', '--model', channel_model,
                '--output', tmp_path / 'out')  # fmt: skip
    assert done.returncode == 2
    assert '/camera/image_raw (sensor_msgs/msg/Image)' in done.stderr
