from __future__ import annotations

import errno
import hashlib
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Qos
from rosbags.interfaces import QosDurability
from rosbags.interfaces import QosHistory
from rosbags.interfaces import QosLiveliness
from rosbags.interfaces import QosReliability
from rosbags.interfaces import QosTime
from rosbags.rosbag2 import Reader
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores
from rosbags.typesys import get_types_from_msg
from rosbags.typesys import get_typestore

from nightseg_ros.core.image_codec import to_rgb
from nightseg_ros.core.overlay import overlay
from nightseg_ros.evaluation.bag_reader import deserialize
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.bags import IMAGE
from nightseg_ros.evaluation.bags import TYPESTORE
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.bags import image_message
from nightseg_ros.evaluation.bags import jpeg_message
from nightseg_ros.evaluation.frames import EvaluatedFrame
from nightseg_ros.evaluation.frames import decode
from nightseg_ros.evaluation.mask_bag import MaskTopics
from nightseg_ros.evaluation.mask_bag import camera_names
from nightseg_ros.evaluation.mask_bag import mask_bag

FRONT, LEFT, IMU, SPEED = '/front/image_raw', '/left/image_raw', '/imu', '/speed'
CUSTOM = 'my_msgs/msg/Speed'
LATCHED = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    QosTime(0, 0),
    QosTime(0, 0),
    QosLiveliness.AUTOMATIC,
    QosTime(0, 0),
    False,
)


