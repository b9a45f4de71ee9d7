from __future__ import annotations

import resource
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.evaluation.frames import BagFrame
from nightseg_ros.evaluation.frames import EvaluatedFrame
from nightseg_ros.evaluation.frames import MeasuredFrame
from nightseg_ros.evaluation.rerun_log import RIGHT
from nightseg_ros.evaluation.rerun_log import UNRATED
from nightseg_ros.evaluation.rerun_log import WRONG
from nightseg_ros.evaluation.rerun_log import RerunError
from nightseg_ros.evaluation.rerun_log import RerunLog

CAMERA = '/front/image_raw'
START = 1_700_000_000_123_456_789
HEIGHT, WIDTH = 24, 40


@pytest.fixture(autouse=True)
def sdk() -> None:
    pytest.importorskip('rerun', reason='rerun-sdk is not installed')


def frame_of(index: int, height: int = HEIGHT, width: int = WIDTH) -> EvaluatedFrame:
    """Return a frame with noise for masks of some size."""
    rng = np.random.default_rng(index)
    image = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), (0, 0), 3)
    return EvaluatedFrame(
        index=index,
        stamp_ns=START + index * 100_000_000,
        image=image,
        labels=rng.integers(0, NUM_CLASSES, (height, width), dtype=np.uint8),
        confidence=np.full((height, width), 5 * index, np.uint8),
        exposure=rng.integers(0, 3, (height, width), dtype=np.uint8),
        truth=rng.choice([0, 5, 255], (HEIGHT, WIDTH)).astype(np.uint8),
        latency_ms=None,
    )


def columns_of(chunk) -> dict[str, list]:
    """Return the columns of a chunk, stamps as integers: Python's have no nanoseconds."""
    batch = chunk.to_record_batch()
    return {
        field.name: (column.cast('int64') if 'timestamp' in str(field.type) else column).to_pylist()
        for field, column in zip(batch.schema, batch.columns, strict=True)
    }


class Recording:
    """What is in a file: entity -> component -> [(stamp, frame, value)]; static ones apart."""

    def __init__(self, path: Path) -> None:
        from rerun.chunk import RrdReader

        reader = RrdReader(path)
        self.data: dict[str, dict[str, list]] = {}
        self.static: dict[str, dict] = {}
        for chunk in reader.stream():
            table = columns_of(chunk)
            if chunk.is_static:
                self.static.setdefault(chunk.entity_path, {}).update(table)
                continue
            assert set(chunk.timeline_names) == {'stamp', 'frame'}
            for name in set(table) - {'stamp', 'frame', 'rerun.controls.RowId'}:
                rows = zip(table['stamp'], table['frame'], table[name], strict=True)
                found = self.data.setdefault(chunk.entity_path, {}).setdefault(name, [])
                found += [(stamp, index, value[0]) for stamp, index, value in rows if value]
        for components in self.data.values():
            for found in components.values():
                found.sort(key=lambda row: row[0])
        self.blueprint = [
            str(columns_of(chunk))
            for store in reader.blueprints()
            for chunk in reader.stream(store=store)
        ]

    def times(self, entity: str, component: str) -> list[tuple[int, int]]:
        return [row[:2] for row in self.data[entity][component]]

    def masks(self, name: str) -> list[np.ndarray]:
        mask = self.data[f'{CAMERA}/{name}']
        buffers, formats = mask['SegmentationImage:buffer'], mask['SegmentationImage:format']
        return [
            np.array(buffer, np.uint8).reshape(form['height'], form['width'])
            for (_, _, buffer), (_, _, form) in zip(buffers, formats, strict=True)
        ]

    def images(self, name: str) -> list[np.ndarray]:
        blobs = self.data[f'{CAMERA}/{name}']['EncodedImage:blob']
        return [
            cv2.imdecode(np.array(blob, np.uint8), cv2.IMREAD_UNCHANGED) for _, _, blob in blobs
        ]


def test_frames_come_back_from_the_file(tmp_path: Path) -> None:
    frames = [frame_of(index) for index in range(5)]
    path = tmp_path / 'new folder' / 'drive.rrd'
    with RerunLog(path) as log:
        for frame in frames:
            row = {'miou': 0.1 * frame.index, 'flicker': float('nan'), 'latency_ms': None, 'x': 1.0}
            log.log(frame, CAMERA, row)
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == ['drive.rrd']

    recording = Recording(path)
    masks, pictures = ('prediction', 'exposure', 'truth', 'error'), ('image', 'confidence')
    assert set(recording.data) == {
        *(f'{CAMERA}/{name}' for name in (*masks, *pictures)),
        f'{CAMERA}/metrics/miou',
    }
    times = [(frame.stamp_ns, frame.index) for frame in frames]
    for name in masks:
        assert recording.times(f'{CAMERA}/{name}', 'SegmentationImage:buffer') == times
        assert 'AnnotationContext:context' in recording.static[f'{CAMERA}/{name}']
    for name in pictures:
        assert recording.times(f'{CAMERA}/{name}', 'EncodedImage:blob') == times
    for name, expected in (
        ('prediction', [frame.labels for frame in frames]),
        ('exposure', [frame.exposure for frame in frames]),
        ('truth', [frame.truth for frame in frames]),
    ):
        assert np.array_equal(recording.masks(name), expected)
    for frame, errors in zip(frames, recording.masks('error'), strict=True):
        rated = frame.truth != 255
        assert (errors[~rated] == UNRATED).all()
        assert ((errors == RIGHT) == (rated & (frame.labels == frame.truth))).all()
        assert ((errors == WRONG) == (rated & (frame.labels != frame.truth))).all()
    for frame, bgr in zip(frames, recording.images('image'), strict=True):
        assert np.abs(bgr[..., ::-1].astype(int) - frame.image).mean() < 4
    for frame, grey in zip(frames, recording.images('confidence'), strict=True):
        assert np.abs(grey.astype(int) - frame.confidence).max() <= 2
    scalars = recording.data[f'{CAMERA}/metrics/miou']['Scalars:scalars']
    assert [value for _, _, value in scalars] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_classes_have_their_names_and_colours(tmp_path: Path) -> None:
    with RerunLog(tmp_path / 'drive.rrd') as log:
        log.log(frame_of(0), CAMERA)
    static = Recording(tmp_path / 'drive.rrd').static
    context = static[f'{CAMERA}/prediction']['AnnotationContext:context'][0][0]
    infos = {entry['class_id']: entry['class_description']['info'] for entry in context}
    assert sorted(infos) == [*range(19), 255]
    assert (infos[13]['label'], infos[13]['color']) == ('car', 0x00008EFF)
    assert infos[255]['color'] == 0


