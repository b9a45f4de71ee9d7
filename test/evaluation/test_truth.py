from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nightseg_ros.core import labels
from nightseg_ros.evaluation import bags
from nightseg_ros.evaluation.bags import COMPRESSED_IMAGE
from nightseg_ros.evaluation.bags import IMAGE
from nightseg_ros.evaluation.bags import TYPESTORE
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.truth import REORDERED
from nightseg_ros.evaluation.truth import TruthError
from nightseg_ros.evaluation.truth import TruthLabel
from nightseg_ros.evaluation.truth import match
from nightseg_ros.evaluation.truth import open_truth

TOPIC = '/front/labels'
START = 1_700_000_000_123_456_789


def mask_of(index: int, height: int = 12, width: int = 17) -> np.ndarray:
    """Return a mask of trainIds that shows which one it is."""
    mask = np.full((height, width), index % 19, np.uint8)
    mask[0, :4] = 0, 1, 18, 255
    return mask


def message_of(stamp_ns: int, pixels: np.ndarray, encoding: str = 'mono8', padding: int = 0) -> Any:
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    data = np.hstack([rows, np.full((len(rows), padding), 77, np.uint8)])
    return TYPESTORE.types[IMAGE](
        header=header_of(stamp_ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=data.shape[1],
        data=data.reshape(-1),
    )


def header_of(stamp_ns: int) -> Any:
    stamp = TYPESTORE.types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 1_000_000_000))
    return TYPESTORE.types['std_msgs/msg/Header'](stamp=stamp, frame_id='camera')


def compressed(stamp_ns: int, pixels: np.ndarray, suffix: str = '.png') -> Any:
    bgr = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return TYPESTORE.types[COMPRESSED_IMAGE](
        header=header_of(stamp_ns), format='png', data=cv2.imencode(suffix, bgr)[1].reshape(-1)
    )


def write_bag(path: Path, messages: Sequence[Any], times_ns: Sequence[int] = ()) -> Path:
    """Write messages of one type to `TOPIC`, each received when it was stamped unless told."""
    kind = COMPRESSED_IMAGE if hasattr(messages[0], 'format') else IMAGE
    with bags.new_bag(path) as bag:
        topic = bag.add_connection(TOPIC, kind, typestore=TYPESTORE)
        times = times_ns or [bags.stamp_ns(message) for message in messages]
        for time_ns, message in zip(times, messages, strict=True):
            bag.write(topic, time_ns, TYPESTORE.serialize_cdr(message, kind))
    return path


def open_folder(folder: Path):
    """Open a folder by its relative path, which no topic has: its bag is not looked at."""
    return open_truth(os.path.relpath(folder), Path('none'))


def read(truth) -> list:
    """Return stamp and mask of each label; the reason in place of one that was refused."""
    found = []
    with truth as opened:
        for label in opened.labels():
            try:
                found.append((label.stamp_ns, label.read()))
            except TruthError as error:
                found.append((label.stamp_ns, error.reason))
    return found


def assert_same(found: list, expected: Iterable[tuple[int, np.ndarray]]) -> None:
    for (stamp, mask), (expected_stamp, expected_mask) in zip(found, expected, strict=True):
        assert stamp == expected_stamp
        assert np.array_equal(mask, expected_mask)


def refusal(truth) -> str:
    with pytest.raises(TruthError) as caught, truth:
        pass
    return caught.value.reason


# A topic


ENCODED = {
    'mono8': lambda mask: mask,
    '8UC1': lambda mask: mask,
    'rgb8': labels.colorize,
    'bgr8': lambda mask: labels.colorize(mask)[..., ::-1],
    '8UC3': labels.colorize,
    'rgba8': lambda mask: np.dstack([labels.colorize(mask), mask]),
    'bgra8': lambda mask: np.dstack([labels.colorize(mask)[..., ::-1], mask]),
}


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', ENCODED)
def test_labels_of_a_topic_are_read_in_every_encoding(
    tmp_path: Path, encoding: str, padding: int
) -> None:
    moments = [(START + index * 10**8, mask_of(index)) for index in range(3)]
    pixels = ENCODED[encoding]
    bag = write_bag(
        tmp_path / 'bag', [message_of(s, pixels(mask), encoding, padding) for s, mask in moments]
    )
    with open_truth(TOPIC, bag) as truth:
        assert (truth.name, truth.assumed, truth.problems) == (TOPIC, False, [])
        colored = encoding not in ('mono8', '8UC1')
        assert truth.label_format == ('colors' if colored else 'trainIds')
    assert_same(read(open_truth(TOPIC, bag)), moments)


