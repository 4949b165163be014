"""The blocks of a page's sections, which `page` renders as HTML and `markdown` as Markdown."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from matplotlib.figure import Figure as Drawing

from cnnjax.report.images import Atlas


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
      text: plain text.
      quiet: whether the paragraph is a remark, in grey.
    """

    text: str
    quiet: bool = True


@dataclasses.dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      columns: the columns' names.
      rows: the rows' cells: text, numbers, or blocks.
      numbers: the positions of the columns that are right-aligned.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    numbers: Sequence[int] = ()


@dataclasses.dataclass(frozen=True)
class Figure:
    """A Matplotlib figure: a PNG file beside the page, and a picture in it.

    Attributes:
      drawing: the figure.
      caption: the description of the figure.
      name: the figure's name within its section; the file is `<section>-<name>.png`, or `<section>.png` without a name.
    """

    drawing: Drawing
    caption: str
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Details:
    """Blocks that are folded away below a summary."""

    summary: str
    blocks: Sequence["Block"]


@dataclasses.dataclass(frozen=True)
class Columns:
    """Groups of blocks beside each other, each with its heading."""

    groups: Mapping[str, Sequence["Block"]]


@dataclasses.dataclass(frozen=True)
class Template:
    """A template of `templates/` with its values, for content that Markdown cannot show.

    Attributes:
      template: the template's file name.
      values: the values that the template uses; blocks among them are rendered with the filter `html`.
      markdown: the blocks for Markdown; their figures are files beside the page.
    """

    template: str
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    markdown: Sequence["Block"] = ()


Block: TypeAlias = Text | Heading | Table | Figure | Details | Columns | Template


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes:
      title: the section's heading; a section without one is not in the page's navigation.
      blocks: the section's content.
      data: the data of the page's script, as `data.<section's name>`; None for no data.
      atlas: the pictures that the script shows by position; all sections of a page share one atlas.
    """

    title: str
    blocks: Sequence[Block]
    data: Any = None
    atlas: Atlas | None = None


def figures(blocks: Sequence[Block]) -> Iterator[Figure]:
    """The figures among blocks and in the blocks that these hold."""
    for block in blocks:
        match block:
            case Figure():
                yield block
            case Details():
                yield from figures(block.blocks)
            case Columns():
                for group in block.groups.values():
                    yield from figures(group)
            case Template():
                yield from figures(block.markdown)


def figure_file(section: str, figure: Figure) -> str:
    """The name of a figure's file."""
    return f"{section}-{figure.name}.png" if figure.name else f"{section}.png"
