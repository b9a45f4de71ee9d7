"""The command as people use it."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nightseg_ros.core.image_codec import view
from nightseg_ros.evaluation import bags
from nightseg_ros.evaluation import evaluate_command
from nightseg_ros.evaluation.bag_reader import deserialize
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.frames import stamp_ns


@pytest.fixture
def run(channel_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Return a function that runs the command here; it returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        engine = ['--model', str(channel_model), '--backend', 'onnxruntime', '--precision', 'fp32']
        common = [*engine, '--no-video', '--workers', '1', '--out', str(tmp_path / 'out')]
        code = evaluate_command.main([*common, *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def report(folder: Path) -> dict:
    return json.loads((folder / 'report.json').read_text())


def test_one_bag_needs_nothing_but_its_name(run, drive, tmp_path) -> None:
    code, out, _ = run(drive())
    assert code == 0
    assert str(tmp_path / 'out' / 'report.html') in out
    assert report(tmp_path / 'out')['metrics']['miou'] == 1.0


@pytest.mark.parametrize(
    ('limits', 'code', 'message'),
    [
        (['--fail-under', 'miou=0.9', '--fail-over', 'ece=0.3'], 0, ''),
        (['--fail-under', 'miou=0.9', 'fps=1e9'], 1, 'fps is'),
        (['--fail-over', 'p99_ms=100'], 1, 'p99_ms is not known'),
        (['--fail-under', 'iou=0.9'], 2, "no metric 'iou'"),
    ],
)
def test_limits_set_the_exit_code(run, drive, limits, code, message) -> None:
    found, _, err = run(drive(), *limits)
    assert found == code
    assert message in err


def write_two_cameras(path: Path, frames: list[bags.Frame]) -> None:
    """Write a bag with a front and a left camera, and truth for the front one."""
    topics = {'/front/image_raw': lambda f: f.image, '/left/image_raw': lambda f: f.image[:, ::-1]}
    with bags.new_bag(path) as writer:
        kinds = {'typestore': bags.TYPESTORE}
        connections = {t: writer.add_connection(t, bags.IMAGE, **kinds) for t in topics}
        truth = writer.add_connection('/front/labels', bags.IMAGE, **kinds)
        for frame in frames:
            header = bags.header_message(frame.stamp_ns)
            for topic, pixels in topics.items():
                message = bags.image_message(header, np.ascontiguousarray(pixels(frame)))
                content = bags.TYPESTORE.serialize_cdr(message, bags.IMAGE)
                writer.write(connections[topic], frame.stamp_ns, content)
            message = bags.image_message(header, frame.labels)
            content = bags.TYPESTORE.serialize_cdr(message, bags.IMAGE)
            writer.write(truth, frame.stamp_ns, content)


def test_several_cameras_get_a_report_each(run, channel_frames, tmp_path) -> None:
    write_two_cameras(tmp_path / 'two', channel_frames(6))
    topics = ['--image-topic', '/front/image_raw', '/left/image_raw']
    code, _, _ = run(tmp_path / 'two', *topics, '--labels', '/front/labels', 'none',
                     '--write-bag', tmp_path / 'masks')  # fmt: skip
    assert code == 0
    out = tmp_path / 'out'
    assert report(out / 'two_front_image_raw')['metrics']['miou'] == 1.0
    assert report(out / 'two_left_image_raw')['metrics']['miou'] is None
    assert report(out)['frames'] == 12
    with open_bag(tmp_path / 'masks') as bag:
        names = {topic.name for topic in bag.topics}
        assert {*topics[1:], '/front/labels', '/night_seg/front/semantic/mask'} < names
        assert '/night_seg/left/exposure/mask' in names
        times = [message.time_ns for message in bag.messages()]
    assert times == sorted(times)


def test_masks_in_the_bag_are_under_their_images_headers(run, drive, tmp_path) -> None:
    bag_path = drive(count=5)
    code, _, _ = run(bag_path, '--write-bag', tmp_path / 'masks')
    assert code == 0
    with open_bag(tmp_path / 'masks') as bag:
        images, masks = (
            {m.time_ns: (stamp_ns(m), deserialize(m)) for m in bag.messages([topic])}
            for topic in (bags.IMAGE_TOPIC, '/night_seg/semantic/mask')
        )
    assert images.keys() == masks.keys()
    for time_ns, (stamp, image) in images.items():
        mask_stamp, mask = masks[time_ns]
        assert stamp == mask_stamp
        assert (view(mask).samples == view(image).samples[..., 0]).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'name a bag'),
        (['{}/nowhere'], 'nowhere'),
        (['{}/*.mcap'], r'*.mcap'),
        (['{}/drive', '--image-topic', '/front'], '/camera/image_raw (sensor_msgs/msg/Image)'),
        (['{}/drive', '--labels', '/truth'], '/camera/labels (sensor_msgs/msg/Image)'),
        (['{}/drive', '--labels', '{}/nowhere'], 'nowhere'),
        (['{}/drive', '--labels', '/a', '/b'], '--labels names 2'),
        (['{}/drive', '--jobs', '-1'], '--jobs'),
        (['{}/drive', '--mode', 'replay', '--rate', '0'], '--rate must be above 0'),
        (['{}/drive', '--mode', 'replay', '--ray', 'auto'], '--ray'),
        (['{}/drive', '--tolerance-ms', 'inf'], '--tolerance-ms'),
        (['{}/drive', '--bootstrap-seconds', 'nan'], '--bootstrap-seconds'),
        (['{}/drive', '--write-bag', '{}/out'], 'would lie in'),
        (['{}/drive', '--write-bag', '{}'], 'would lie in'),
        (['{}/drive', '--write-bag', '{}/drive'], 'holds the input'),
        (['--compare', '{}/a.json', '{}/b.json'], 'a.json'),
        (['--compare', '{}/a.json', '{}/b.json', '--fail-under', 'miou=1'], 'nor limits'),
    ],
)
def test_bad_input_exits_with_2_and_says_what_to_do(run, drive, tmp_path, arguments, message):
    drive()
    code, _, err = run(*(argument.format(tmp_path) for argument in arguments))
    assert code == 2
    assert message in err.replace('\n', ' ')
    assert 'Traceback' not in err


def test_a_bag_that_cannot_be_read_does_not_pass_for_its_earlier_report(run, drive) -> None:
    bag = drive()
    assert run(bag)[0] == 0
    (bag / 'drive.mcap').write_bytes(b'gone')
    code, out, err = run(bag)
    assert code == 2
    assert 'report.html' not in out
    assert 'drive' in err


def test_a_recording_is_never_replaced_by_masks(run, drive, tmp_path) -> None:
    other = drive('other', 3)
    code, _, err = run(drive(count=3), '--write-bag', other)
    assert code == 2
    assert 'holds no masks of ours' in err
    with open_bag(other) as bag:
        assert len(list(bag.messages([bags.IMAGE_TOPIC]))) == 3
    masks = tmp_path / 'masks'
    assert run(drive('first', 3), '--write-bag', masks)[0] == 0
    assert run(drive('second', 4), '--write-bag', masks)[0] == 0
    with open_bag(masks) as bag:
        assert len(list(bag.messages(['/night_seg/semantic/mask']))) == 4


def test_masks_that_are_asked_for_later_are_written(run, drive, tmp_path) -> None:
    bag = drive(count=3)
    assert run(bag)[0] == 0
    assert 'are finished' in run(bag)[2]
    code, _, err = run(bag, '--write-bag', tmp_path / 'masks')
    assert (code, 'are finished' in err) == (0, False)
    assert (tmp_path / 'masks').is_dir()


def test_a_report_may_lie_in_the_bag_s_own_folder(
    run, drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = drive(count=3)
    monkeypatch.chdir(bag)
    assert run('.', '--out', 'evaluation')[0] == 0
    assert report(bag / 'evaluation')['source']['bag'] == 'drive'
    assert 'are finished' in run('.', '--out', 'evaluation')[2]


def test_a_rerun_recording_is_written(run, drive, tmp_path) -> None:
    pytest.importorskip('rerun', reason='rerun is not installed: pip install rerun-sdk')
    code, _, _ = run(drive(count=4), '--rerun', tmp_path / 'drive.rrd')
    assert code == 0
    assert (tmp_path / 'drive.rrd').stat().st_size > 1000


def test_bags_that_cannot_be_read_do_not_keep_others_from_being_evaluated(
    run, drive, tmp_path
) -> None:
    paths = [drive('day/drive.v1', 4), drive('night/drive.v1', 5), drive('broken', 4)]
    (paths[2] / 'broken.mcap').write_bytes(b'no bag')
    code, _, err = run(*paths, '--write-bag', tmp_path / 'masks', '--jobs', 1)
    assert code == 2
    assert 'broken' in err
    assert report(tmp_path / 'out')['frames'] == 9
    assert {path.name for path in (tmp_path / 'masks').iterdir()} == {'drive.v1', 'drive.v1_2'}
    folders = [line['folder'] for line in report(tmp_path / 'out')['drives']]
    assert folders == ['drive.v1_camera_image_raw', 'drive.v1_camera_image_raw_2']


def test_two_reports_are_compared(run, drive, tmp_path) -> None:
    assert run(drive('good', 20), '--bootstrap-seconds', '0.5')[0] == 0
    (tmp_path / 'out' / 'report.json').rename(tmp_path / 'a.json')
    assert run(drive('bad', 20, wrong=10), '--bootstrap-seconds', '0.5')[0] == 0
    code, out, _ = run('--compare', tmp_path / 'a.json', tmp_path / 'out' / 'report.json')
    assert code == 0
    assert 'comparison.html' in out
    assert (tmp_path / 'out' / 'comparison.html').stat().st_size > 1000


def test_a_disk_that_fails_ends_with_its_error(run, drive, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr('nightseg_ros.evaluation.drive.DriveRecorder.add', fail)
    code, _, err = run(drive(count=3))
    assert (code, 'Input/output error' in err) == (2, True)


def test_a_damaged_report_is_not_compared(run, drive, tmp_path) -> None:
    assert run(drive(count=3))[0] == 0
    good = tmp_path / 'out' / 'report.json'
    for name, value in {'rate_hz': 'fast', 'classes': {}, 'bootstrap': []}.items():
        (tmp_path / 'bad.json').write_text(json.dumps({**report(tmp_path / 'out'), name: value}))
        code, _, err = run('--compare', good, tmp_path / 'bad.json')
        assert (code, 'damaged' in err) == (2, True)


def test_ctrl_c_leaves_a_report_of_what_was_done(drive, channel_model, tmp_path) -> None:
    bag = drive(count=5000)
    process = subprocess.Popen(
        [
            sys.executable, '-m', 'nightseg_ros.evaluation.evaluate_command', str(bag),
            '--model', str(channel_model), '--backend', 'onnxruntime', '--precision', 'fp32',
            '--no-video', '--out', str(tmp_path / 'out'),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob('out/.evaluation-*/report.csv')):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert 'Traceback' not in err
    found = report(tmp_path / 'out')
    assert not found['complete']
    assert 0 < found['frames'] < 5000
    assert not list(tmp_path.glob('out/.evaluation-*'))