def test_8uc3_may_be_bgr_too(tmp_path: Path) -> None:
    swapped = labels.colorize(mask_of(3))[..., ::-1]
    bag = write_bag(tmp_path / 'bag', [message_of(START, swapped, '8UC3')])
    assert_same(read(open_truth(TOPIC, bag)), [(START, mask_of(3))])


@pytest.mark.parametrize('pixels_of', [lambda mask: mask, labels.colorize])
def test_png_messages_are_read(tmp_path: Path, pixels_of) -> None:
    moments = [(START + index, mask_of(index)) for index in range(3)]
    bag = write_bag(tmp_path / 'bag', [compressed(s, pixels_of(mask)) for s, mask in moments])
    assert_same(read(open_truth(TOPIC, bag)), moments)


def test_label_ids_are_recognised(tmp_path: Path) -> None:
    ids = labels.TRAIN_ID_TO_LABEL_ID[mask_of(3)]
    bag = write_bag(tmp_path / 'bag', [message_of(START, ids)])
    with open_truth(TOPIC, bag) as truth:
        assert (truth.label_format, truth.assumed) == ('labelIds', False)
    assert_same(read(open_truth(TOPIC, bag)), [(START, mask_of(3))])


def test_a_format_that_was_asked_for_is_not_questioned(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', [message_of(START, np.full((2, 3), 7, np.uint8))])
    with open_truth(TOPIC, bag) as truth:
        assert (truth.label_format, truth.assumed) == ('trainIds', True)
    with open_truth(TOPIC, bag, 'labelIds') as truth:
        assert (truth.label_format, truth.assumed) == ('labelIds', False)
    assert_same(read(open_truth(TOPIC, bag, 'labelIds')), [(START, np.zeros((2, 3), np.uint8))])


def test_a_label_that_contradicts_the_others_is_refused_and_they_are_not(tmp_path: Path) -> None:
    odd = [
        message_of(START + 1, np.full((4, 5), 30, np.uint8)),
        message_of(START + 2, labels.colorize(mask_of(2)), 'rgb8'),
        message_of(START + 3, mask_of(3), 'mono16'),
        replace(message_of(START + 4, mask_of(4)), step=3),
    ]
    # Behind the masks that the format is recognised from.
    usual = [message_of(START - 100 + index, mask_of(index)) for index in range(20)]
    found = read(open_truth(TOPIC, write_bag(tmp_path / 'bag', [*usual, *odd])))
    assert_same(found[:20], [(START - 100 + index, mask_of(index)) for index in range(20)])
    assert [reason for _, reason in found[20:]] == [
        'foreign_ids', 'encoding', 'encoding', 'bad_step',
    ]  # fmt: skip


def test_jpeg_messages_are_refused_before_any_work(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', [compressed(START, mask_of(0), '.jpg')])
    with (
        pytest.raises(TruthError, match=f'ground truth {TOPIC}: .* use PNG'),
        open_truth(TOPIC, bag),
    ):
        pass
    assert read(open_truth(TOPIC, bag, 'trainIds')) == [(START, 'jpeg')]


def test_a_damaged_message_is_refused_and_the_others_are_not(tmp_path: Path) -> None:
    whole = TYPESTORE.serialize_cdr(message_of(START, mask_of(0)), IMAGE)
    with bags.new_bag(tmp_path / 'bag') as bag:
        topic = bag.add_connection(TOPIC, IMAGE, typestore=TYPESTORE)
        bag.write(topic, START, whole)
        bag.write(topic, START + 5, whole[:60])
    found = read(open_truth(TOPIC, tmp_path / 'bag'))
    assert_same(found[:1], [(START, mask_of(0))])
    assert found[1:] == [(START + 5, 'damaged_message')]


def test_without_a_stamp_the_time_of_recording_counts(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', [message_of(0, mask_of(1))], times_ns=[START])
    assert_same(read(open_truth(TOPIC, bag)), [(START, mask_of(1))])


def test_an_empty_topic_has_no_labels(tmp_path: Path) -> None:
    with bags.new_bag(tmp_path / 'bag') as bag:
        bag.add_connection(TOPIC, IMAGE, typestore=TYPESTORE)
        other = bag.add_connection('/other', IMAGE, typestore=TYPESTORE)
        message = TYPESTORE.serialize_cdr(message_of(START, mask_of(0)), IMAGE)
        bag.write(other, START, message)
    assert read(open_truth(TOPIC, tmp_path / 'bag')) == []


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(REORDERED)), more=st.integers(0, 40))
def test_labels_come_in_the_order_of_their_stamps(tmp_path_factory, order, more: int) -> None:
    indices = [*order, *range(REORDERED, REORDERED + more)]
    bag = write_bag(
        tmp_path_factory.mktemp('order') / 'bag',
        [message_of(START + index, mask_of(index)) for index in indices],
        times_ns=[START + place for place in range(len(indices))],
    )
    assert_same(read(open_truth(TOPIC, bag)), [(START + i, mask_of(i)) for i in sorted(indices)])


def test_labels_whose_stamps_jump_back_are_counted_and_left_out(tmp_path: Path) -> None:
    loop = [*range(50), *range(50)]
    bag = write_bag(
        tmp_path / 'bag',
        [message_of(START + index, mask_of(index)) for index in loop],
        times_ns=[START + place for place in range(len(loop))],
    )
    with open_truth(TOPIC, bag) as truth:
        stamps = [label.stamp_ns - START for label in truth.labels()]
        assert stamps == sorted(stamps)
        assert set(stamps) == set(range(50))
        assert truth.problems == [
            f'{100 - len(stamps)} labels of {TOPIC} are not used: their stamps jump back, as if '
            'the drive was recorded twice.'
        ]


def test_a_topic_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', [message_of(START, mask_of(0))])
    with (
        pytest.raises(
            TruthError, match=rf"'/nowhere' is no topic .* {TOPIC} \(sensor_msgs/msg/Image\)"
        ),
        open_truth('/nowhere', bag),
    ):
        pass


def test_a_topic_of_another_type_is_refused(tmp_path: Path) -> None:
    with bags.new_bag(tmp_path / 'bag') as bag:
        text = bag.add_connection('/text', 'std_msgs/msg/String', typestore=TYPESTORE)
        bag.write(text, 1, b'\x00\x01\x00\x00\x01\x00\x00\x00\x00')
    assert refusal(open_truth('/text', tmp_path / 'bag')) == 'encoding'


def test_a_bag_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BagError, match='nowhere'), open_truth(TOPIC, tmp_path / 'nowhere'):
        pass


