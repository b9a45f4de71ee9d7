"""From a frame and its masks to what is counted of them."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.exposure import value_channel
from nightseg_ros.core.image_codec import CameraFrame
from nightseg_ros.core.image_codec import ImageError
from nightseg_ros.core.image_codec import to_rgb
from nightseg_ros.core.segmenter import resize_labels
from nightseg_ros.core.segmenter import resize_values
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.counts import Counts
from nightseg_ros.evaluation.counts import count_masks
from nightseg_ros.evaluation.counts import count_truth
from nightseg_ros.evaluation.flicker import Glimpse
from nightseg_ros.evaluation.frames import BagFrame
from nightseg_ros.evaluation.frames import EvaluatedFrame
from nightseg_ros.evaluation.frames import Masks
from nightseg_ros.evaluation.frames import MeasuredFrame
from nightseg_ros.evaluation.frames import decode
from nightseg_ros.evaluation.truth import TruthError
from nightseg_ros.evaluation.truth import TruthLabel

BGR_OR_RGB = ('bgr8', 'rgb8')

STRIDE = 2
"""Shares of all pixels are counted on every second row: that is exact enough, and counting must not
slow the network down. Against a truth every pixel counts."""


def measure_frame(
    frame: BagFrame, masks_of: Callable[[CameraFrame], Masks | None], times_ms: dict[str, float]
) -> MeasuredFrame:
    """Decode a frame, get its masks and count.

    What cannot be read is said in the result: no exception leaves here for a bad image or label.

    Args:
        frame: as recorded.
        masks_of: returns the masks of a decoded frame, None where there are none.
        times_ms: what is known of the frame's times; ``masks_of`` may add to it.
    """
    try:
        image = decode(frame.message)
    except ImageError as error:
        return MeasuredFrame(frame, problem=error.reason, times_ms=times_ms)
    except BagError:
        return MeasuredFrame(frame, problem='damaged_message', times_ms=times_ms)
    masks = masks_of(image)
    truth, truth_problem = _read_truth(frame.truth, image)
    latency = times_ms.get('latency_ms')

    @functools.cache  # several may want it
    def picture() -> EvaluatedFrame:
        return EvaluatedFrame(
            index=frame.index,
            stamp_ns=frame.stamp_ns,
            image=to_rgb(image),
            labels=None if masks is None else masks.labels,
            confidence=None if masks is None else masks.confidence,
            exposure=None if masks is None else masks.exposure,
            truth=truth,
            latency_ms=latency,
        )

    if masks is None:
        return MeasuredFrame(frame, truth_problem=truth_problem, times_ms=times_ms, picture=picture)
    counts = Counts.zeros()
    count_masks(
        counts,
        masks.labels[::STRIDE],
        masks.confidence[::STRIDE],
        masks.exposure[::STRIDE],
        value_channel(masks.image[::STRIDE]),
    )
    if truth is not None:
        labels = resize_labels(masks.labels, np.empty(truth.shape, np.uint8))
        confidence = resize_values(masks.confidence, np.empty(truth.shape, np.uint8))
        count_truth(counts, labels, confidence, _value(image), truth)
    return MeasuredFrame(
        frame,
        truth_problem=truth_problem,
        counts=counts,
        has_truth=truth is not None,
        glimpse=Glimpse.of(frame.stamp_ns, masks.image, masks.labels),
        times_ms=times_ms,
        picture=picture,
    )


def _read_truth(
    label: TruthLabel | None, image: CameraFrame
) -> tuple[NDArray[np.uint8] | None, str | None]:
    """Return the truth of a frame, and why there is none although there is a label."""
    if label is None:
        return None, None
    try:
        truth = label.read()
    except TruthError as error:
        return None, error.reason
    if truth.shape != (image.height, image.width):
        return None, f'size {truth.shape[1]}x{truth.shape[0]}, image {image.width}x{image.height}'
    return truth, None


def _value(image: CameraFrame) -> NDArray[np.uint8]:
    """Return V of a frame at its own size; the order of its channels does not matter."""
    return value_channel(image.samples if image.encoding in BGR_OR_RGB else to_rgb(image))
