from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image

from nightseg_ros.core import labels
from nightseg_ros.evaluation import label_formats
from nightseg_ros.evaluation.label_formats import LABEL_FORMATS
from nightseg_ros.evaluation.label_formats import TruthError
from nightseg_ros.evaluation.label_formats import decode_png
from nightseg_ros.evaluation.label_formats import recognise
from nightseg_ros.evaluation.label_formats import to_train_ids

TRAIN_IDS = [*range(19), 255]

masks = st_numpy.arrays(
    np.uint8,
    st_numpy.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from(TRAIN_IDS),
)


def stored(train_ids: np.ndarray, label_format: str) -> np.ndarray:
    """Return a mask of trainIds as a data set of that format stores it."""
    return {
        'trainIds': lambda: train_ids,
        'labelIds': lambda: labels.TRAIN_ID_TO_LABEL_ID[train_ids],
        'colors': lambda: labels.colorize(train_ids),
    }[label_format]()


def some_mask(height: int = 20, width: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(TRAIN_IDS, (height, width)).astype(np.uint8)


def recognised(*found: np.ndarray) -> tuple[str, bool]:
    return recognise([lambda mask=mask: mask for mask in found])


def png(image: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, 'PNG', **options)
    return stream.getvalue()


def refusal(call, *args) -> str:
    with pytest.raises(TruthError) as caught:
        call(*args)
    return caught.value.reason


# Conversion


@settings(max_examples=50)
@given(mask=masks, label_format=st.sampled_from(LABEL_FORMATS))
def test_every_format_comes_back_as_the_train_ids_it_was_made_from(mask, label_format) -> None:
    assert np.array_equal(to_train_ids(stored(mask, label_format), label_format), mask)


@settings(max_examples=50)
@given(mask=masks, label_format=st.sampled_from(LABEL_FORMATS))
def test_png_keeps_every_format(mask, label_format) -> None:
    data = png(Image.fromarray(stored(mask, label_format)))
    assert np.array_equal(to_train_ids(decode_png(data), label_format), mask)


@pytest.mark.parametrize('void', labels.VOID_CLASSES, ids=lambda void: void.name)
def test_void_classes_are_ignored(void: labels.VoidClass) -> None:
    ids = np.full((2, 3), void.label_id % 256, np.uint8)
    assert (to_train_ids(ids, 'labelIds') == 255).all()
    same = {'polegroup': 'pole', 'license plate': 'car'}.get(void.name)  # by their colours
    expected = labels.NAMES.index(same) if same else 255
    colors = np.full((2, 3, 3), void.color, np.uint8)
    assert (to_train_ids(colors, 'colors') == expected).all()


def test_classes_and_void_classes_are_all_label_ids() -> None:
    ids = [c.label_id for c in (*labels.CLASSES, *labels.VOID_CLASSES)]
    assert sorted(ids) == list(range(-1, 34))


def test_rows_may_be_padded_and_memory_read_only() -> None:
    wide = some_mask(8, 16)
    wide.setflags(write=False)
    assert np.array_equal(to_train_ids(wide[:, :10], 'trainIds'), wide[:, :10])


@pytest.mark.parametrize(
    'id_, label_format, remedy',
    [
        (19, 'trainIds', 'say --label-format labelIds'),
        (33, 'trainIds', 'say --label-format labelIds'),
        (34, 'trainIds', 'must be 255'),
        (254, 'trainIds', 'must be 255'),
        (34, 'labelIds', 'must be 255'),
        (254, 'labelIds', 'must be 255'),
    ],
)
def test_an_id_that_the_format_lacks_is_refused(id_: int, label_format, remedy: str) -> None:
    mask = np.zeros((40, 50), np.uint8)
    mask[3, 4] = id_
    with pytest.raises(TruthError, match=rf'holds {id_},.*{remedy}') as caught:
        to_train_ids(mask, label_format)
    assert caught.value.reason == 'foreign_ids'


def test_few_pixels_outside_the_palette_are_ignored_and_more_are_refused() -> None:
    train_ids = some_mask(20, 50)
    colors = labels.colorize(train_ids)
    colors.reshape(-1, 3)[:10] = 1, 2, 3
    expected = train_ids.copy()
    expected.reshape(-1)[:10] = 255
    assert np.array_equal(to_train_ids(colors, 'colors'), expected)
    colors.reshape(-1, 3)[10] = 1, 2, 3
    with pytest.raises(TruthError, match=r'1\.1% .* \(1, 2, 3\): was it a JPEG') as caught:
        to_train_ids(colors, 'colors')
    assert caught.value.reason == 'foreign_colors'


def test_swapped_colours_are_named() -> None:
    with pytest.raises(TruthError, match='red and blue are swapped'):
        to_train_ids(labels.colorize(some_mask())[..., ::-1], 'colors')


def test_no_colour_becomes_another_one_when_red_and_blue_are_swapped() -> None:
    colors = {c.color for c in (*labels.CLASSES, *labels.VOID_CLASSES)}
    for color in colors:
        swapped = color[::-1]
        assert swapped == color or swapped not in colors


def test_colours_of_unknown_order_are_recognised() -> None:
    colors = labels.colorize(some_mask())
    assert np.array_equal(label_formats.in_palette_order(colors), colors)
    assert np.array_equal(label_formats.in_palette_order(colors[..., ::-1]), colors)


@pytest.mark.parametrize(
    'mask, label_format',
    [
        (np.zeros((3, 4), np.uint8), 'colors'),
        (labels.colorize(some_mask()), 'trainIds'),
        (labels.colorize(some_mask()), 'labelIds'),
    ],
)
def test_ids_where_colours_are_expected_are_refused_and_the_other_way(mask, label_format) -> None:
    assert refusal(to_train_ids, mask, label_format) == 'encoding'


# Recognition


def ids(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


def grey(*values: int) -> np.ndarray:
    return np.repeat(ids(*values)[..., np.newaxis], 3, axis=2)


@pytest.mark.parametrize(
    'found, expected',
    [
        ([ids(0, 5, 18, 255)], ('trainIds', False)),
        ([ids(0, 5), ids(255)], ('trainIds', False)),
        ([ids(0, 5, 18)], ('trainIds', True)),
        ([ids(0, 255)], ('trainIds', True)),  # perhaps a binary mask
        ([ids(7, 8, 255)], ('trainIds', True)),  # a street without a road: perhaps labelIds
        ([ids(255)], ('trainIds', True)),
        ([], ('trainIds', True)),
        ([ids(0, 5), ids(7, 33)], ('labelIds', False)),
        ([ids(0, 7, 20, 255)], ('labelIds', False)),
        ([ids(7, 19), ids(24)], ('labelIds', False)),
        ([labels.colorize(ids(0, 5, 255))], ('colors', False)),
        ([labels.colorize(ids(255))], ('colors', False)),
        ([grey(0, 3, 255)], ('trainIds', False)),
        ([grey(7, 26)], ('labelIds', False)),
        ([grey(70, 153), grey(0)], ('colors', False)),  # buildings, poles, nothing
        ([grey(0), grey(0, 2, 255), grey(0, 1)], ('trainIds', False)),
        ([ids(0, 1, 255), ids(0, 5), ids(3, 99)], ('trainIds', False)),
        ([ids(0, 1, 255), ids(0, 5), labels.colorize(ids(3, 4))], ('trainIds', False)),
        ([ids(0, 1, 255), *[labels.colorize(ids(3, 4))] * 2], ('colors', False)),
    ],
)
def test_formats_are_recognised(found: list[np.ndarray], expected: tuple[str, bool]) -> None:
    assert recognised(*found) == expected


@pytest.mark.parametrize(
    'found, reason',
    [
        ([ids(0, 34), ids(0, 99)], 'foreign_ids'),
        ([ids(0, 128, 254)], 'foreign_ids'),
        ([np.full((9, 9, 3), (9, 8, 7), np.uint8)], 'foreign_colors'),
        ([ids(0, 18, 19)], 'ambiguous'),
    ],
)
def test_what_is_no_format_is_refused(found: list[np.ndarray], reason: str) -> None:
    assert refusal(recognised, *found) == reason


@settings(max_examples=50)
@given(found=st.lists(masks, min_size=1, max_size=4), label_format=st.sampled_from(LABEL_FORMATS))
def test_what_is_recognised_with_certainty_is_right(found, label_format) -> None:
    made = [stored(mask, label_format) for mask in found]
    try:
        recognition = recognised(*made)
    except TruthError as error:
        assert error.reason == 'ambiguous'
        return
    if not recognition.assumed:
        assert recognition.label_format == label_format
    if recognition.label_format == label_format:
        for mask, there in zip(found, made, strict=True):
            assert np.array_equal(to_train_ids(there, label_format), mask)


def test_masks_that_cannot_be_read_do_not_keep_the_others_from_being_recognised() -> None:
    def broken() -> np.ndarray:
        raise TruthError('unreadable', 'broken')

    assert recognise([broken, lambda: ids(0, 1, 255)]) == ('trainIds', False)
    assert refusal(recognise, [broken, broken]) == 'unreadable'


@pytest.mark.parametrize('folder', ['camvid_day_val', 'camvid_dusk_dev', 'night_dev'])
def test_the_ground_truth_of_real_drives_is_recognised(shared_data: Path, folder: str) -> None:
    paths = sorted((shared_data / folder / 'labels').glob('*.png'))[:8]
    assert recognised(*(decode_png(path.read_bytes()) for path in paths)) == ('trainIds', False)


def test_ground_truth_with_ids_of_its_own_is_refused(shared_data: Path) -> None:
    paths = sorted((shared_data / 'motorcycle_night_dev' / 'labels').glob('*.png'))
    found = [decode_png(path.read_bytes()) for path in paths]
    assert refusal(recognised, *found) == 'foreign_ids'


# PNG


def palette_png(train_ids: np.ndarray, palette: np.ndarray, **options) -> bytes:
    image = Image.fromarray(train_ids, mode='P')
    image.putpalette(palette.ravel().tolist())
    return png(image, **options)


@pytest.mark.parametrize('options', [{}, {'transparency': 3}])
def test_an_indexed_png_is_read_by_its_colours(options) -> None:
    train_ids = some_mask()
    mask = decode_png(palette_png(train_ids, labels.PALETTE, **options))
    assert recognised(mask) == ('colors', False)
    assert np.array_equal(to_train_ids(mask, 'colors'), train_ids)


def test_an_indexed_png_in_other_colours_is_refused() -> None:
    other = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
    assert refusal(recognised, decode_png(palette_png(some_mask(), other))) == 'foreign_colors'


def test_an_indexed_png_whose_colours_are_the_ids_is_read_as_ids() -> None:
    train_ids = some_mask()
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, np.newaxis], 3, axis=1)
    mask = decode_png(palette_png(train_ids, greys))
    assert recognised(mask) == ('trainIds', False)
    assert np.array_equal(to_train_ids(mask, 'trainIds'), train_ids)