# A folder


def write_pngs(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / name), mask_of(index))
    return folder


@pytest.mark.parametrize(
    'names',
    [
        ['1700000000123456789.png', '1700000000223456789.png'],
        ['front_1700000000123456789.png', 'front_1700000000223456789.png'],
        ['000000_1700000000123456789.png', '000001_1700000000223456789.png'],
        ['front_cam_1700000000123456789.PNG', 'front_cam_1700000000223456789.png'],
        ['1700000000.123456789.png', '1700000000.223456789.png'],
        ['front_1700000000.123456789.png', 'front_1700000000.223456789.png'],
        ['1700000000_123456789.png', '1700000000_223456789.png'],
        ['front_1700000000_123456789.png', 'front_1700000000_223456789.png'],
    ],
)
def test_names_tell_stamps_to_the_nanosecond(tmp_path: Path, names: list[str]) -> None:
    write_pngs(tmp_path / 'truth', names)
    (tmp_path / 'truth' / 'README.txt').write_text('not a label')
    (tmp_path / 'truth' / '.thumbnail.png').write_bytes(b'neither')
    with open_folder(tmp_path / 'truth') as truth:
        assert (truth.name, truth.label_format) == ('truth', 'trainIds')
    assert_same(
        read(open_folder(tmp_path / 'truth')), [(START, mask_of(0)), (START + 10**8, mask_of(1))]
    )


@pytest.mark.parametrize(
    'names, stamps',
    [
        (['0.5.png', '1.25.png'], [500_000_000, 1_250_000_000]),
        (['0.png', '100000000.png', '1000000000.png'], [0, 100_000_000, 1_000_000_000]),
        (['12_5.png', '12_100000000.png'], [12_000_000_005, 12_100_000_000]),
        # By stamp, not by name.
        (['10.1.png', '9.2.png'], [9_200_000_000, 10_100_000_000]),
    ],
)
def test_stamps_of_a_clock_that_starts_at_zero(tmp_path: Path, names, stamps) -> None:
    assert [
        stamp for stamp, _ in read(open_folder(write_pngs(tmp_path / 'truth', names)))
    ] == stamps


