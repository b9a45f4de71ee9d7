"""The frames of a drive and the masks that came back for them, joined by stamp."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.image_codec import CameraFrame
from nightseg_ros.core.image_codec import resize_to_rgb
from nightseg_ros.core.image_codec import view
from nightseg_ros.evaluation.bag_reader import deserialize
from nightseg_ros.evaluation.bag_reader import open_bag
from nightseg_ros.evaluation.frames import BagFrame
from nightseg_ros.evaluation.frames import Masks
from nightseg_ros.evaluation.frames import MeasuredFrame
from nightseg_ros.evaluation.frames import header_stamp_ns
from nightseg_ros.evaluation.mask_bag import MaskTopics
from nightseg_ros.evaluation.measure import measure_frame
from nightseg_ros.evaluation.replay import CameraReplay

WINDOW = 16
"""Masks that are kept for an image still to come: they may arrive in another order."""

_Found = dict[str, NDArray[np.uint8]]


def measure_replay(
    frames: Iterable[BagFrame], masks_bag: Path, topics: MaskTopics, camera: CameraReplay
) -> Generator[MeasuredFrame, None, None]:
    """Measure each frame of a drive with the masks that came back for it.

    Args:
        frames: of the bag that was played.
        masks_bag: that the replay recorded.
        topics: of the camera's masks.
        camera: when its images went out and its masks came back.
    """
    masks = _masks_by_stamp(masks_bag, topics)
    kept: OrderedDict[int, _Found] = OrderedDict()
    last_arrival: int | None = None
    for frame in frames:
        stamp = header_stamp_ns(frame.message)
        if stamp in camera.untold:
            # Whose mask came is not known: none is better than another image's.
            yield MeasuredFrame(frame, problem='no_stamp' if stamp == 0 else 'repeated_stamp')
            continue
        if stamp in camera.received_ns:
            _read_until(stamp, masks, kept)
        times_ms = camera.times_ms(stamp)
        arrival = camera.received_ns.get(stamp)
        if arrival is not None:
            if last_arrival is not None:
                times_ms['gap_ms'] = (arrival - last_arrival) / 1e6
            last_arrival = arrival
        yield _measure(frame, kept.pop(stamp, {}), topics, times_ms)


def _read_until(
    stamp: int, masks: Iterator[tuple[int, _Found]], kept: OrderedDict[int, _Found]
) -> None:
    """Read masks until those of a stamp are there, and keep the last few."""
    while stamp not in kept:
        found = next(masks, None)
        if found is None:
            return
        kept[found[0]] = found[1]
        if len(kept) > WINDOW:
            kept.popitem(last=False)


def _measure(
    frame: BagFrame, found: _Found, topics: MaskTopics, times_ms: dict[str, float]
) -> MeasuredFrame:
    def masks_of(image: CameraFrame) -> Masks | None:
        labels = found.get(topics.labels)
        confidence, exposure = found.get(topics.confidence), found.get(topics.exposure)
        if labels is None or confidence is None or exposure is None:
            return None
        small = resize_to_rgb(image, np.empty((*labels.shape, 3), np.uint8))
        return Masks(labels, confidence, exposure, small)

    return measure_frame(frame, masks_of, times_ms)


def _masks_by_stamp(masks_bag: Path, topics: MaskTopics) -> Iterator[tuple[int, _Found]]:
    """Yield stamp and masks by topic, in the order in which they were recorded."""
    with open_bag(masks_bag) as bag:
        stamp: int | None = None
        masks: _Found = {}
        for message in bag.messages(topics.masks):
            if stamp is not None and header_stamp_ns(message) != stamp:
                yield stamp, masks
                masks = {}
            stamp = header_stamp_ns(message)
            masks[message.topic] = view(deserialize(message)).samples
        if stamp is not None:
            yield stamp, masks
