"""A Sphinx extension that writes what the code itself says: the pages on commands, config fields, the API, models and studies.

The pages are written before each build, into folders that git ignores, and only where they have changed.
"""

import argparse
import functools
import hashlib
import importlib
import inspect
import json
import pkgutil
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx

import cnnjax
from cnnjax import models
from cnnjax.analysis.summary import Summary, summarize
from cnnjax.cli import COMMANDS, build_parser
from cnnjax.config import COMPONENTS, SECTIONS, SHARED, TOP, section_options, shipped_configs
from cnnjax.core.options import REQUIRED, Option, declared, describe
from cnnjax.models.published import Published
from cnnjax.transfer.torchvision import NETWORKS

DOCS = Path(__file__).parent
ROOT = DOCS.parent
# A summary of at most this many rows is shown layer by layer, a longer one block by block.
FEW_ROWS = 45


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the extension with Sphinx."""
    app.connect("autodoc-process-docstring", escape_markup)
    app.connect("builder-inited", lambda app: write_pages(Path(app.doctreedir).parent / "summaries.json"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_pages(cache: Path) -> None:
    """Writes the generated pages, and removes those that nothing generates any more.

    Args:
      cache: the file that keeps the models' summary tables from one build to the next.
    """
    pages = {
        "reference/commands.md": commands_page(),
        "reference/config.md": config_page(),
        "reference/configs.md": shipped_configs_page(),
        **api_pages(),
        **model_pages(cached_tables(cache)),
        **study_pages(),
    }
    for folder in ("reference/api", "reference/models", "studies"):
        for path in (DOCS / folder).rglob("*.md"):
            if path.relative_to(DOCS).as_posix() not in pages:
                path.unlink()
    for name, text in pages.items():
        write_if_changed(DOCS / name, text)
    for picture in (ROOT / "experiments" / "results").glob("*.png"):
        target = DOCS / "studies" / "results" / picture.name
        if not target.exists() or target.stat().st_mtime < picture.stat().st_mtime:
            shutil.copyfile(picture, target)


def write_if_changed(path: Path, text: str) -> None:
    """Writes a file unless it has that text, so that Sphinx reads changed pages alone."""
    if not path.exists() or path.read_text("utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


# ----- Markdown


def prose(text: str) -> str:
    """Plain text as Markdown: flags become code, and what would be markup outside of `code` is escaped.

    >>> prose("a*b of `x*y` <FILE>")
    'a\\\\*b of `x*y` \\\\<FILE\\\\>'
    """
    parts = re.split(r"(``[^`]+``|`[^`]+`|(?<![\w-])--[a-z][\w.=-]*\w)", " ".join(text.split()))
    for place, part in enumerate(parts):  # every second one was found
        if place % 2 == 0:
            parts[place] = re.sub(r"([\\*_<>\[\]{}|$#~])", r"\\\1", part)
        elif part.startswith("-"):
            parts[place] = code(part)
    return "".join(parts)


def code(value: Any) -> str:
    """A value as inline code."""
    return f"`{value}`"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """A Markdown table without the columns that are empty; `align` has an "r" for each column of numbers."""
    rows = list(rows)
    kept = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    columns, rows = [columns[place] for place in kept], [[row[place] for place in kept] for row in rows]
    rules = ["--:" if align[place : place + 1] == "r" else "---" for place in kept]
    cells = [[cell.replace("|", "\\|") if cell.startswith("`") else cell for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, rules, *cells)) + "\n"


def paragraphs(docstring: str) -> str:
    """A module's docstring without its first line: paragraphs as prose, indented blocks as code."""
    _, _, rest = inspect.cleandoc(docstring).partition("\n")
    blocks = [block for block in rest.strip("\n").split("\n\n") if block.strip()]
    return "\n\n".join(
        f"```text\n{textwrap.dedent(block)}\n```" if block.startswith("  ") else prose(block) for block in blocks
    )


def toctree(names: Iterable[str]) -> str:
    """A hidden table of contents."""
    return "```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```\n"


# ----- Commands


def commands_page() -> str:
    """The page on the command line, of the commands' own parsers."""
    subparsers = next(action for action in build_parser(None)._actions if isinstance(action.choices, dict))
    parts = [
        "# Commands",
        "Every command takes `--help`, and `--debug` for the traceback of an error. Flags are spelled with hyphens; "
        "underscores are understood. Where a command takes `--config`, any field is set by `--config.SECTION.FIELD=VALUE`: "
        "[config fields](config.md).",
    ]
    for group, names in COMMANDS.items():
        parts.append(f"## {group.capitalize()}")
        for name in names:
            parts.append(f"### cnnjax {name}\n\n{parser_text(subparsers.choices[name])}")
    return "\n\n".join(parts) + "\n"