def image(time_ns: int, frame_id: str) -> bytes:
    """Return an image whose stamp is not its bag time."""
    types = TYPESTORE.types
    stamp = types['builtin_interfaces/msg/Time'](*divmod(time_ns - 12_345, 10**9))
    header = types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)
    pixels = np.random.default_rng(time_ns).integers(0, 256, (24, 40, 3), np.uint8)
    return bytes(TYPESTORE.serialize_cdr(image_message(header, pixels), IMAGE))


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Return a bag of two cameras, an IMU and a type of its own."""
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg('float32 speed', CUSTOM))
    with Writer(tmp_path / 'drive', version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        front = writer.add_connection(FRONT, IMAGE, typestore=store)
        left = writer.add_connection(LEFT, IMAGE, typestore=store)
        imu = writer.add_connection(
            IMU, 'std_msgs/msg/String', typestore=store, offered_qos_profiles=[LATCHED]
        )
        speed = writer.add_connection(SPEED, CUSTOM, typestore=store)
        for index in range(10):
            time_ns = 10**9 + index * 10**8
            writer.write(front, time_ns, image(time_ns, 'front'))
            writer.write(left, time_ns + 10, image(time_ns + 10, 'left'))
            for tick in range(3):
                content = TYPESTORE.serialize_cdr(
                    TYPESTORE.types['std_msgs/msg/String'](f'{index} {tick}'), 'std_msgs/msg/String'
                )
                writer.write(imu, time_ns + 20 + tick * 10**7, content)
            writer.write(speed, time_ns + 30, b'\0\1\0\0' + bytes(4))
    return tmp_path / 'drive'


def evaluated(message, size: tuple[int, int] = (24, 40)) -> EvaluatedFrame:
    """Return a frame with masks that follow from its time."""
    rng = np.random.default_rng(message.time_ns)
    return EvaluatedFrame(
        index=0,
        stamp_ns=0,
        image=to_rgb(decode(message)),
        labels=rng.integers(0, 19, size, np.uint8),
        confidence=rng.integers(0, 256, size, np.uint8),
        exposure=rng.integers(0, 3, size, np.uint8),
        truth=None,
        latency_ms=None,
    )


def write_masks(output: Path, drive: Path, cameras: list[str], storage='mcap') -> list[str]:
    with open_bag(drive) as bag, mask_bag(output, bag, cameras, storage) as masks:
        for camera in cameras:
            for message in bag.messages([camera]):
                masks.write(camera, message, evaluated(message))
        return masks.problems


def contents(path: Path) -> list[tuple[str, str, int, bytes]]:
    with open_bag(path) as bag:
        assert bag.problems == []
        return [(m.topic, m.type, m.time_ns, bytes(m.content)) for m in bag.messages()]


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('cameras', [[FRONT], [FRONT, LEFT]])
def test_masks_come_back_in_step_with_their_images(
    tmp_path: Path, drive: Path, storage: str, cameras: list[str]
) -> None:
    assert write_masks(tmp_path / 'out', drive, cameras, storage) == []
    names = camera_names(cameras)
    masks = {topic for name in names.values() for topic in MaskTopics.of(name).all}
    found = contents(tmp_path / 'out')
    assert [message for message in found if message[0] not in masks] == contents(drive)
    times = [time_ns for _, _, time_ns, _ in found]
    assert times == sorted(times)
    with open_bag(drive) as source, AnyReader([tmp_path / 'out']) as reader:
        written = {
            (connection.topic, time_ns): reader.deserialize(raw, connection.msgtype)
            for connection, time_ns, raw in reader.messages()
            if connection.topic in masks
        }
        assert len(written) == 40 * len(cameras)
        for camera, name in names.items():
            topics = MaskTopics.of(name)
            for message in source.messages([camera]):
                frame, header = evaluated(message), deserialize(message).header
                expected = (frame.labels, frame.confidence, frame.exposure)
                for topic, mask in zip(topics.masks, expected, strict=True):
                    back = written[topic, message.time_ns]
                    assert back.encoding == 'mono8'
                    assert back.data.tobytes() == mask.tobytes()
                    assert repr(back.header) == repr(header)
                picture = written[topics.overlay, message.time_ns]
                assert repr(picture.header) == repr(header)
                jpeg = jpeg_message(header, overlay(frame.image, frame.labels))
                assert picture.data.tobytes() == jpeg.data.tobytes()


def test_types_and_qos_are_carried_over(tmp_path: Path, drive: Path) -> None:
    write_masks(tmp_path / 'out', drive, [FRONT])
    with Reader(tmp_path / 'out') as after, Reader(drive) as before:
        assert after.message_count == before.message_count + 40
        for connection in before.connections:
            (same,) = (c for c in after.connections if c.topic == connection.topic)
            assert same[1:5] == connection[1:5]
            assert same.ext == connection.ext
    with (tmp_path / 'out' / 'out.mcap').open('rb') as stream:
        summary = make_reader(stream).get_summary()
        assert {index.compression for index in summary.chunk_indexes} == {'zstd'}


def test_masks_have_the_size_of_their_image(tmp_path: Path, drive: Path) -> None:
    with open_bag(drive) as bag, mask_bag(tmp_path / 'out', bag, [FRONT]) as masks:
        message = next(bag.messages([FRONT]))
        masks.write(FRONT, message, evaluated(message, size=(12, 20)))
    topics = MaskTopics.of('')
    with open_bag(tmp_path / 'out') as bag:
        labels, exposure = (
            to_rgb(decode(next(bag.messages([topic]))))[..., 0]
            for topic in (topics.labels, topics.exposure)
        )
    small = evaluated(message, size=(12, 20))
    assert (labels == small.labels.repeat(2, 0).repeat(2, 1)).all()
    assert (exposure == small.exposure.repeat(2, 0).repeat(2, 1)).all()


def test_frames_without_masks_are_left_out(tmp_path: Path, drive: Path) -> None:
    with open_bag(drive) as bag, mask_bag(tmp_path / 'out', bag, [FRONT]) as masks:
        message = next(bag.messages([FRONT]))
        frame = EvaluatedFrame(0, 0, evaluated(message).image, None, None, None, None, None)
        masks.write(FRONT, message, frame)
    assert contents(tmp_path / 'out') == contents(drive)


def test_what_cannot_be_copied_is_said(tmp_path: Path, drive: Path) -> None:
    with sqlite3.connect(drive / 'drive.db3') as database:
        database.execute('DROP TABLE message_definitions')
        database.execute("UPDATE topics SET type_description_hash = ''")
        database.execute(
            'UPDATE topics SET name = ? WHERE name = ?', ('/night_seg/exposure/mask', LEFT)
        )
    assert write_masks(tmp_path / 'out', drive, [FRONT]) == [
        '/night_seg/exposure/mask of the input gives way to the new masks',
        f'10 messages of {SPEED} are not in the new bag: how {CUSTOM} is defined is not known',
    ]
    found = contents(tmp_path / 'out')
    assert {topic for topic, *_ in found} == {FRONT, IMU, *MaskTopics.of('').all}
    assert len([m for m in found if m[0] == '/night_seg/exposure/mask']) == 10


def test_the_hash_of_a_type_is_worked_out_from_its_definition(tmp_path: Path, drive: Path) -> None:
    write_masks(tmp_path / 'first', drive, [FRONT])  # rosbags' mcap holds definitions, no hashes
    lone = tmp_path / 'lone.mcap'
    shutil.copy(tmp_path / 'first' / 'first.mcap', lone)
    problems = write_masks(tmp_path / 'second', lone, [FRONT])
    assert len(problems) == 4  # the masks of the first
    with Reader(tmp_path / 'second') as second, Reader(drive) as before:
        digests = {c.topic: c.digest for c in second.connections}
        assert all(digests[c.topic] == c.digest for c in before.connections)


def test_an_earlier_output_stays_until_the_new_one_is_complete(tmp_path: Path, drive: Path) -> None:
    write_masks(tmp_path / 'out', drive, [FRONT])
    before = contents(tmp_path / 'out')
    with (
        pytest.raises(KeyboardInterrupt),
        open_bag(drive) as bag,
        mask_bag(tmp_path / 'out', bag, [FRONT]),
    ):
        raise KeyboardInterrupt
    assert contents(tmp_path / 'out') == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['drive', 'out']
    write_masks(tmp_path / 'out', drive, [FRONT, LEFT])
    assert len(contents(tmp_path / 'out')) == len(before) + 40


@pytest.mark.parametrize('handled', [True, False])
def test_a_full_disk_leaves_an_earlier_output_alone(
    tmp_path: Path, drive: Path, monkeypatch: pytest.MonkeyPatch, handled: bool
) -> None:
    """Whether or not the evaluation goes on after the error: half a message may be in the bag."""
    write_masks(tmp_path / 'out', drive, [FRONT])
    before = contents(tmp_path / 'out')
    with (
        pytest.raises(BagError, match='the disk is full: .*out was not written; free space'),
        open_bag(drive) as bag,
        mask_bag(tmp_path / 'out', bag, [FRONT]) as masks,
    ):
        messages = list(bag.messages([FRONT]))
        masks.write(FRONT, messages[0], evaluated(messages[0]))
        with monkeypatch.context() as patch:
            patch.setattr(Writer, 'write', _full)
            try:
                masks.write(FRONT, messages[1], evaluated(messages[1]))
            except OSError:
                if not handled:
                    raise
    assert contents(tmp_path / 'out') == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['drive', 'out']


def _full(*_) -> None:
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('output', ['drive', 'drive/masks', '.'])
def test_the_input_is_never_replaced(
    tmp_path: Path, drive: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'metadata.yaml').touch()  # as if '.' were a bag
    digest = hashlib.md5((drive / 'drive.db3').read_bytes()).digest()
    with pytest.raises(BagError, match='choose another output'):
        write_masks(Path(output), Path('drive'), [FRONT])
    assert hashlib.md5((drive / 'drive.db3').read_bytes()).digest() == digest


def test_topics_are_those_of_the_node() -> None:
    assert MaskTopics.of('').all == (
        '/night_seg/semantic/mask',
        '/night_seg/semantic/confidence',
        '/night_seg/exposure/mask',
        '/night_seg/semantic/overlay/compressed',
    )
    assert MaskTopics.of('front').labels == '/night_seg/front/semantic/mask'


@pytest.mark.parametrize(
    ('topics', 'names'),
    [
        (['/front/image_raw'], ['']),
        (['/front/image_raw', '/left/image_raw'], ['front', 'left']),
        (['/cameras/front/image', '/cameras/left/image'], ['front', 'left']),
        (['/image_raw', '/front/image_raw'], ['image_raw', 'front']),
        (
            ['/cam/image_raw', '/cam/image_raw/compressed'],
            ['cam_image_raw', 'cam_image_raw_compressed'],
        ),
        (['/a/x', '/a/y', '/b/x'], ['a_x', 'a_y', 'b_x']),
        (['/front-left/i', '/right/i'], ['front_left', 'right']),
        ([], []),
    ],
)
def test_cameras_are_named_by_what_tells_them_apart(topics: list[str], names: list[str]) -> None:
    assert camera_names(topics) == dict(zip(topics, names, strict=True))
