"""HTML pages from templates: one setting of the engine for all reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rwml.core.progress import duration
from rwml.measure.figures.sentences import percent, points
from rwml.reports import formats


def render_page(template: str, page: Mapping[str, Any]) -> str:
    """A template of this folder filled in. Every text is escaped unless the template says `safe`; a name that is
    missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent, "points": points, "decimal": formats.decimal, "number": formats.number,
        "duration": duration,
    }  # fmt: skip
    return environment.get_template(template).render(page)