def parser_text(parser: argparse.ArgumentParser) -> str:
    """What a parser says: its description, usage and arguments; of those within it, too."""
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    described = [
        action
        for action in parser._actions
        if action not in nested and action.dest not in ("help", "debug") and action.help != argparse.SUPPRESS
    ]
    first, *others = re.sub(r" \[-h\]| \[--debug\]", "", parser.format_usage()).removeprefix("usage: ").splitlines()
    usage = "\n".join([first, *(line.removeprefix(" " * len("usage: ")) for line in others)])
    description = (parser.description or "").strip()
    parts = [prose(description[:1].upper() + description[1:] + "."), f"```none\n{usage}\n```"]
    parts += [f"{argument_name(action)}\n: {argument_meaning(action, parser)}" for action in described]
    if parser.epilog:
        parts.append(prose(parser.epilog))
    for action in nested:
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, inner in action.choices.items():
            inner.description = inner.description or helps.get(name)
            parts.append(f"**{parser.prog} {name}**\n\n{parser_text(inner)}")
    return "\n\n".join(parts)


def argument_name(action: argparse.Action) -> str:
    """An argument as it is typed, with the name of its value."""
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    value = " ".join(value) if isinstance(value, tuple) else value
    flags = ", ".join(action.option_strings)
    return code(value if not flags else flags if action.nargs == 0 else f"{flags} {value}")


