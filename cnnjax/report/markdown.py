"""Sections as Markdown, with figures as files beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnnjax.report.blocks import Block, Columns, Details, Figure, Heading, Section, Table, Template, Text, figure_file


def render_markdown(title: str, subtitle: str, sections: Mapping[str, Section], missing: Sequence[str] = ()) -> str:
    """The page in Markdown; arguments as for `page.render_page`."""
    parts = [f"# {title}", subtitle]
    if missing:
        parts.append("What is missing:\n\n" + "\n".join(f"- {sentence}" for sentence in missing))
    for name, section in sections.items():
        parts += [f"## {section.title}"] if section.title else []
        parts += _blocks(name, section.blocks)
    return "\n\n".join(parts) + "\n"


def _blocks(section: str, blocks: Sequence[Block]) -> list[str]:
    parts: list[str] = []
    for block in blocks:
        match block:
            case Text():
                parts.append(block.text)
            case Heading():
                parts.append(f"### {block.text}")
            case Table():
                parts.append(_table(block.columns, block.rows))
            case Figure():
                parts.append(f"![{block.caption}]({figure_file(section, block)})")
            case Details():
                parts += [f"### {block.summary}", *_blocks(section, block.blocks)]
            case Columns():
                for heading, group in block.groups.items():
                    parts += [f"### {heading}", *_blocks(section, group)]
            case Template():
                parts += _blocks(section, block.markdown)
    return parts


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
