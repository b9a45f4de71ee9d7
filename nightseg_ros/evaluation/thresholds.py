"""Limits that a report must keep, for continuous integration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nightseg_ros.evaluation.summary import ALL_METRICS


class ThresholdError(ValueError):
    """A limit that makes no sense; the message says what would."""


@dataclass(frozen=True)
class Threshold:
    """A limit of one number of the report.

    Attributes:
        metric: a name under ``metrics`` of report.json.
        limit: itself allowed.
        upper: whether the number may not be above it, or not below.
    """

    metric: str
    limit: float
    upper: bool

    @classmethod
    def parse(cls, text: str, upper: bool) -> Threshold:
        """Return the limit that 'miou=0.4' means.

        Raises:
            ThresholdError: it is not of this form, or there is no such metric.
        """
        name, _, value = text.partition('=')
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if not math.isfinite(limit):
            raise ThresholdError(f"'{text}' is no limit: write a name and a number, miou=0.4")
        if name not in ALL_METRICS:
            raise ThresholdError(f"there is no metric '{name}': {', '.join(ALL_METRICS)}")
        return cls(name, limit, upper)

    def failure(self, report: Mapping[str, Any]) -> str | None:
        """Return how a report breaks it, None if it does not.

        A number that is not known has not kept its limit.
        """
        value = report['metrics'][self.metric]
        side = 'over' if self.upper else 'under'
        if value is None:
            return f'{self.metric} is not known, and must not be {side} {self.limit:g}'
        if value > self.limit if self.upper else value < self.limit:
            return f'{self.metric} is {value:.4g}, {side} {self.limit:g}'
        return None


def failures(thresholds: Sequence[Threshold], report: Mapping[str, Any]) -> list[str]:
    """Return how a report breaks its limits, in their order."""
    found = [threshold.failure(report) for threshold in thresholds]
    return [failure for failure in found if failure is not None]
