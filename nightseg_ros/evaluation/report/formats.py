"""How numbers are written on the pages."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

NOTHING = '–'
"""Stands for a number that is not known."""

_MINUS = '\u2212'
_THIN_SPACE = '\u2009'
_MAX_DECIMALS = 6


@dataclass(frozen=True)
class NumberFormat:
    """A way to write a number.

    Attributes:
        scale: what the number is multiplied with before.
        digits: significant digits wanted of numbers below 1000, at most `decimals` decimals.
        decimals: most decimals.
        unit: written behind the number.
        leading_zero: whether 0.42 is written so, or .42 as the literature writes an mIoU.
    """

    scale: float = 1.0
    digits: int = 3
    decimals: int = 2
    unit: str = ''
    leading_zero: bool = True

    def __call__(self, value: float | None) -> str:
        """Return the number with its unit; a dash for None and for what is no finite number."""
        if not known(value):
            return NOTHING
        return f'{self.number(value)}{self.unit}'

    def number(self, value: float) -> str:
        """Return the finite number without its unit."""
        scaled = value * self.scale
        whole = len(str(int(abs(scaled)))) if abs(scaled) >= 1 else 0
        text = f'{abs(scaled):.{min(self.decimals, max(0, self.digits - whole))}f}'
        if not self.leading_zero and text.startswith('0.'):
            text = text[1:]
        negative = scaled < 0 and text.strip('0.') != ''
        return f'{_MINUS}{text}' if negative else text

    def finer(self, smallest: float = math.inf) -> NumberFormat:
        """Return the format with one digit more, and so many that this number shows two digits."""
        decimals = self.decimals + 1
        if smallest and math.isfinite(smallest):
            needed = 1 - math.floor(math.log10(abs(smallest * self.scale)))
            decimals = max(decimals, min(needed, _MAX_DECIMALS))
        return dataclasses.replace(self, digits=self.digits + decimals, decimals=decimals)

    def signed(self, value: float | None) -> str:
        """Return the number with its unit and its sign, without sign where it reads as zero."""
        text = self(value)
        positive = value is not None and value > 0 and text.strip(f'0.{self.unit}') != ''
        return f'+{text}' if positive and text != NOTHING else text

    def interval(self, interval: Sequence[float | None] | None) -> str:
        """Return '[low, high]' without unit; '' where an end is not known."""
        ends = [self.number(end) for end in interval or () if known(end)]
        return f'[{", ".join(ends)}]' if len(ends) == 2 else ''


FRACTION = NumberFormat(digits=3, decimals=2, leading_zero=False)
SMALL_FRACTION = NumberFormat(digits=4, decimals=3, leading_zero=False)
PERCENT = NumberFormat(scale=100.0, digits=3, decimals=1, unit='\u00a0%')
MILLISECONDS = NumberFormat(digits=3, decimals=1, unit='\u00a0ms')
MEBIBYTES = NumberFormat(digits=4, decimals=0, unit='\u00a0MiB')
RATE = NumberFormat(digits=3, decimals=1, unit='\u00a0fps')


def known(value: float | None) -> TypeGuard[float]:
    """Return whether there is a number: neither None nor NaN nor infinite."""
    return value is not None and math.isfinite(value)


def count(value: float | None) -> str:
    """Return a whole number with thin spaces between its thousands."""
    if not known(value):
        return NOTHING
    return f'{round(value):,}'.replace(',', _THIN_SPACE)


def duration(seconds: float | None) -> str:
    """Return seconds as '12.3 s', '4 min 05 s' or '2 h 10 min'."""
    if not known(seconds):
        return NOTHING
    if seconds < 60:
        return f'{seconds:.1f} s'
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f'{minutes} min {rest:02d} s'
    hours, minutes = divmod(minutes, 60)
    return f'{hours} h {minutes:02d} min'