def argument_meaning(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """An argument's help, with its default where the help does not say it."""
    text = (action.help or "") % {"default": action.default, "prog": parser.prog}
    usual = action.default
    says = "default" in text or usual in (None, False, True, [], (), argparse.SUPPRESS) or action.nargs == 0
    choices = f"; one of {', '.join(map(str, action.choices))}" if action.choices and action.metavar else ""
    required = " (required)" if action.required and action.option_strings else ""
    return prose(text + choices + ("" if says else f" (default: {usual})") + required)


# ----- Config


def config_page() -> str:
    """The page on the config's fields, of the components' declarations."""
    parts = [
        "# Config fields",
        "Every field that a config can set, by section; `cnnjax fields SECTION` prints the same, and `cnnjax fields --config "
        "FILE` the fields of the components that a config chooses, your own too. A field is set in a config file, on the "
        'command line (`--config.train.epochs=5`) or in `load_config(FILE, {"train.epochs": 5})`.',
        "## Fields of no section",
        fields_table("", TOP),
    ]
    for section in SECTIONS:
        parts += [f"## {section}", fields_table(section, section_options(section))]
    for section, (registry, default) in COMPONENTS.items():
        parts += [f"## {section}", f"`{section}.name` chooses one of the following; the default is `{default}`."]
        if section == "model":
            parts[-1] = (
                f"`model.name` chooses a network (default `{default}`), whose options are the section's other fields. Each "
                "family has a page with its options: [models](models/index.md)."
            )
            continue
        shared = SHARED.get(section, {})
        if shared:
            parts += [f"Fields of every {section}:", fields_table(section, shared)]
        for name, build in registry.items():
            own = {key: option for key, option in section_options(section, name).items() if key not in shared}
            parts += [f"### {section}: {name}", prose(first_line(build))]
            parts += [fields_table(section, own)] if own else ["No further fields."]
    return "\n\n".join(parts) + "\n"


def first_line(component: Callable[..., Any]) -> str:
    """The first sentence of a component's docstring."""
    while isinstance(component, functools.partial):
        component = component.func
    return (inspect.getdoc(component) or "").partition("\n\n")[0]


def fields_table(section: str, options: Mapping[str, Option]) -> str:
    """The table of a section's fields."""
    rows = [
        (
            code(f"{section}.{name}" if section else name),
            "must be set" if option.default is REQUIRED else code(repr(option.default)),
            prose(option.meaning or describe(option.type)),
        )
        for name, option in options.items()
    ]
    return table(("field", "default", "meaning"), rows)


def shipped_configs_page() -> str:
    """The page on the configs that come with cnnjax: what each is, how it is run, its result, and its text."""
    parts = [
        "# Shipped configs",
        "The configs that come with cnnjax, with the command and the measured result of each. `cnnjax train --config NAME` works "
        "in any folder.",
    ]
    for name, path in shipped_configs().items():
        text = path.read_text("utf-8")
        parts.append(f"## {name}\n\n```python\n{text.strip()}\n```")
    return "\n\n".join(parts) + "\n"


# ----- API


def public_modules() -> list[str]:
    """The modules that have a list of public names, cnnjax itself first."""
    package = Path(cnnjax.__file__).parent
    folders = [path.parent.relative_to(package.parent) for path in package.rglob("__init__.pyi")]
    return sorted(".".join(folder.parts) for folder in folders)


def api_pages() -> dict[str, str]:
    """A page for each module with public names, of the docstrings, and a page that lists the modules."""
    pages, documented = {}, {}
    for module_name in public_modules():
        module = importlib.import_module(module_name)
        blocks, elsewhere = [], []
        for name in sorted(module.__all__, key=str.lower):
            thing = getattr(module, name)
            if id(thing) in documented:
                elsewhere.append(f"{{py:obj}}`{documented[id(thing)]}`")
                continue
            documented[id(thing)] = f"{module_name}.{name}"
            blocks.append(directive(module_name, name, thing))
        parts = [f"# {module_name}", prose(first_line(module)), paragraphs(module.__doc__ or "")]
        parts += [f"Also here: {', '.join(elsewhere)}."] if elsewhere else []
        pages[f"reference/api/{module_name}.md"] = "\n\n".join(filter(None, [*parts, *blocks])) + "\n"
    rows = [(f"[`{name}`]({name}.md)", prose(first_line(importlib.import_module(name)))) for name in public_modules()]
    text = "# Python API\n\nThe public names by module, from their docstrings.\n\n" + table(("module", ""), rows)
    pages["reference/api/index.md"] = text + "\n" + toctree(public_modules())
    return pages


def directive(module: str, name: str, thing: Any) -> str:
    """The autodoc directive of a public name."""
    if inspect.isclass(thing):
        kind, members = "autoclass", ":members:\n"
    elif callable(thing):
        kind, members = "autofunction", ""
    else:
        return f"```{{py:data}} {module}.{name}\n:type: {type(thing).__name__}\n```"
    return f"```{{eval-rst}}\n.. {kind}:: {module}.{name}\n" + (f"   {members}" if members else "") + "```"


def escape_markup(app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Escapes what reStructuredText takes for markup in docstrings that mean it as mathematics: |x - y| and *shape."""
    for place, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(`+[^`]+`+)", line)
            escaped = (re.sub(r"\||(?<=[\s(,])\*(?=\w)", r"\\\g<0>", part) for part in parts)
            lines[place] = "".join(
                part if part.startswith("`") else new for part, new in zip(parts, escaped, strict=True)
            )


# ----- Models


def families() -> Iterator[tuple[str, ModuleType]]:
    """The files of architectures that have published figures: name and module."""
    for found in pkgutil.iter_modules(models.__path__):
        module = importlib.import_module(f"cnnjax.models.{found.name}")
        if hasattr(module, "PUBLISHED"):
            yield found.name, module


def model_pages(tables: Mapping[str, str]) -> dict[str, str]:
    """A page for each family of networks, of their published figures, and a page that compares all networks.

    Args:
      tables: the summary table of each network, in Markdown.
    """
    pages, rows = {}, []
    for family, module in families():
        pages[f"reference/models/{family}.md"] = family_page(family, module, tables)
        rows += [
            (f"[`{name}`]({family}.md)", *figures(row), prose(row.result)) for name, row in module.PUBLISHED.items()
        ]
    listed = table(("network", "parameters", "MACs", "image", "published result"), rows, "-rr")
    text = (
        "# Models\n\nEach architecture is one file of `cnnjax/models` that reads like its paper's table. Parameters, multiply-adds "
        "(MACs) and receptive fields are tested against the published ones. Parameters are those that prediction uses. `cnnjax "
        "models` prints this table; `cnnjax summary NAME` the layers of one.\n\n"
    )
    pages["reference/models/index.md"] = text + listed + "\n" + toctree(family for family, _ in families())
    return pages


def figures(row: Published) -> tuple[str, str, str]:
    """Parameters, multiply-adds and image of a network, as this implementation has them."""
    counted = [f"{count:,}" for count in row.counts or ()] or ["", ""]
    return counted[0], counted[1], "x".join(map(str, row.image_shape))


def family_page(family: str, module: ModuleType, tables: Mapping[str, str]) -> str:
    """The page of a family of networks."""
    weights = {ours: theirs for theirs, ours in NETWORKS.items()}
    ours = [
        (code(name), *figures(row), str(row.num_classes), code(weights[name]) if name in weights else "")
        for name, row in module.PUBLISHED.items()
    ]
    theirs = [
        (
            code(name),
            prose(row.source),
            "" if row.parameters is None else f"{row.parameters:,}",
            "" if row.macs is None else f"{row.macs:,}",
            prose(row.result),
        )
        for name, row in module.PUBLISHED.items()
    ]
    first, title = next(iter(module.PUBLISHED)), re.split(r"[:.]", first_line(module))[0]
    parts = [
        f"# {prose(title)}",
        "" if first_line(module) == f"{title}." else prose(first_line(module)),
        paragraphs(module.__doc__),
        "## Networks",
        "As this implementation counts them, without what only training uses:",
        table(("network", "parameters", "MACs", "image", "classes", "torchvision weights"), ours, "-rr-r"),
        "As the source gives them:",
        table(("network", "source", "parameters", "MACs", "result"), theirs, "--rr"),
        "## Use",
        f'```python\nimport cnnjax\n\nmodel = cnnjax.create_model("{first}", num_classes=10)\n```',
        f"```sh\ncnnjax summary {first}\n```",
        "## Options",
        "Fields of the config's section `model`, and arguments of `create_model`. The defaults are those of the first network "
        "that has the option.",
        fields_table(
            "model", {k: o for row in reversed(module.PUBLISHED.values()) for k, o in declared(row.build).items()}
        ),
        "## Layers",
    ]
    for name in module.PUBLISHED:
        parts.append(f"### {name}\n\n{tables[name]}")
    return "\n\n".join(filter(None, parts)) + "\n"


def cached_tables(cache: Path) -> dict[str, str]:
    """The summary table of each network, read from a file where neither the models nor what counts them have changed."""
    package = Path(cnnjax.__file__).parent
    sources = [package / "analysis" / "summary.py", Path(__file__)]
    sources += [path for folder in ("models", "layers", "ops") for path in sorted((package / folder).glob("*.py"))]
    fingerprint = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    kept = json.loads(cache.read_text("utf-8")) if cache.exists() else {}
    if kept.get("fingerprint") != fingerprint:
        kept = {"fingerprint": fingerprint, "tables": {name: summary_table(summarize(name)) for name in models.MODELS}}
        write_if_changed(cache, json.dumps(kept))
    return kept["tables"]


def summary_table(summary: Summary) -> str:
    """A network's summary as a Markdown table: its layers, or its blocks where there are many layers."""
    shown = summary if len(summary.layers) <= FEW_ROWS else summary.folded(1)
    note = "" if shown is summary else f"{len(summary.layers)} layers, shown by block.\n\n"
    columns, rows = shown.table()
    return note + table(columns, [[prose(cell) for cell in row] for row in rows], "----rrrr")


# ----- Studies


def study_pages() -> dict[str, str]:
    """The pages of the studies and of the speed measurements, as `experiments/` has them."""
    experiments = ROOT / "experiments"
    results = sorted((experiments / "results").glob("*.md"))
    measured = sorted((experiments / "benchmarks" / "results").glob("*.md"), reverse=True)
    pages = {f"studies/results/{path.name}": path.read_text("utf-8") for path in results}
    pages |= {f"studies/benchmarks/{path.name}": titled(path) for path in measured}
    names = [*(f"results/{path.stem}" for path in results), "benchmarks/index"]
    index = re.sub(
        r'<img src="(\S+)" width="(\d+)">', r"![](\1){width=\2}", (experiments / "README.md").read_text("utf-8")
    )
    pages["studies/index.md"] = index + "\n" + toctree(names)
    lines = "\n".join(f"- [{path.stem}]({path.name})" for path in measured)
    pages["studies/benchmarks/index.md"] = (
        "# Speed measurements\n\nThe tables as the benchmarks wrote them, the newest first; what they show is on the page on "
        f"[speed](../../explanation/speed.md).\n\n{lines}\n\n" + toctree(path.stem for path in measured)
    )
    return pages


def titled(path: Path) -> str:
    """A measurement's page, whose title has the date and the machine from its file's name."""
    title, _, rest = path.read_text("utf-8").partition("\n")
    return f"{title}: {path.stem.replace('_', ' ')}\n{rest}"
