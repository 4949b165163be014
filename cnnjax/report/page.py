"""Self-contained HTML pages of sections: one file, no network, light and dark, readable on a phone.

The templates escape what they are given. Their filters: `html` renders a block (text is escaped), `data_uri` makes pixels an
address that holds them, `fitted` makes pixels smaller, `unbroken` keeps a number and its per cent sign on one line, `by_folder` lets a
path break after its folders, `with_code` sets what stands between backticks as code.
"""

import functools
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from cnnjax.core.html import data_uri, fitted, picture_uri
from cnnjax.report.blocks import Columns, Details, Figure, Heading, Section, Table, Template, Text

# Digits of the numbers that the script draws.
DIGITS = 6


def render_page(title: str, subtitle: str, sections: Mapping[str, Section], missing: Sequence[str] = ()) -> str:
    """The page.

    Args:
      title: the page's heading.
      subtitle: a line below it.
      sections: the sections by their names, which are their addresses in the page.
      missing: sentences on what could not be shown.
    """
    atlas = next((section.atlas for section in sections.values() if section.atlas), None)
    data = {name: section.data for name, section in sections.items() if section.data is not None}
    if atlas:
        data["atlas"] = {"columns": atlas.columns, "rows": atlas.rows}
    return _templates().get_template("page.html").render(
        title=title, subtitle=subtitle, sections=sections, missing=missing, atlas=atlas, data=as_json(data)
    )  # fmt: skip


def render_block(block: Any) -> Markup:
    """A block as HTML; anything else as escaped text."""
    match block:
        case Template():
            name, values = block.template, block.values
        case Text() | Heading() | Table() | Figure() | Details() | Columns():
            name, values = f"{type(block).__name__.lower()}.html", vars(block)
        case _:
            return escape(block)
    return Markup(_templates().get_template(name).render(values))


def with_code(text: str) -> Markup:
    """A text as HTML in which what stands between backticks is code.

    >>> with_code("`cnnjax find-lr` < 1")
    Markup('<code>cnnjax find-lr</code> &lt; 1')
    """
    parts = (Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(re.split("`([^`]+)`", text)))  # fmt: skip
    return Markup("").join(parts)


def as_json(value: Any) -> Any:
    """The same in JSON's types: None for a number that is not finite, floating-point numbers to six digits."""
    match value:
        case float() | np.floating():
            return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
        case np.integer():
            return int(value)
        case np.ndarray():
            return as_json(value.tolist())
        case Mapping():
            return {str(key): as_json(item) for key, item in value.items()}
        case list() | tuple():
            return [as_json(item) for item in value]
    return value


@functools.cache
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("cnnjax.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"allow_nan": False}
    templates.filters |= {
        "html": render_block,
        "data_uri": lambda pixels: data_uri(pixels) if isinstance(pixels, bytes) else picture_uri(pixels),
        "fitted": fitted,
        "drawing_uri": _drawing_uri,
        "unbroken": lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%"),
        "with_code": with_code,
        "by_folder": lambda path: Markup("/<wbr>").join(path.split("/")),
    }
    # The style and the script stand in the page as they are: they are no templates.
    templates.globals["source"] = lambda name: Markup(templates.loader.get_source(templates, name)[0])
    return templates


def _drawing_uri(drawing: Any) -> str:
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=120)
    return data_uri(buffer.getvalue())