def test_masks_of_another_size_get_that_of_their_image(tmp_path: Path) -> None:
    frame = frame_of(1, HEIGHT // 2, WIDTH // 2)
    with RerunLog(tmp_path / 'drive.rrd') as log:
        log.log(frame, CAMERA)
    recording = Recording(tmp_path / 'drive.rrd')
    assert np.array_equal(recording.masks('prediction')[0][::2, ::2], frame.labels)
    assert recording.masks('error')[0].shape == (HEIGHT, WIDTH)
    assert recording.images('confidence')[0].shape == (HEIGHT, WIDTH)


def test_a_frame_without_masks_does_not_show_the_last_ones(tmp_path: Path) -> None:
    dropped = replace(frame_of(1), labels=None, confidence=None, exposure=None, truth=None)
    with RerunLog(tmp_path / 'drive.rrd') as log:
        for frame in (frame_of(0), dropped, replace(dropped, index=2, stamp_ns=START + 5)):
            log.log(frame, CAMERA)
    recording = Recording(tmp_path / 'drive.rrd')
    for name in ('prediction', 'exposure', 'truth', 'error', 'confidence'):
        times = recording.times(f'{CAMERA}/{name}', 'Clear:is_recursive')
        assert times == [(dropped.stamp_ns, 1)]
    assert len(recording.images('image')) == 3


def test_several_cameras_share_a_file_and_each_has_its_views(tmp_path: Path) -> None:
    frame = frame_of(0)
    measured = MeasuredFrame(BagFrame(0, START, None, None), picture=lambda: frame)
    unreadable = MeasuredFrame(BagFrame(1, START, None, None), problem='bad_step')
    with RerunLog(tmp_path / 'drive.rrd') as log:
        front, left = log.sink(CAMERA), log.sink('left camera')
        front(measured, {'miou': 0.5})
        front(unreadable, {})
        left(replace(measured, picture=lambda: replace(frame, truth=None)), {})
    recording = Recording(tmp_path / 'drive.rrd')
    left_path = r'/left\ camera'
    assert len(recording.images('image')) == 1
    assert f'{CAMERA}/truth' in recording.data
    assert f'{left_path}/prediction' in recording.data
    assert f'{left_path}/truth' not in recording.data
    blueprint = '\n'.join(recording.blueprint)
    assert f'{CAMERA}/error' in blueprint
    assert f'{CAMERA}/metrics/miou' in blueprint
    assert 'camera/exposure' in blueprint
    assert 'camera/error' not in blueprint


def test_a_recording_without_frames_is_whole(tmp_path: Path) -> None:
    with RerunLog(tmp_path / 'drive.rrd'):
        pass
    assert Recording(tmp_path / 'drive.rrd').data == {}


def test_after_an_error_nothing_is_left_and_an_older_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / 'drive.rrd').write_bytes(b'older')
    with pytest.raises(KeyboardInterrupt), RerunLog(tmp_path / 'drive.rrd') as log:
        log.log(frame_of(0), CAMERA)
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ['drive.rrd']
    assert (tmp_path / 'drive.rrd').read_bytes() == b'older'
    with RerunLog(tmp_path / 'drive.rrd') as log:
        log.log(frame_of(0), CAMERA)
    assert len(Recording(tmp_path / 'drive.rrd').images('image')) == 1


def test_a_full_disk_is_told_and_leaves_no_file(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(RerunError, match='drive.rrd was not written: File too large'):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
            with RerunLog(tmp_path / 'drive.rrd') as log:
                for index in range(30):
                    log.log(frame_of(index), CAMERA)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / 'file').write_bytes(b'')
    with (
        pytest.raises(RerunError, match='cannot be written'),
        RerunLog(tmp_path / 'file' / 'x.rrd'),
    ):
        pass
    with pytest.raises(RerunError, match='is a folder'), RerunLog(tmp_path):
        pass


def test_without_the_sdk_the_remedy_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'rerun', None)
    with pytest.raises(RerunError, match='pip install rerun-sdk'):
        RerunLog(tmp_path / 'drive.rrd')


def test_a_switch_that_would_leave_the_file_empty_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv('RERUN', 'off')
    with (
        pytest.raises(RerunError, match='RERUN switches recordings off'),
        RerunLog(tmp_path / 'drive.rrd'),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
