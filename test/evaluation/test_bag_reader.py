from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from mcap.writer import CompressionType
from mcap.writer import IndexType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat
from rosbags.rosbag2 import CompressionMode
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores
from rosbags.typesys import get_types_from_msg
from rosbags.typesys import get_typestore

from nightseg_ros.evaluation.bag_reader import BagMessage
from nightseg_ros.evaluation.bag_reader import deserialize
from nightseg_ros.evaluation.bag_reader import find_bags
from nightseg_ros.evaluation.bag_reader import find_topics
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.bags import COMPRESSED_IMAGE
from nightseg_ros.evaluation.bags import IMAGE
from nightseg_ros.evaluation.bags import TYPESTORE
from nightseg_ros.evaluation.bags import BagError

CAMERA, TEXT, THING = '/camera/image_raw', '/text', '/thing'
STRING = 'std_msgs/msg/String'
UNKNOWN = 'my_msgs/msg/Thing'

Written = list[tuple[str, int, bytes]]
"""Topic, time and content."""


def header(time_ns: int):
    types = TYPESTORE.types
    stamp = types['builtin_interfaces/msg/Time'](*divmod(time_ns, 10**9))
    return types['std_msgs/msg/Header'](stamp=stamp, frame_id='camera')


def image(time_ns: int, height: int = 24, width: int = 40) -> bytes:
    """Return an image whose pixels follow from its time: a wrong one shows."""
    pixels = np.random.default_rng(time_ns).integers(0, 256, height * width * 3, np.uint8)
    message = TYPESTORE.types[IMAGE](header(time_ns), height, width, 'rgb8', 0, width * 3, pixels)
    return bytes(TYPESTORE.serialize_cdr(message, IMAGE))


def messages(count: int = 12, first_ns: int = 10**9) -> Written:
    """Return images, texts and things of an unknown type in turn."""
    contents: Written = []
    for index in range(count):
        time_ns = first_ns + index * 10**8
        text = TYPESTORE.serialize_cdr(TYPESTORE.types[STRING](f'text {index}'), STRING)
        contents.append((CAMERA, time_ns, image(time_ns)))
        contents.append((TEXT, time_ns + 1, bytes(text)))
        contents.append((THING, time_ns + 2, b'\0\1\0\0' + bytes([index])))
    return contents


def write(
    path: Path,
    contents: Written,
    storage: str = 'mcap',
    compression: CompressionMode = CompressionMode.NONE,
    version=8,
) -> Path:
    plugin = StoragePlugin.MCAP if storage == 'mcap' else StoragePlugin.SQLITE3
    writer = Writer(path, version=version, storage_plugin=plugin)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        topics = {
            CAMERA: writer.add_connection(CAMERA, IMAGE, typestore=TYPESTORE),
            TEXT: writer.add_connection(TEXT, STRING, typestore=TYPESTORE),
            # No parser of definitions gets through this one.
            THING: writer.add_connection(THING, UNKNOWN, msgdef='int32 <<<', rihs01='RIHS01_0'),
        }
        for topic, time_ns, content in contents:
            writer.write(topics[topic], time_ns, content)
    return path


def write_mcap(path: Path, contents: Written, **options) -> Path:
    """Write a lone file as other recorders do."""
    with path.open('wb') as stream:
        writer = McapWriter(stream, chunk_size=10_000, **options)
        writer.start(profile='', library='test')
        channels = {}
        for topic, kind in ((CAMERA, IMAGE), (TEXT, STRING), (THING, UNKNOWN)):
            schema = writer.register_schema(kind, 'ros2msg', b'')
            channels[topic] = writer.register_channel(topic, 'cdr', schema)
        for topic, time_ns, content in contents:
            writer.add_message(channels[topic], time_ns, content, time_ns)
        writer.finish()
    return path


def read(path: Path, topics: tuple[str, ...] = ()) -> tuple[Written, list[str]]:
    with open_bag(path) as bag:
        found = [(m.topic, m.time_ns, bytes(m.content)) for m in bag.messages(topics)]
    return found, bag.problems