@pytest.mark.parametrize(
    'names, example',
    [
        (['000001.png', '000002.png'], '000001.png'),  # numbers of frames
        (['0001TP_006690.png', '0001TP_006720.png'], '0001TP_006690.png'),
        (['seq_0001_000123.png', 'seq_0001_000124.png'], 'seq_0001_000123.png'),
        (['aachen_000000_000019_gtFine_labelIds.png'], 'labelIds.png'),
        (['1700000000123456789.png', 'legend.png'], '1 of 2 .*legend.png'),
        (['1700000000.1234567891.png'], '1700000000.1234567891.png'),
        (['１７０００００００００.png'], ''),  # digits, but not ASCII
    ],
)
def test_other_names_are_refused_with_an_example(tmp_path: Path, names, example: str) -> None:
    folder = write_pngs(tmp_path / 'truth', names)
    with (
        pytest.raises(TruthError, match=rf'{example}: name PNGs by their stamps .* stamps.csv'),
        open_folder(folder),
    ):
        pass


@pytest.mark.parametrize(
    'names, reason',
    [
        ([], 'missing'),
        (['1700000000123456789.jpg'], 'jpeg'),
        (['a_1700000000123456789.png', 'b_1700000000123456789.png'], 'duplicate'),
        ([f'{side}_{START + i}.png' for i, side in enumerate(['left', 'right', 'left'])], 'names'),
    ],
)
def test_folders_that_are_no_ground_truth(tmp_path: Path, names, reason: str) -> None:
    assert refusal(open_folder(write_pngs(tmp_path / 'truth', names))) == reason


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(TruthError, match="'labels' is no topic of the bag and no folder"),
        open_truth('labels', tmp_path),
    ):
        pass


