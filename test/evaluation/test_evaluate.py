"""One bag, offline, from the file to the report, without ROS."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.evaluation import bags
from nightseg_ros.evaluation import evaluate
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.bags import Frame
from nightseg_ros.evaluation.drive import DriveRecorder
from nightseg_ros.evaluation.evaluate import Extras
from nightseg_ros.evaluation.evaluate import evaluate_offline
from nightseg_ros.evaluation.offline import Engine
from nightseg_ros.evaluation.request import finished
from nightseg_ros.evaluation.request import report_of

FILES = {'report.html', 'report.json', 'report.csv', 'state'}


def strict_json(path: Path) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f'{constant} is no JSON')

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.mark.parametrize('options', [{}, {'storage': 'sqlite3'}])
def test_the_numbers_are_those_of_the_frames(drive, make_request, tmp_path, options) -> None:
    # Of 12 frames 3 have sky in the upper half that the model cannot see.
    report = evaluate_offline(make_request(drive(wrong=3, **options)), workers=2)
    assert report == strict_json(tmp_path / 'out' / 'report.json')
    assert {p.name for p in (tmp_path / 'out').iterdir()} == FILES
    assert (report['frames'], report['received'], report['truth_frames']) == (12, 12, 12)
    assert report['complete']
    metrics = report['metrics']
    assert metrics['accuracy'] == pytest.approx(1 - 3 * 0.5 / 12)
    assert metrics['confidence'] == pytest.approx(200 / 255)
    assert metrics['ece'] == pytest.approx(metrics['accuracy'] - 200 / 255)
    assert metrics['over_share'] == pytest.approx(0.5)  # the channel model's exposure is blue
    assert metrics['dropped_share'] == 0
    by_name = {row['name']: row for row in report['classes']}
    assert by_name['sky']['iou'] == 0
    assert by_name['sky']['support_pixels'] == 3 * 16 * 48
    assert by_name['bus']['iou'] is None
    low, high = report['intervals']['accuracy']
    assert low < metrics['accuracy'] < high
    assert sum(map(sum, report['confusion'])) == 12 * 32 * 48
    assert report['source']['truth']['matched'] == 12
    rows = list(csv.DictReader((tmp_path / 'out' / 'report.csv').open()))
    assert [float(row['accuracy']) for row in rows] == [1.0] * 9 + [0.5] * 3
    assert [int(row['stamp_ns']) for row in rows] == [bags.stamp_of(i, 10.0) for i in range(12)]


def test_the_same_bag_gives_the_same_numbers_however_it_is_run(drive, make_request, tmp_path):
    bag = drive(count=20, wrong=5)
    reports = [
        evaluate_offline(make_request(bag, output=tmp_path / str(workers)), workers)
        for workers in (1, 3)
    ]
    for name in ('confusion', 'intervals', 'classes', 'exposure_bins', 'risk_coverage'):
        assert reports[0][name] == reports[1][name]
    csvs = [(tmp_path / w / 'report.csv').read_text().splitlines() for w in ('1', '3')]
    stages = slice(6, 9)  # milliseconds are never the same
    for one, three in zip(*csvs, strict=True):
        one, three = one.split(','), three.split(',')
        del one[stages], three[stages]
        assert one == three


def test_masks_of_real_frames_are_those_that_a_segmenter_makes_alone(
    shared_data: Path, make_request, tmp_path
):
    """Several workers, views into messages, reused memory: each mask must be its own frame's."""
    frames = list(bags.folder_frames(shared_data / 'camvid_dusk_dev'))[:4]
    bags.write_drive(tmp_path / 'dusk', frames)
    seen: dict[int, np.ndarray] = {}

    def keep(measured, row) -> None:
        seen[measured.frame.index] = measured.picture().labels

    request = make_request(tmp_path / 'dusk', engine=Engine(None, 'onnxruntime', 'fp32'))
    report = evaluate_offline(request, 3, Extras(sinks=(keep,)))
    segmenter = Segmenter.load(None, 'onnxruntime')
    for index, frame in enumerate(frames):
        expected = segmenter.segment_rgb(frame.image).labels
        found = cv2.resize(
            seen[index], frame.image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT
        )
        assert (found == expected).mean() > 0.999
    segmenter.close()
    assert report['metrics']['miou'] > 0.25
    assert 0 < report['metrics']['flicker'] < 0.5
    assert report['dominant_class']['share'] < 0.6


def test_frames_without_truth_count_for_everything_else(
    channel_frames, make_request, tmp_path
) -> None:
    frames = [
        Frame(f.stamp_ns, f.image, f.labels if i % 3 == 0 else None)
        for i, f in enumerate(channel_frames(12))
    ]
    bags.write_drive(tmp_path / 'mixed', frames)
    report = evaluate_offline(make_request(tmp_path / 'mixed'), workers=1)
    assert (report['frames'], report['truth_frames']) == (12, 4)
    assert report['source']['truth']['unmatched'] == 8
    assert report['metrics']['miou'] == 1.0
    assert report['metrics']['flicker'] is not None
    none = evaluate_offline(make_request(tmp_path / 'mixed', labels=None), workers=1)
    assert none['metrics']['miou'] is None
    assert none['metrics']['confidence'] == report['metrics']['confidence']


