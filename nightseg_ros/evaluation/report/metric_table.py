"""The metrics of a summary: what each is called, which way is better, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nightseg_ros.evaluation.report import formats
from nightseg_ros.evaluation.report.formats import NumberFormat


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: key in the summary's `metrics`.
        title: what people call it.
        group: under which heading it stands.
        better: which way is better; None: neither is.
        format: how it is written.
        meaning: what it says, in a few words.
    """

    name: str
    title: str
    group: str
    better: Literal['higher', 'lower'] | None
    format: NumberFormat
    meaning: str


ACCURACY, TRUST, STABILITY, SPEED, SCENE = (
    'Accuracy', 'Trust in its confidence', 'Stability', 'Speed and load', 'What it saw',
)  # fmt: skip

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            'miou', 'mIoU', ACCURACY, 'higher', formats.FRACTION,
            'overlap of mask and truth, mean over the classes',
        ),
        Metric(
            'mef1', 'mEF1', ACCURACY, 'higher', formats.FRACTION,
            'exposure F1, mean over the ten brightness bins',
        ),
        Metric(
            'accuracy', 'Pixel accuracy', ACCURACY, 'higher', formats.FRACTION,
            'part of the annotated pixels that is right',
        ),
        Metric(
            'ece', 'ECE', TRUST, 'lower', formats.SMALL_FRACTION,
            'how far confidence lies from being right',
        ),
        Metric(
            'aurc', 'AURC', TRUST, 'lower', formats.SMALL_FRACTION,
            'error left when unsure pixels are dropped first',
        ),
        Metric(
            'confidence', 'Confidence', TRUST, None, formats.FRACTION,
            'mean over all pixels',
        ),
        Metric(
            'flicker', 'Flicker', STABILITY, 'lower', formats.SMALL_FRACTION,
            'labels that change without motion',
        ),
        Metric(
            'collapsed_share', 'Collapsed masks', STABILITY, 'lower', formats.PERCENT,
            'frames whose mask is almost one single class',
        ),
        Metric(
            'dropped_share', 'Dropped', STABILITY, 'lower', formats.PERCENT,
            'frames without a mask',
        ),
        Metric(
            'under_share', 'Too dark', SCENE, None, formats.PERCENT,
            'under-exposed part of the pixels',
        ),
        Metric(
            'over_share', 'Too bright', SCENE, None, formats.PERCENT,
            'over-exposed part of the pixels',
        ),
        Metric(
            'p50_ms', 'Latency p50', SPEED, 'lower', formats.MILLISECONDS,
            'half of the frames were faster',
        ),
        Metric(
            'p95_ms', 'Latency p95', SPEED, 'lower', formats.MILLISECONDS,
            '95 % of the frames were faster',
        ),
        Metric(
            'p99_ms', 'Latency p99', SPEED, 'lower', formats.MILLISECONDS,
            '99 % of the frames were faster',
        ),
        Metric(
            'max_ms', 'Latency max', SPEED, 'lower', formats.MILLISECONDS,
            'the slowest frame',
        ),
        Metric(
            'age_p99_ms', 'Age p99', SPEED, 'lower', formats.MILLISECONDS,
            'how old the frame is when its mask arrives',
        ),
        Metric(
            'gap_p99_ms', 'Gap p99', SPEED, 'lower', formats.MILLISECONDS,
            'between one mask and the next',
        ),
        Metric(
            'fps', 'Throughput', SPEED, 'higher', formats.RATE,
            'masks per second',
        ),
        Metric(
            'peak_mib', 'Peak memory', SPEED, 'lower', formats.MEBIBYTES,
            'most memory held at once',
        ),
    )
}  # fmt: skip
"""All metrics by name, in the order in which pages show them."""
