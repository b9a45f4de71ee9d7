"""What a page consists of: plots, and lines that say why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Plot:
    """A plot in a page, and how to read it."""

    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Absent:
    """What a page leaves out, and why."""

    title: str
    reason: str