def test_bad_images_are_counted_and_the_rest_is_evaluated(
    channel_frames, make_request, tmp_path: Path
) -> None:
    frames = channel_frames(12)
    bags.write_drive(tmp_path / 'good', frames)
    types = bags.TYPESTORE.types
    with bags.new_bag(tmp_path / 'bad') as writer:
        images = writer.add_connection(bags.IMAGE_TOPIC, bags.IMAGE, typestore=bags.TYPESTORE)
        for index, frame in enumerate(frames):
            stamp = types['builtin_interfaces/msg/Time'](*divmod(frame.stamp_ns, 10**9))
            message = types[bags.IMAGE](
                header=types['std_msgs/msg/Header'](stamp=stamp, frame_id='camera'),
                height=32,
                width=48,
                encoding='yuv999' if index == 3 else 'rgb8',
                is_bigendian=0,
                step=48 * 3,
                data=frame.image.reshape(-1)[: 100 if index == 5 else None],
            )
            content = bags.TYPESTORE.serialize_cdr(message, bags.IMAGE)
            if index == 7:
                content = bytes(content)[:60]
            writer.write(images, frame.stamp_ns, content)
    report = evaluate_offline(make_request(tmp_path / 'bad', labels=None), workers=2)
    assert report['unreadable'] == {
        'unknown_encoding': 1, 'short_data': 1, 'damaged_message': 1,
    }  # fmt: skip
    assert (report['frames'], report['received']) == (12, 9)
    assert any('3 of 12 images could not be used' in text for text in report['warnings'])


def test_a_truth_of_another_size_is_refused_and_said_to_be(
    channel_frames, make_request, tmp_path: Path
) -> None:
    frames = [Frame(f.stamp_ns, f.image, f.labels[:16]) for f in channel_frames(12)]
    bags.write_drive(tmp_path / 'small', frames)
    report = evaluate_offline(make_request(tmp_path / 'small'), workers=1)
    assert report['truth_frames'] == 0
    assert report['source']['truth']['refused'] == {'size 48x16, image 48x32': 12}
    assert any('48x16' in text for text in report['warnings'])


def test_a_truncated_bag_is_evaluated_as_far_as_it_goes(drive, make_request) -> None:
    bag = drive(count=400)
    file = bag / f'{bag.name}.mcap'
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    report = evaluate_offline(make_request(bag), workers=1)
    assert 50 < report['frames'] < 400
    assert report['metrics']['miou'] == 1.0
    assert report['problems']


def test_ctrl_c_keeps_what_was_evaluated(drive, make_request, tmp_path) -> None:
    request = make_request(drive(count=40))
    done = 0

    def interrupt() -> None:
        nonlocal done
        done += 1
        if done == 15:
            os.kill(os.getpid(), signal.SIGINT)

    report = evaluate_offline(request, 2, Extras(on_frame=interrupt))
    assert not report['complete']
    assert report['frames'] == 15
    assert 'Interrupted after 15 frames.' in report['problems']
    assert report_of(request) is not None
    assert not finished(request)
    assert evaluate_offline(request, 2)['frames'] == 40
    assert finished(request)


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, 'No space left on device')


def test_a_disk_that_fills_up_ends_the_evaluation_not_the_report(
    drive, make_request, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0

    def write_row(recorder: DriveRecorder, *arguments: object, add=DriveRecorder.add) -> None:
        nonlocal seen
        seen += 1
        if seen > 5:
            no_room()
        add(recorder, *arguments)

    monkeypatch.setattr(DriveRecorder, 'add', write_row)
    report = evaluate_offline(make_request(drive()), 1)
    assert report['frames'] == 5
    assert not report['complete']
    assert 'The disk was full after 5 frames.' in report['problems']


def test_a_full_disk_leaves_the_earlier_report_alone(
    drive, make_request, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(drive())
    evaluate_offline(request, 1)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / 'out').iterdir()}
    monkeypatch.setattr('nightseg_ros.evaluation.evaluate.write_page', no_room)
    with pytest.raises(BagError, match='make room'):
        evaluate_offline(request, 1)
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / 'out').iterdir()} == before


def test_a_report_is_the_answer_until_something_changes(
    drive, make_request: Callable, tmp_path: Path
) -> None:
    bag = drive()
    request = make_request(bag)
    evaluate_offline(request, 1)
    assert finished(request)
    assert not finished(make_request(bag, tolerance_ms=1.0))
    assert not finished(make_request(bag, labels=None))
    assert not finished(make_request(bag, extras=('masks',)))
    assert not finished(make_request(bag, mode='replay'))  # measured anew each time
    os.utime(bag / 'drive.mcap')
    assert not finished(request)
    assert report_of(request, since_ns=0) is not None  # the bag is still being recorded


def test_a_video_shows_every_frame_of_a_short_drive(drive, make_request, tmp_path) -> None:
    report = evaluate_offline(make_request(drive(), video=True), 1)
    assert report['video'] == 'overlay.mp4'
    video = cv2.VideoCapture(str(tmp_path / 'out' / 'overlay.mp4'))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 12


def test_where_there_is_no_room_for_a_video_there_is_a_report(
    drive, make_request, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(result, folder: Path, save=evaluate.save_result) -> None:
        if (folder / 'overlay.mp4').exists():
            no_room()
        save(result, folder)

    monkeypatch.setattr(evaluate, 'save_result', save)
    report = evaluate_offline(make_request(drive(), video=True), 1)
    assert report['complete']
    assert report['video'] is None
    assert 'overlay.mp4 was dropped: the disk is full.' in report['problems']
    assert not (tmp_path / 'out' / 'overlay.mp4').exists()