def test_a_folder_may_be_given_by_its_whole_path(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', [message_of(START, mask_of(5))])
    folder = write_pngs(tmp_path / 'truth', [f'{START}.png'])
    assert_same(read(open_truth(str(folder), bag)), [(START, mask_of(0))])


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open('w', newline='') as stream:
        csv.writer(stream).writerows(rows)


@pytest.mark.parametrize('where', ['.', 'labels'])
def test_a_csv_tells_stamps(tmp_path: Path, where: str) -> None:
    write_pngs(tmp_path / 'labels', ['a.png', 'b.png', 'c.v2.png', 'unlisted.png'])
    (tmp_path / 'images').mkdir()
    header = ['stamp_ns', 'name', 'weather']
    rows = [[START + 9, 'a.png', 'rain'], [START + 3, 'b.jpg', ''], [START + 5, 'c.v2', '']]
    write_csv(tmp_path / where / 'stamps.csv', [header, *rows])
    assert_same(
        read(open_folder(tmp_path)),
        [(START + 3, mask_of(1)), (START + 5, mask_of(2)), (START + 9, mask_of(0))],
    )


@pytest.mark.parametrize(
    'rows, message',
    [
        ([['file', 'stamp_ns'], ['a.png', 5]], 'needs the columns name and stamp_ns'),
        ([], 'needs the columns'),
        ([['name', 'stamp_ns'], ['a.png', 5], ['b.png', '1.7e18']], "line 3: .*'1.7e18'"),
        ([['name', 'stamp_ns'], ['a.png']], 'line 2'),
        ([['name', 'stamp_ns'], ['a.png', 5], ['b.png', 5]], r'same stamp \(a.png, b.png\)'),
    ],
)
def test_a_csv_that_tells_no_stamps_is_refused(tmp_path: Path, rows, message: str) -> None:
    write_pngs(tmp_path, ['a.png', 'b.png'])
    write_csv(tmp_path / 'stamps.csv', rows)
    with pytest.raises(TruthError, match=message), open_folder(tmp_path):
        pass


def test_files_that_do_not_decode_or_are_gone_are_refused_when_read(tmp_path: Path) -> None:
    folder = write_pngs(tmp_path / 'truth', [f'{START + index}.png' for index in range(4)])
    with open_folder(folder) as truth:
        found = list(truth.labels())
        (folder / f'{START + 1}.png').unlink()
        (folder / f'{START + 2}.png').write_bytes(b'\xff\xd8\xff\xe0')
        assert np.array_equal(found[0].read(), mask_of(0))
        for label, reason in ((found[1], 'unreadable'), (found[2], 'jpeg')):
            with pytest.raises(TruthError, match=str(label.stamp_ns)) as caught:
                label.read()
            assert caught.value.reason == reason


def test_the_whole_folder_is_looked_at_for_the_format(tmp_path: Path) -> None:
    folder = tmp_path / 'truth'
    folder.mkdir()
    for index in range(200):  # roads and buildings first
        ids = np.full((4, 5), 7 if index < 150 else 26, np.uint8)
        cv2.imwrite(str(folder / f'{START + index}.png'), ids)
    with open_folder(folder) as truth:
        assert (truth.label_format, truth.assumed) == ('labelIds', False)


# Matching


def unread() -> np.ndarray:
    raise AssertionError('matching reads nothing')


def matched(images: Sequence[int], stamps: Sequence[int], tolerance: int) -> list:
    """Return for each image the index of its label, or None."""
    given_labels = [TruthLabel(stamp, unread) for stamp in stamps]
    places = {id(label): place for place, label in enumerate(given_labels)}
    items = list(enumerate(images))
    found = list(match(iter(items), lambda item: item[1], iter(given_labels), tolerance))
    assert [item for item, _ in found] == items
    return [None if label is None else places[id(label)] for _, label in found]


def matched_by_force(images: Sequence[int], stamps: Sequence[int], tolerance: int) -> list:
    wanted: dict[int, list[tuple[int, int]]] = {}
    for place, stamp in enumerate(stamps):
        # The earlier of two stamps, the last image of one stamp.
        ranked = [(abs(stamp - image), image, -index) for index, image in enumerate(images)]
        if ranked and min(ranked)[0] <= tolerance:
            distance, _, index = min(ranked)
            wanted.setdefault(-index, []).append((distance, place))
    return [min(wanted[i])[1] if i in wanted else None for i in range(len(images))]


@pytest.mark.parametrize(
    'images, stamps, tolerance, expected',
    [
        ([0, 100, 200], [0, 100, 200], 0, [0, 1, 2]),
        ([0, 100, 200], [100], 10, [None, 0, None]),
        ([0, 100, 200], [90, 110], 10, [None, 0, None]),  # the nearest; of two the earlier
        ([0, 100, 200], [88, 111], 10, [None, None, None]),
        ([0, 100], [50], 50, [0, None]),  # between two images
        ([0, 100], [51], 50, [None, 0]),
        ([0, 100], [-10, 110], 10, [0, 1]),
        ([0, 10, 20], [12], 100, [None, 0, None]),  # one label to one image
        ([5, 5, 9], [5], 0, [None, 0, None]),  # images of one stamp: the last
        ([5, 5, 9], [8], 5, [None, None, 0]),
        ([5], [5, 5, 5], 0, [0]),
        ([], [5], 0, []),
        ([5], [], 0, [None]),
        ([0, 10, 20, 0, 10, 20], [0, 10, 20], 1, [0, 1, 2, None, None, None]),  # a loop
        ([0, 10, 20, 0, 15, 25], [0, 10, 26], 1, [0, 1, None, None, None, 2]),
        ([0, 9000, 10, 20], [0, 10, 20], 1, [0, None, 1, 2]),  # a clock that stumbles
        ([50, 0, 60], [50, 60], 1, [0, None, 1]),
        ([0, 10, 8, 20], [0, 10, 20], 5, [0, 1, None, 2]),  # images out of order
        ([10, 8, 20], [5, 10], 3, [None, 0, None]),
    ],
)
def test_labels_find_their_images(images, stamps, tolerance: int, expected) -> None:
    assert matched(images, stamps, tolerance) == expected


few_stamps = st.lists(st.integers(0, 40), max_size=12)


@settings(max_examples=150)
@given(images=few_stamps.map(sorted), stamps=few_stamps.map(sorted), tolerance=st.integers(0, 15))
def test_matching_is_what_comparing_each_with_each_finds(images, stamps, tolerance: int) -> None:
    assert matched(images, stamps, tolerance) == matched_by_force(images, stamps, tolerance)


@settings(max_examples=150)
@given(images=few_stamps, stamps=few_stamps.map(sorted), tolerance=st.integers(0, 15))
def test_images_out_of_order_never_get_a_wrong_label(images, stamps, tolerance: int) -> None:
    found = matched(images, stamps, tolerance)
    used = [place for place in found if place is not None]
    assert len(used) == len(set(used))
    for index, place in enumerate(found):
        if place is None:
            continue
        distance = abs(images[index] - stamps[place])
        assert distance <= tolerance
        for neighbour in images[max(0, index - 1) : index + 2]:
            assert abs(neighbour - stamps[place]) >= distance


def test_matching_holds_one_image_back_and_reads_ahead_no_further() -> None:
    taken = []

    def images() -> Iterable[int]:
        for stamp in range(0, 1000, 10):
            taken.append(stamp)
            yield stamp

    pairs = match(images(), lambda stamp: stamp, [TruthLabel(10, unread)], 0)
    assert next(iter(pairs))[0] == 0
    assert taken == [0, 10]
