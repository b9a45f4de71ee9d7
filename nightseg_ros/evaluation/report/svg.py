"""Plots as SVG that takes its colours from the page around it.

Every plot is drawn once, in pixels, with matplotlib. Its colours become CSS variables and its
letters stay text, so that it follows the page into the dark, onto paper and to any size.

Figures are objects of their own, never of pyplot, whose figures are global to the process.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Sequence
from typing import Any
from typing import Literal

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from matplotlib.ticker import LogLocator
from matplotlib.ticker import NullLocator

INK, SOFT, GRID, PAPER = '#1c2431', '#5b6676', '#dde2ea', '#fffffe'
BLUE, TEAL, ORANGE, RED, VIOLET = '#2f6fdf', '#0f8f84', '#d9731b', '#d23b3c', '#8a54c9'

_VARIABLES = {
    INK: '--text', SOFT: '--soft', GRID: '--line', PAPER: '--paper', BLUE: '--blue',
    TEAL: '--teal', ORANGE: '--orange', RED: '--red', VIOLET: '--violet',
}  # fmt: skip
_TEXT_PX = 12.0
_MANY_DECADES = 200.0
"""An axis that spans more than this has ticks at powers of ten only."""
_POINTS_PER_INCH = 72.0
"""matplotlib's SVG has 72 units per inch: a point of matplotlib is a pixel of the page."""
_SETTINGS: Any = {'svg.fonttype': 'none', 'svg.hashsalt': 'nightseg', 'path.simplify': True}
_NO_METADATA = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))


class Canvas:
    """One picture of a page, laid out in pixels from its top left corner."""

    def __init__(self, width: float, height: float, description: str) -> None:
        """Prepare an empty picture.

        Args:
            width: in pixels, at full size; narrower pages shrink it.
            height: in pixels.
            description: what it shows, for those who cannot see it.
        """
        self._width, self._height = width, height
        self._description = description
        size = (width / _POINTS_PER_INCH, height / _POINTS_PER_INCH)
        self._figure = Figure(figsize=size, dpi=_POINTS_PER_INCH, facecolor='none')
        FigureCanvasSVG(self._figure)

    def axes(
        self, left: float, top: float, width: float, height: float, share: Axes | None = None
    ) -> Axes:
        """Return new axes at this place, with the x axis of others if asked for."""
        place = (
            left / self._width,
            1 - (top + height) / self._height,
            width / self._width,
            height / self._height,
        )
        axes = self._figure.add_axes(place, sharex=share, facecolor='none')
        axes.set_axisbelow(True)
        axes.grid(color=GRID, lw=1)
        axes.tick_params(colors=SOFT, labelsize=_TEXT_PX, length=0, pad=6)
        for side, spine in axes.spines.items():
            spine.set_visible(side == 'bottom')
            spine.set_color(SOFT)
            spine.set_linewidth(1)
        axes.xaxis.label.set_fontsize(_TEXT_PX)
        axes.xaxis.label.set_color(SOFT)
        return axes

    def lines(
        self, begin: Sequence[tuple[float, float]], end: Sequence[tuple[float, float]]
    ) -> None:
        """Draw thin lines between points of the picture, in pixels."""
        for (x0, y0), (x1, y1) in zip(begin, end, strict=True):
            self._figure.add_artist(
                Line2D(
                    [x0 / self._width, x1 / self._width],
                    [1 - y0 / self._height, 1 - y1 / self._height],
                    color=SOFT,
                    lw=1,
                    alpha=0.7,
                )
            )

    def markup(self) -> Markup:
        """Return the picture as an SVG element."""
        stream = io.StringIO()
        with matplotlib.rc_context(_SETTINGS):
            self._figure.savefig(stream, format='svg', transparent=True, metadata=_NO_METADATA)
        return _element(stream.getvalue(), self._width, self._height, self._description)


def title(axes: Axes, text: str, legend: bool = True) -> None:
    """Write a heading above axes, left, and the legend of what they show, right."""
    axes.set_title(text, loc='left', fontsize=_TEXT_PX + 1, fontweight='bold', color=INK, pad=9)
    if not legend or not axes.get_legend_handles_labels()[0]:
        return
    axes.legend(
        loc='lower right',
        bbox_to_anchor=(1.0, 1.0),
        ncol=9,
        fontsize=_TEXT_PX,
        labelcolor=SOFT,
        frameon=False,
        borderaxespad=0.1,
        handlelength=1.4,
        handletextpad=0.5,
        columnspacing=1.4,
    )


def logarithmic(axes: Axes, axis: Literal['x', 'y']) -> None:
    """Make an axis logarithmic around what is drawn, with a few ticks written as plain numbers."""
    (axes.set_xscale if axis == 'x' else axes.set_yscale)('log')
    low, high = axes.get_xlim() if axis == 'x' else axes.get_ylim()
    scale = axes.xaxis if axis == 'x' else axes.yaxis
    ticks = (1.0, 2.0, 5.0) if high < _MANY_DECADES * low else (1.0,)
    scale.set_major_locator(LogLocator(subs=ticks))
    scale.set_minor_locator(NullLocator())
    scale.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))


def write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write soft small text at a point of the axes; a '$' stays a '$'."""
    settings: dict[str, Any] = {'fontsize': _TEXT_PX, 'color': SOFT, 'va': 'center'}
    axes.text(x, y, plain(text), **{**settings, **style})


def plain(text: str) -> str:
    """Return the text so that matplotlib finds no mathematics in it."""
    return text.replace('$', r'\$')


def _element(document: str, width: float, height: float, description: str) -> Markup:
    """Return what stands between the svg tags of matplotlib's document as an element of HTML."""
    inside = document[document.index('<svg') :]
    inside = inside[inside.index('>') + 1 : inside.rindex('</svg>')]
    inside = re.sub(r'<style.*?</style>|<metadata.*?</metadata>|<!--.*?-->', '', inside, flags=re.S)
    inside = re.sub(r'<g id="[^"]*"', '<g', inside)
    # Several pictures share one page, and an id must be there once.
    prefix = f'v{zlib.crc32(inside.encode()):08x}-'
    inside = re.sub(r'( id="|url\(#|href="#)', rf'\1{prefix}', inside)
    inside = re.sub(r'font-family: [^;\"]*;?', '', inside)
    inside = re.sub(r' d="[^"]*"', _shortened, inside)
    inside = re.sub(r'>\s+<', '><', inside)
    for color, variable in _VARIABLES.items():
        inside = inside.replace(color, f'var({variable})')
    return Markup('<svg viewBox="0 0 {} {}" width="{}" role="img" aria-label="{}">{}</svg>').format(
        f'{width:g}', f'{height:g}', f'{width:g}', description, Markup(inside)
    )


def _shortened(path: re.Match[str]) -> str:
    """Return path data with a hundredth of a pixel as its finest step."""
    return re.sub(r'(\.\d\d)\d+', r'\1', path.group()).replace('\n', ' ')