def test_alpha_is_dropped() -> None:
    train_ids = some_mask()
    alpha = np.full((*train_ids.shape, 1), 9, np.uint8)
    colors = np.concatenate([labels.colorize(train_ids), alpha], axis=2)
    assert np.array_equal(
        to_train_ids(decode_png(png(Image.fromarray(colors))), 'colors'), train_ids
    )
    both = np.dstack([train_ids, alpha])
    mask = decode_png(png(Image.fromarray(both, mode='LA')))
    assert np.array_equal(to_train_ids(mask, 'trainIds'), train_ids)


def test_16_bits_are_read_where_the_values_fit_into_8() -> None:
    train_ids = some_mask()
    assert np.array_equal(decode_png(png(Image.fromarray(train_ids.astype(np.uint16)))), train_ids)
    instances = train_ids.astype(np.uint16) + 26_000
    with pytest.raises(TruthError, match='instance ids') as caught:
        decode_png(png(Image.fromarray(instances)))
    assert caught.value.reason == 'encoding'


def test_a_binary_mask_is_refused() -> None:
    data = png(Image.fromarray(some_mask() > 9))
    with pytest.raises(TruthError, match='1 bit of grey') as caught:
        decode_png(data)
    assert caught.value.reason == 'encoding'


@pytest.mark.parametrize(
    'data, reason',
    [
        (cv2.imencode('.jpg', some_mask())[1].tobytes(), 'jpeg'),
        (b'', 'unreadable'),
        (b'\x89PNG\r\n\x1a\n', 'unreadable'),
        (b'P5 2 2 255 abcd', 'unreadable'),
        *((png(Image.fromarray(some_mask()))[:cut], 'unreadable') for cut in (30, 200, -1, -13)),
    ],
)
def test_what_is_no_whole_png_is_refused(data: bytes, reason: str) -> None:
    assert refusal(decode_png, data) == reason


def test_a_damaged_png_is_refused() -> None:
    whole = png(Image.fromarray(some_mask(60, 60)))
    rng = np.random.default_rng(0)
    for place in rng.integers(60, len(whole) - 16, 40):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        assert refusal(decode_png, bytes(damaged)) == 'unreadable'