def state(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path): (hashlib.md5(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob('*')
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Give temporary files a place of their own; none may be left there."""
    folder = tmp_path_factory.mktemp('temporary')
    monkeypatch.setattr('tempfile.tempdir', str(folder))
    yield folder
    assert list(folder.iterdir()) == []


# Whole bags


@pytest.mark.parametrize('version', [8, 9])
@pytest.mark.parametrize(
    ('storage', 'compression'),
    [
        ('mcap', CompressionMode.NONE),
        ('mcap', CompressionMode.STORAGE),
        ('mcap', CompressionMode.MESSAGE),
        ('mcap', CompressionMode.FILE),
        ('sqlite3', CompressionMode.NONE),
        ('sqlite3', CompressionMode.MESSAGE),
        ('sqlite3', CompressionMode.FILE),
    ],
)
def test_every_storage_and_compression_gives_what_was_written(
    tmp_path: Path, storage: str, compression: CompressionMode, version: int
) -> None:
    written = messages()
    path = write(tmp_path / 'bag', written, storage, compression, version)
    before = state(tmp_path)
    with open_bag(path) as bag:
        assert (bag.storage, bag.ros_distro, bag.path) == (storage, 'rosbags', path)
        assert [(t.name, t.type, t.count) for t in bag.topics] == [
            (CAMERA, IMAGE, 12),
            (TEXT, STRING, 12),
            (THING, UNKNOWN, 12),
        ]
        assert (bag.start_ns, bag.end_ns) == (written[0][1], written[-1][1])
    assert read(path) == (written, [])
    assert read(path, (CAMERA,)) == (written[::3], [])
    assert state(tmp_path) == before
    (file,) = (p for p in path.iterdir() if p.name != 'metadata.yaml')
    assert read(file) == (written, [])  # alone


def test_images_are_deserialized_without_a_copy(tmp_path: Path) -> None:
    with open_bag(write(tmp_path / 'bag', messages(1))) as bag:
        (message,) = bag.messages([CAMERA])
        content = deserialize(message)
    assert (content.height, content.width, content.header.frame_id) == (24, 40, 'camera')
    assert np.shares_memory(content.data, np.frombuffer(message.content, np.uint8))


def test_iterations_do_not_disturb_each_other(tmp_path: Path) -> None:
    written = messages()
    for storage in ('mcap', 'sqlite3'):
        with open_bag(write(tmp_path / storage, written, storage)) as bag:
            both = list(zip(bag.messages(), bag.messages(), strict=True))
            assert len(both) == len(written)
            assert all(bytes(a.content) == bytes(b.content) for a, b in both)
            next(bag.messages([TEXT]))  # left alone
            assert len(list(bag.messages([TEXT]))) == 12


@pytest.mark.parametrize(
    'options',
    [
        {'compression': CompressionType.LZ4},
        {'compression': CompressionType.ZSTD},
        {'compression': CompressionType.NONE, 'use_chunking': False},
        {'index_types': IndexType.NONE},
        {'index_types': IndexType.CHUNK, 'use_summary_offsets': False},
        {'use_statistics': False, 'repeat_channels': False, 'repeat_schemas': False},
    ],
)
def test_mcap_files_of_other_recorders_are_read(tmp_path: Path, options) -> None:
    written = messages()
    path = write_mcap(tmp_path / 'drive.mcap', written, **options)
    assert read(path) == (written, [])
    with open_bag(path) as bag:
        assert [t.count for t in bag.topics] == [12, 12, 12]
        assert (bag.start_ns, bag.end_ns) == (written[0][1], written[-1][1])


@pytest.mark.parametrize('chunked', [True, False])
def test_messages_come_in_order_of_time(tmp_path: Path, chunked: bool) -> None:
    written = messages(20)
    shuffled = [written[i] for i in np.random.default_rng(0).permutation(len(written))]
    path = write_mcap(tmp_path / 'drive.mcap', shuffled, use_chunking=chunked)
    assert read(path)[0] == written
    assert read(write(tmp_path / 'bag', shuffled, 'sqlite3'))[0] == written


def test_messages_of_one_time_keep_their_order(tmp_path: Path) -> None:
    written = [(TEXT, 10**9, bytes([0, 1, 0, 0, index])) for index in range(100)]
    for storage in ('mcap', 'sqlite3'):
        assert read(write(tmp_path / storage, written, storage)) == (written, [])


def test_what_else_is_in_an_mcap_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / 'drive.mcap'
    with path.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start()
        schemas = [
            writer.register_schema(IMAGE, 'ros2msg', b'not a definition \xff'),
            writer.register_schema('foxglove.RawImage', 'protobuf', b'\xff\xfe\x00'),
            writer.register_schema('pose', 'jsonschema', b'{'),
            0,
        ]
        encodings = ('cdr', 'protobuf', 'json', 'json')
        for index, (schema, encoding) in enumerate(zip(schemas, encodings, strict=True)):
            channel = writer.register_channel(f'/topic_{index}', encoding, schema)
            writer.add_message(channel, 10**9, image(10**9), 10**9)
        writer.add_attachment(1, 1, 'notes', 'text/plain', b'...')
        writer.finish()
    with open_bag(path) as bag:
        assert [(t.name, t.type) for t in bag.topics] == [
            ('/topic_0', IMAGE),
            ('/topic_1', 'foxglove.RawImage (protobuf)'),
            ('/topic_2', 'pose (json)'),
            ('/topic_3', 'unknown (json)'),
        ]
        found = list(bag.messages())
        assert deserialize(found[0]).width == 40
        for message in found[1:]:
            with pytest.raises(BagError, match=r'no complete .* \((protobuf|json)\)'):
                deserialize(message)


def test_bags_of_humble_and_older_are_read(tmp_path: Path) -> None:
    written = messages()
    path = write(tmp_path / 'bag', written, 'sqlite3')
    metadata = yaml.safe_load((path / 'metadata.yaml').read_text())
    information = metadata['rosbag2_bagfile_information']
    information['version'] = 5
    del information['custom_data'], information['ros_distro']
    for topic in information['topics_with_message_count']:
        del topic['topic_metadata']['type_description_hash']
    information['relative_file_paths'] = ['bag/bag.db3']
    (path / 'metadata.yaml').write_text(yaml.safe_dump(metadata))
    with sqlite3.connect(path / 'bag.db3') as database:
        for table in ('message_definitions', 'metadata', 'schema'):
            database.execute(f'DROP TABLE {table}')
        database.execute('ALTER TABLE topics DROP COLUMN type_description_hash')
    assert read(path) == (written, [])
    with sqlite3.connect(path / 'bag.db3') as database:  # Dashing
        database.execute('ALTER TABLE topics DROP COLUMN offered_qos_profiles')
    assert read(path) == (written, [])


def test_definitions_that_rosbag2_left_empty_do_not_matter(tmp_path: Path) -> None:
    path = write(tmp_path / 'bag', messages(), 'sqlite3')
    with sqlite3.connect(path / 'bag.db3') as database:
        database.execute("UPDATE message_definitions SET encoding = ''")
    assert read(path) == (messages(), [])


def test_memory_does_not_grow_with_the_bag(tmp_path: Path) -> None:
    contents = [(CAMERA, index, image(index, 100, 334)) for index in range(1, 200)]
    for storage in ('mcap', 'sqlite3'):
        path = write(tmp_path / storage, contents, storage)
        tracemalloc.start()
        with open_bag(path) as bag:
            assert sum(1 for _ in bag.messages()) == 199
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 5e6  # of 20e6


# Split bags


def split(path: Path, storage: str, compression: CompressionMode = CompressionMode.NONE) -> Path:
    """Write a bag of three files; files of the later two begin 1 and 2 s after the first."""
    names = []
    for number in range(3):
        part = write(
            path.parent / f'part_{number}', messages(8, (number + 1) * 10**9), storage, compression
        )
        (file,) = (p for p in part.iterdir() if p.name != 'metadata.yaml')
        suffix = file.name.partition('.')[2]
        names.append(f'{path.name}_{number}.{suffix}')
        path.mkdir(exist_ok=True)
        file.rename(path / names[-1])
    metadata = yaml.safe_load((part / 'metadata.yaml').read_text())
    metadata['rosbag2_bagfile_information']['relative_file_paths'] = names
    (path / 'metadata.yaml').write_text(yaml.safe_dump(metadata))
    return path


PARTS = [messages(8, (number + 1) * 10**9) for number in range(3)]


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('compression', [CompressionMode.NONE, CompressionMode.FILE])
def test_the_files_of_a_split_bag_are_one(
    tmp_path: Path, storage: str, compression: CompressionMode
) -> None:
    path = split(tmp_path / 'bag', storage, compression)
    assert read(path) == (sum(PARTS, []), [])
    with open_bag(path) as bag:
        assert [t.count for t in bag.topics] == [24, 24, 24]
        assert (bag.start_ns, bag.end_ns) == (PARTS[0][0][1], PARTS[2][-1][1])


@pytest.mark.parametrize(
    ('damage', 'problem'),
    [
        (lambda file: file.unlink(), 'bag_1.mcap is missing: its messages are lost'),
        (lambda file: file.write_bytes(b''), 'bag_1.mcap is empty'),
        (lambda file: file.write_bytes(b'nonsense'), 'bag_1.mcap is no MCAP, SQLite or ROS 1 file'),
        (
            lambda file: file.write_bytes(file.read_bytes()[:100]),
            'bag_1.mcap breaks off before its first message',
        ),
    ],
)
def test_the_other_files_of_a_split_bag_are_read(
    tmp_path: Path, damage: Callable[[Path], None], problem: str
) -> None:
    path = split(tmp_path / 'bag', 'mcap')
    damage(path / 'bag_1.mcap')
    assert read(path) == (PARTS[0] + PARTS[2], [problem])


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        (None, 'metadata.yaml: No such file'),
        ('', 'metadata.yaml: does not list the files'),
        ('rosbag2_bagfile_information: 3', 'metadata.yaml: does not list the files'),
        ('rosbag2_bagfile_information: {relative_file_paths: []}', 'metadata.yaml: lists no files'),
        ('rosbag2_bagfile_information: {relative_file_paths: [3]}', 'metadata.yaml: does not list'),
        ('rosbag2_bagfile_information:\n  - [', 'metadata.yaml: '),
        ('\x00\x01', 'metadata.yaml: '),
        ('!!python/object/apply:os.system ["touch /tmp/unsafe"]', 'metadata.yaml: could not'),
    ],
)
def test_without_metadata_the_files_of_the_folder_are_read(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    path = split(tmp_path / 'bag', 'sqlite3')
    (path / 'bag_2.db3').rename(path / 'bag_10.db3')  # after 9, not before
    (path / 'metadata.yaml').unlink()
    if content is not None:
        (path / 'metadata.yaml').write_text(content)
    found, problems = read(path)
    assert found == sum(PARTS, [])
    assert len(problems) == 1
    assert problems[0].startswith(problem)
    assert problems[0].endswith('files read instead: bag_0.db3, bag_1.db3, bag_10.db3')


def test_files_that_were_renamed_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / 'bag', messages())
    (path / 'bag.mcap').rename(path / 'other.mcap')
    assert read(path) == (messages(), [])


# Damage


MCAP_VARIANTS = {
    'rosbag2': lambda path, contents: write(path, contents) / f'{path.name}.mcap',
    'zstd': lambda path, contents: write_mcap(path, contents, compression=CompressionType.ZSTD),
    'lz4': lambda path, contents: write_mcap(path, contents, compression=CompressionType.LZ4),
    'none': lambda path, contents: write_mcap(path, contents, compression=CompressionType.NONE),
    'unchunked': lambda path, contents: write_mcap(path, contents, use_chunking=False),
}


@pytest.fixture(scope='module', params=[*MCAP_VARIANTS, 'sqlite3'])
def whole_file(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file that holds :func:`messages`."""
    folder = tmp_path_factory.mktemp('file')
    if request.param == 'sqlite3':
        return write(folder / 'bag', messages(), 'sqlite3') / 'bag.db3'
    return MCAP_VARIANTS[request.param](folder / 'bag', messages())


def cuts(size: int) -> list[int]:
    """Return sizes of a file that was cut off, rising; none lies at the end of a page."""
    return sorted({*range(1, size, size // 20 + 1), 15, 16, 100, 5000, size - 9, size - 1})


def test_of_a_file_that_was_cut_off_all_that_is_there_is_read(
    tmp_path: Path, whole_file: Path
) -> None:
    content = whole_file.read_bytes()
    path = tmp_path / 'bag'
    written = messages()
    counts = []
    for size in cuts(len(content)):
        path.write_bytes(content[:size])
        try:
            found, problems = read(path)
        except BagError:
            counts.append(0)
            continue
        counts.append(len(found))
        assert found == [message for message in written if message in found]
        assert problems or found == written
    assert counts == sorted(counts)
    assert counts[-1] >= len(written) - 3  # so many lie on the last page of the database
    assert len(set(counts)) > 3


def test_how_far_a_file_that_was_cut_off_was_read_is_said(tmp_path: Path) -> None:
    for storage, file in (('mcap', 'mcap.mcap'), ('sqlite3', 'sqlite3.db3')):
        path = write(tmp_path / storage, messages(20), storage)
        os.truncate(path / file, (path / file).stat().st_size // 2)
        found, problems = read(path)
        seconds = (found[-1][1] - found[0][1]) / 1e9
        assert len(problems) == 1
        assert problems[0].startswith(file)
        assert f'{len(found)} messages' in problems[0]
        assert f'{seconds:.1f} s after the first' in problems[0]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_overwritten_files_never_surprise(
    tmp_path: Path, whole_file: Path, data: st.DataObject
) -> None:
    content = whole_file.read_bytes()
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(content) - 1))
        garbage = data.draw(
            st.sampled_from([b'\0' * 4096, b'\xff' * 8, b'\x05'])
            | st.binary(min_size=1, max_size=64)
        )
        damaged[begin : begin + len(garbage)] = garbage
    path = tmp_path / 'bag'
    path.write_bytes(damaged)
    try:
        with open_bag(path) as bag:
            for message in bag.messages():
                if message.topic == CAMERA:
                    try:
                        deserialize(message)
                    except BagError:
                        continue
            assert isinstance(bag.problems, list)
    except BagError:
        pass


@pytest.mark.parametrize('indexed', [True, False])
def test_a_damaged_chunk_costs_no_other(tmp_path: Path, indexed: bool) -> None:
    options = {} if indexed else {'index_types': IndexType.NONE}
    written = messages(40)
    path = write_mcap(tmp_path / 'bag.mcap', written, compression=CompressionType.NONE, **options)
    content = bytearray(path.read_bytes())
    middle = content.index(written[60][2][-100:])
    content[middle] ^= 1
    path.write_bytes(content)
    found, problems = read(path)
    assert found == [message for message in written if message in found]
    assert 90 < len(found) < 120
    assert found[-1] == written[-1]
    assert len(problems) == 1
    assert 'bag.mcap has damaged chunks (1; wrong checksum), the first about ' in problems[0]


def test_a_file_that_goes_away_ends_the_reading(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / 'bag.mcap', messages())
    with open_bag(path) as bag:
        path.unlink()
        assert list(bag.messages()) == []
        assert bag.problems == ['bag.mcap cannot be read to its end: No such file or directory']


def test_damaged_rows_cost_no_other(tmp_path: Path) -> None:
    written = messages(40)
    file = write(tmp_path / 'bag', written, 'sqlite3') / 'bag.db3'
    content = bytearray(file.read_bytes())
    middle = content.index(written[60][2][500:600])
    page = middle - middle % 4096
    content[page : page + 4096] = bytes(4096)
    file.write_bytes(content)
    found, problems = read(tmp_path / 'bag')
    assert found == [message for message in written if message in found]
    assert 100 < len(found) < 120
    assert len(problems) == 1
    assert problems[0].startswith('bag.db3 is damaged: ')


def test_a_recording_that_broke_off_with_a_write_ahead_log_is_read(tmp_path: Path) -> None:
    written = messages()
    path = write(tmp_path / 'whole', written[:6], 'sqlite3')
    database = sqlite3.connect(path / 'whole.db3')
    database.execute('PRAGMA journal_mode = WAL')
    topics = {CAMERA: 1, TEXT: 2, THING: 3}
    for topic, time_ns, content in written[6:]:
        database.execute(
            'INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)',
            (topics[topic], time_ns, content),
        )
    database.commit()
    crashed = tmp_path / 'crashed'
    crashed.mkdir()
    for name in ('whole.db3', 'whole.db3-wal'):
        shutil.copy(path / name, crashed / name)
    database.close()
    before = state(crashed)
    found, problems = read(crashed)
    assert found == written
    assert [problem.partition(':')[0] for problem in problems] == ['metadata.yaml']
    assert state(crashed) == before


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_compressed_file_that_was_cut_off_is_read_as_far_as_it_goes(
    tmp_path: Path, storage: str
) -> None:
    path = write(tmp_path / 'bag', messages(60), storage, CompressionMode.FILE)
    (file,) = path.glob('bag.*.zstd')
    os.truncate(file, file.stat().st_size * 3 // 4)
    found, problems = read(path)
    assert found == [message for message in messages(60) if message in found]
    assert 0 < len(found) < 180
    assert len(problems) == 2
    assert problems[0] == f'{file.name} breaks off: what decompressed of it is read'
    assert problems[1].startswith(f'{file.name} ')


def test_a_compressed_message_that_is_damaged_is_empty(tmp_path: Path) -> None:
    path = write(tmp_path / 'bag', messages(3), 'sqlite3', CompressionMode.MESSAGE)
    with sqlite3.connect(path / 'bag.db3') as database:
        database.execute('UPDATE messages SET data = substr(data, 1, 50) WHERE id = 1')
    with open_bag(path) as bag:
        first, *others = bag.messages([CAMERA])
    assert first.content == b''
    assert [bytes(m.content) for m in others] == [m[2] for m in messages(3)[3::3]]
    with pytest.raises(BagError, match=r'/camera/image_raw is no complete sensor_msgs/msg/Image'):
        deserialize(first)


@pytest.mark.parametrize('size', [0, 3, 4, 12, 30, 60, 1000])
def test_a_message_that_breaks_off_is_refused(size: int) -> None:
    content = image(10**9)[:size]
    with pytest.raises(BagError, match='is no complete sensor_msgs/msg/Image'):
        deserialize(BagMessage(CAMERA, IMAGE, 0, content))


def test_a_full_disk_while_decompressing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / 'bag', messages(), compression=CompressionMode.FILE)

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('nightseg_ros.evaluation.bag_reader.decompress', full)
    with pytest.raises(BagError, match='does not fit into .*: free space there, or set TMPDIR'):
        read(path)


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('nowhere', None, 'nowhere does not exist'),
        ('folder', (), r'folder cannot be read as a bag \(metadata.yaml: No such file'),
        ('a.mcap', b'', r'a.mcap is empty\): give a rosbag2 folder'),
        ('a.mcap', b'text', r'a.mcap is no MCAP, SQLite or ROS 1 file\)'),
        ('a.db3', b'SQLite format 3\0' + bytes(200), r'a.db3 (cannot be read|is an SQLite)'),
    ],
)
def test_what_cannot_be_read_at_all_is_refused(
    tmp_path: Path, name: str, content, message: str
) -> None:
    path = tmp_path / name
    if content == ():
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(BagError, match=message):
        read(path)


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / 'a.db3') as database:
        database.execute('CREATE TABLE photos (id INTEGER PRIMARY KEY)')
    with pytest.raises(BagError, match='holds no messages of rosbag2'):
        read(tmp_path / 'a.db3')


# ROS 1


NOETIC = get_typestore(Stores.ROS1_NOETIC)
CUSTOM = 'my_msgs/msg/Speed'
MARKER = 'visualization_msgs/msg/Marker'
NOETIC.register(get_types_from_msg('std_msgs/Header header\nfloat32 speed', CUSTOM))


def write_ros1(path: Path, compression: Ros1Writer.CompressionFormat | None = None) -> Path:
    types = NOETIC.types
    writer = Ros1Writer(path)
    writer.chunk_threshold = 10_000
    if compression:
        writer.set_compression(compression)
    with writer:
        names = {IMAGE: 'camera/image_raw', COMPRESSED_IMAGE: '/jpeg', CUSTOM: '/speed'}
        topics = {
            kind: writer.add_connection(name, kind, typestore=NOETIC)
            for kind, name in names.items()
        }
        marker = writer.add_connection('/marker', MARKER, typestore=NOETIC)
        writer.write(marker, 10**9, b'\0' * 200)
        for index in range(12):
            time_ns = 10**9 + index * 10**8
            stamp = types['builtin_interfaces/msg/Time'](*divmod(time_ns, 10**9))
            head = types['std_msgs/msg/Header'](seq=index, stamp=stamp, frame_id='camera')
            pixels = np.full(24 * 40 * 3, index, np.uint8)
            for message in (
                types[IMAGE](head, 24, 40, 'rgb8', 0, 120, pixels),
                types[COMPRESSED_IMAGE](head, 'jpeg', pixels[:100]),
                types[CUSTOM](head, 0.5),
            ):
                kind = message.__msgtype__
                writer.write(topics[kind], time_ns, NOETIC.serialize_ros1(message, kind))
    return path


@pytest.mark.parametrize('compression', [None, *Ros1Writer.CompressionFormat])
def test_ros_1_bags_are_read_as_if_ros_2_had_written_them(tmp_path: Path, compression) -> None:
    with open_bag(write_ros1(tmp_path / 'drive.bag', compression)) as bag:
        assert bag.storage == 'ros1'
        assert [(t.name, t.type, t.count) for t in bag.topics] == [
            ('/camera/image_raw', IMAGE, 12),
            ('/jpeg', COMPRESSED_IMAGE, 12),
            ('/marker', f'{MARKER} (ros1)', 1),  # has other fields in ROS 2
            ('/speed', CUSTOM, 12),
        ]
        images = [deserialize(message) for message in bag.messages(['/camera/image_raw'])]
        assert [i.header.stamp.nanosec // 10**8 for i in images] == [*range(10), 0, 1]
        assert [i.data.max() for i in images] == list(range(12))
        jpeg = deserialize(next(bag.messages(['/jpeg'])))
        assert (jpeg.format, jpeg.data.size, jpeg.header.frame_id) == ('jpeg', 100, 'camera')
        times = [message.time_ns for message in bag.messages()]
        assert times == sorted(times)
        assert len(times) == 37
        assert (bag.start_ns, bag.end_ns) == (times[0], times[-1])
        assert bag.problems == []


def test_ros_1_messages_in_mcap_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / 'drive.mcap'
    message = NOETIC.types[IMAGE](
        NOETIC.types['std_msgs/msg/Header'](
            1, NOETIC.types['builtin_interfaces/msg/Time'](3, 4), 'front'
        ),
        *(2, 2, 'mono8', 0, 2),
        np.arange(4, dtype=np.uint8),
    )
    definition, _ = NOETIC.generate_msgdef(IMAGE)
    with path.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start('ros1')
        schema = writer.register_schema('sensor_msgs/Image', 'ros1msg', definition.encode())
        channel = writer.register_channel('/front', 'ros1', schema)
        content = bytes(NOETIC.serialize_ros1(message, IMAGE))
        writer.add_message(channel, 1, content, 1)
        writer.add_message(channel, 2, content[:-1], 2)
        writer.finish()
    with open_bag(path) as bag:
        whole, short = bag.messages()
    assert (whole.type, short.content) == (IMAGE, b'')
    assert deserialize(whole).data.tolist() == [0, 1, 2, 3]


def test_a_ros_1_bag_without_an_index_says_how_to_repair_it(tmp_path: Path) -> None:
    path = write_ros1(tmp_path / 'drive.bag')
    content = path.read_bytes()
    for size in (20, 5000, len(content) - 100):
        path.write_bytes(content[:size])
        with pytest.raises(BagError, match='rosbag reindex drive.bag'):
            read(path)


def test_a_damaged_chunk_of_ros_1_costs_no_other(tmp_path: Path) -> None:
    path = write_ros1(tmp_path / 'drive.bag', Ros1Writer.CompressionFormat.BZ2)
    content = bytearray(path.read_bytes())
    chunks = [i for i in range(len(content)) if content.startswith(b'BZh9', i)]
    content[chunks[2] + 60] ^= 255
    path.write_bytes(content)
    found, problems = read(path, ('/speed',))
    times = [time_ns for _, time_ns, _ in found]
    assert 6 < len(times) < 12
    assert times[-1] == 2_100_000_000
    assert times == sorted(set(times))
    assert len(problems) == 1
    assert 'drive.bag is damaged' in problems[0]


# Finding


@pytest.fixture
def cameras(tmp_path: Path) -> Path:
    with Writer(tmp_path / 'bag', version=8) as writer:
        for topic in ('/cam_1/image_raw', '/cam_2/image_raw', '/labels'):
            writer.add_connection(topic, IMAGE, typestore=TYPESTORE)
        writer.add_connection(TEXT, STRING, typestore=TYPESTORE)
        writer.add_connection('/jpeg', COMPRESSED_IMAGE, typestore=TYPESTORE)
    return tmp_path / 'bag'


@pytest.mark.parametrize(
    ('patterns', 'expected'),
    [
        (['/cam_1/image_raw'], ['/cam_1/image_raw']),
        (['/cam_*/image_raw'], ['/cam_1/image_raw', '/cam_2/image_raw']),
        (['/cam_2*', '*'], ['/cam_2/image_raw', '/cam_1/image_raw']),
        (['/labels'], ['/labels']),
    ],
)
def test_topics_are_found_by_name_or_pattern(
    cameras: Path, patterns: list[str], expected: list[str]
) -> None:
    with open_bag(cameras) as bag:
        found = find_topics(bag, patterns, (IMAGE,), besides=['/labels'])
    assert [topic.name for topic in found] == expected


def test_the_only_topic_needs_no_name(cameras: Path) -> None:
    with open_bag(cameras) as bag:
        assert [t.name for t in find_topics(bag, [], (COMPRESSED_IMAGE,))] == ['/jpeg']
        with pytest.raises(BagError, match='has 3 topics of type Image: name those to use; its'):
            find_topics(bag, [], (IMAGE,))


@pytest.mark.parametrize('pattern', ['/front', '/text', '/front*'])
def test_a_topic_that_is_not_there_lists_those_that_are(cameras: Path, pattern: str) -> None:
    listed = r'/cam_1/image_raw \(sensor_msgs/msg/Image\), .*, /text \(std_msgs/msg/String\)'
    with (
        open_bag(cameras) as bag,
        pytest.raises(BagError, match=rf'of type Image.*; its topics: {listed}') as error,
    ):
        find_topics(bag, [pattern], (IMAGE, COMPRESSED_IMAGE))
    assert f"no topic '{pattern}'" in str(error.value)


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of bags of all kinds, which is the home and the current folder too."""
    fleet = tmp_path / 'fleet'
    for name in ('car_10', 'car_2', 'deep/er/car_1'):
        (fleet / name).parent.mkdir(parents=True, exist_ok=True)
        write(fleet / name, messages(1))
    (fleet / 'deep' / 'metadata.yaml').write_text('about: something else')
    for name in ('lone.mcap', 'deep/lone.db3.zstd', 'ros1.bag', 'notes.txt', '.draft/x.mcap'):
        (fleet / name).parent.mkdir(exist_ok=True)
        (fleet / name).touch()
    shutil.copytree(fleet / 'car_2', fleet / 'crashed')
    (fleet / 'crashed' / 'metadata.yaml').unlink()
    (fleet / 'crashed' / 'car_2.mcap').rename(fleet / 'crashed' / 'crashed_0.mcap')
    monkeypatch.setenv('HOME', str(fleet))
    monkeypatch.chdir(fleet)
    return fleet


ALL = [
    'car_2', 'car_10', 'crashed', 'deep/er/car_1', 'deep/lone.db3.zstd', 'lone.mcap', 'ros1.bag',
]  # fmt: skip


@pytest.mark.parametrize(
    ('patterns', 'expected'),
    [
        (['car_2'], ['car_2']),
        (['car_*'], ['car_2', 'car_10']),
        (['car_*', 'car_2', './car_10'], ['car_2', 'car_10']),
        (['~'], ALL),
        (['~/**'], ALL),
        (['**/*.mcap', 'deep/*'], ['deep/er/car_1', 'deep/lone.db3.zstd', 'lone.mcap']),
        (['lone.mcap', 'notes.txt'], ['lone.mcap', 'notes.txt']),  # what is named is tried
    ],
)
def test_bags_are_found(fleet: Path, patterns: list[str], expected: list[str]) -> None:
    found = [str(path.resolve().relative_to(fleet)) for path in find_bags(patterns)]
    if patterns[0] == '**/*.mcap':  # files of bags are bags when asked for
        found = [path for path in found if not path.endswith(('car_1.mcap', 'car_2.mcap'))]
        found = [path for path in found if not path.endswith(('car_10.mcap', 'crashed_0.mcap'))]
    assert found == expected


@pytest.mark.parametrize('pattern', ['nowhere', 'nowhere/*', '*.txt', 'deep/e'])
def test_a_pattern_without_bags_is_named(fleet: Path, pattern: str) -> None:
    (fleet / 'deep' / 'e').mkdir()
    with pytest.raises(BagError, match=r'finds no bag: give rosbag2 folders'):
        find_bags(['car_2', pattern])
