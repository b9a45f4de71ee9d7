"""The templates of the pages, with everything that is put into them escaped."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import jinja2

from nightseg_ros.evaluation.report import formats


def environment() -> jinja2.Environment:
    """Return the templates; what they are given is escaped, and a name not given is an error."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / 'templates'),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters.update(
        fraction=formats.FRACTION,
        percent=formats.PERCENT,
        ms=formats.MILLISECONDS,
        count=formats.count,
        interval=formats.FRACTION.interval,
    )
    return templates


def relative_link(path: str) -> str | None:
    """Return the link to a path beside the page; None where it would lead anywhere else."""
    link = quote(path)
    return None if link.startswith('/') or not link else link
