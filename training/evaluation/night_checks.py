"""How a segmenter does at night where there are no labels to measure it by.

Two labelled night frames choose no recipe. These numbers come from hundreds of unlabelled ones:
each is what a good night segmenter has, though having it does not make one. Look at the masks too.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.exposure import NORMAL
from nightseg_ros.core.exposure import OVER_EXPOSED
from nightseg_ros.core.exposure import UNDER_EXPOSED
from nightseg_ros.core.exposure import ExposureThresholds
from nightseg_ros.core.exposure import exposure_mask
from nightseg_ros.core.exposure import value_channel
from nightseg_ros.core.health import without_unknown_ids
from nightseg_ros.core.labels import UNLABELLED
from nightseg_ros.core.segmentation_score import SegmentationScore
from nightseg_ros.core.segmenter import Segmenter
from training.data.frames import Sample
from training.data.relight import Relight

ROAD, WALL, FENCE, VEGETATION, SKY, PERSON, CAR = 0, 3, 4, 8, 10, 11, 13

SURE = 128
"""Confidence (0..255) from which a day prediction is taken for the truth of its relit frame."""

STOPS = (-1.0, 1.0)
"""Changes of exposure under which masks should stay as they are, in stops (doublings of light)."""

_GAMMA = 2.2


@dataclass(frozen=True)
class RelitAgreement:
    """Masks of relit day frames against those of the frames by day.

    Attributes:
        accuracy: share of the pixels that the day prediction is sure of, 0..1.
        miou: over the classes that it sees, 0..1.
    """

    accuracy: float
    miou: float


def relit_agreement(
    segmenter: Segmenter, day: Iterable[Sample], relight: Relight | None = None, seed: int = 0
) -> RelitAgreement:
    """Compare the masks of day frames with those of the same frames relit to night.

    Args:
        segmenter: to be checked.
        day: frames by day; their labels only tell the relighting where sky, lamps and cars are.
        relight: how night is made; the same for a seed.
        seed: of the nights.
    """
    relight = relight or Relight()
    score = SegmentationScore()
    for index, sample in enumerate(day):
        by_day = segmenter.segment_rgb(sample.image)
        known = without_unknown_ids(by_day.labels)
        truth = np.where(by_day.confidence >= SURE, known, UNLABELLED).astype(np.uint8)
        relit = relight(sample, np.random.default_rng((seed, index)))
        score.update(segmenter.segment_rgb(relit.image).labels, truth)
    hits, pixels = np.trace(score.confusion), score.confusion.sum()
    accuracy = float(hits / pixels) if pixels else float('nan')
    return RelitAgreement(accuracy, score.compute().mean_iou)


def exposure_consistency(
    segmenter: Segmenter, night: Iterable[NDArray[np.uint8]], stops: Sequence[float] = STOPS
) -> float:
    """Return the share of pixels (0..1) that keep their label when the camera exposes otherwise.

    Args:
        segmenter: to be checked.
        night: RGB uint8 [H, W, 3].
        stops: changes of exposure.
    """
    same = pixels = 0
    for image in night:
        labels = segmenter.segment_rgb(image).labels
        for stop in stops:
            changed = segmenter.segment_rgb(exposed(image, stop)).labels
            same += int((changed == labels).sum())
            pixels += labels.size
    return same / pixels if pixels else float('nan')


def exposed(image: NDArray[np.uint8], stops: float) -> NDArray[np.uint8]:
    """Return a frame as another exposure would have shown it: a gain in linear light, clipped."""
    gain = 2.0 ** (stops / _GAMMA)
    table = np.clip(np.arange(256) * gain, 0, 255).round().astype(np.uint8)
    return cv2.LUT(image, table)


@dataclass(frozen=True)
class Layout:
    """Where classes lie in the masks of frames from a vehicle, shares 0..1; NaN without a pixel.

    Attributes:
        road, sky, person, car: of all pixels.
        wall, vegetation: of all pixels; wall with fence. Networks that know the day alone take the
            dark for walls, and a night sky for leaves.
        frames_with_road: of the frames, those with road on more than a twentieth.
        road_low: of the road, what lies in the lower half.
        sky_high: of the sky, what lies in the upper half.
    """

    road: float
    sky: float
    person: float
    car: float
    wall: float
    vegetation: float
    frames_with_road: float
    road_low: float
    sky_high: float


def layout(masks: Iterable[NDArray[np.uint8]]) -> Layout:
    """Return where classes lie in masks, trainIds uint8 [H, W]."""
    upper, lower = np.zeros((2, 256), np.int64)
    frames = with_road = 0
    for labels in masks:
        half = labels.shape[0] // 2
        upper += np.bincount(labels[:half].ravel(), minlength=256)
        lower += np.bincount(labels[half:].ravel(), minlength=256)
        frames += 1
        with_road += np.count_nonzero(labels == ROAD) > 0.05 * labels.size
    total = upper + lower

    def share(*classes: int) -> float:
        return _ratio(sum(int(total[c]) for c in classes), int(total.sum()))

    return Layout(
        road=share(ROAD),
        sky=share(SKY),
        person=share(PERSON),
        car=share(CAR),
        wall=share(WALL, FENCE),
        vegetation=share(VEGETATION),
        frames_with_road=_ratio(int(with_road), frames),
        road_low=_ratio(int(lower[ROAD]), int(total[ROAD])),
        sky_high=_ratio(int(upper[SKY]), int(total[SKY])),
    )


@dataclass(frozen=True)
class ConfidenceByExposure:
    """Mean confidence (0..1) where frames are under-exposed, normal, over-exposed; NaN without."""

    under: float
    normal: float
    over: float


def confidence_by_exposure(
    segmenter: Segmenter, night: Iterable[NDArray[np.uint8]]
) -> ConfidenceByExposure:
    """Return how sure masks are where frames (RGB uint8 [H, W, 3]) show little, and elsewhere."""
    sums, pixels = np.zeros((2, 3))
    for image in night:
        confidence = segmenter.segment_rgb(image).confidence
        exposure = exposure_mask(value_channel(image), ExposureThresholds())
        for kind in (NORMAL, UNDER_EXPOSED, OVER_EXPOSED):
            there = exposure == kind
            sums[kind] += confidence[there].sum(dtype=np.int64)
            pixels[kind] += there.sum()
    means = [_ratio(total / 255.0, count) for total, count in zip(sums, pixels, strict=True)]
    return ConfidenceByExposure(means[UNDER_EXPOSED], means[NORMAL], means[OVER_EXPOSED])


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float('nan')
