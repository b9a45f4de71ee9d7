"""The frames of an evaluation: as they lie in a bag, and with what came of them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core import image_codec
from nightseg_ros.core.image_codec import CameraFrame
from nightseg_ros.evaluation.bag_reader import Bag
from nightseg_ros.evaluation.bag_reader import BagMessage
from nightseg_ros.evaluation.bag_reader import deserialize
from nightseg_ros.evaluation.counts import Counts
from nightseg_ros.evaluation.flicker import Glimpse
from nightseg_ros.evaluation.truth import TruthLabel
from nightseg_ros.evaluation.truth import match


@dataclass(frozen=True)
class BagFrame:
    """An image message of a bag, not decoded yet.

    Attributes:
        index: number of the frame in its topic.
        stamp_ns: of its header; where that is zero, the time at which it was recorded.
        message: as recorded.
        truth: label with this stamp, or None.
    """

    index: int
    stamp_ns: int
    message: BagMessage
    truth: TruthLabel | None


def bag_frames(
    bag: Bag, camera: str, labels: Iterable[TruthLabel] = (), tolerance_ns: int = 0
) -> Iterator[BagFrame]:
    """Yield the images of a topic in the order of recording, each with its label if it has one.

    Args:
        bag: to read.
        camera: topic.
        labels: in the order of stamps.
        tolerance_ns: by which the stamps of image and label may differ.
    """
    messages = bag.messages([camera])
    matched = match(messages, stamp_ns, labels, tolerance_ns)
    for index, (message, truth) in enumerate(matched):
        yield BagFrame(index, stamp_ns(message), message, truth)


def stamp_ns(message: BagMessage) -> int:
    """Return the stamp of an image; where it has none, when it was recorded."""
    return header_stamp_ns(message) or message.time_ns


def header_stamp_ns(message: BagMessage) -> int:
    """Return the stamp of a message that begins with a Header, 0 where it is too short for one.

    Nothing is decoded. CDR: four bytes of encapsulation, of which the second tells the byte order,
    then ``sec`` int32 and ``nanosec`` uint32.
    """
    content = message.content
    if len(content) < 12:
        return 0
    order = 'little' if content[1] & 1 else 'big'
    seconds = int.from_bytes(content[4:8], order, signed=True)  # type: ignore[arg-type]
    nanoseconds = int.from_bytes(content[8:12], order)  # type: ignore[arg-type]
    return seconds * 1_000_000_000 + nanoseconds


def decode(message: BagMessage) -> CameraFrame:
    """Return the frame of an Image or CompressedImage message.

    Raises:
        ImageError: it cannot be decoded.
        BagError: the message is damaged.
    """
    content = deserialize(message)
    if hasattr(content, 'format'):
        return image_codec.decode_compressed(content.data)
    return image_codec.view(content)


@dataclass(frozen=True)
class Masks:
    """What a segmenter says about a frame, uint8 [h, w] each, of the image's size or another.

    Attributes:
        labels: trainIds.
        confidence: 0..255.
        exposure: 0 normal, 1 under-exposed, 2 over-exposed, 255 unknown.
        image: the frame at their size, RGB uint8 [h, w, 3].
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    exposure: NDArray[np.uint8]
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class EvaluatedFrame:
    """A frame for people to look at.

    Attributes:
        index: number of the frame in its drive.
        stamp_ns: its time stamp in nanoseconds.
        image: RGB uint8 [H, W, 3].
        labels, confidence, exposure: as `Masks`, or None where no mask came.
        truth: trainIds, 255 = ignore, uint8 [H, W], or None.
        latency_ms: image published to mask received, None where that was not measured.
    """

    index: int
    stamp_ns: int
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None
    confidence: NDArray[np.uint8] | None
    exposure: NDArray[np.uint8] | None
    truth: NDArray[np.uint8] | None
    latency_ms: float | None


@dataclass(frozen=True)
class MeasuredFrame:
    """A frame, whether masks came of it, and what was counted.

    Attributes:
        frame: as recorded.
        problem: why the image cannot be used: a short key to count by; None where it can.
        truth_problem: the same of its label.
        counts: None where there are no masks.
        has_truth: whether the truth was counted.
        glimpse: for the comparison with the frame before; None where there are no masks.
        times_ms: latency, age and stages, by the names of the report's rows.
        picture: makes the frame for people; None where the image cannot be read.
    """

    frame: BagFrame
    problem: str | None = None
    truth_problem: str | None = None
    counts: Counts | None = None
    has_truth: bool = False
    glimpse: Glimpse | None = None
    times_ms: dict[str, float] = field(default_factory=dict)
    picture: Callable[[], EvaluatedFrame] | None = None
