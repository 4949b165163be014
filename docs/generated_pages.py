"""A Sphinx extension that generates pages from the code: on commands, config fields, the API, models and studies.

The pages are written before each build, into folders that git ignores, and only if they have changed.
"""

import argparse
import functools
import hashlib
import importlib
import inspect
import json
import math
import pkgutil
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

from sphinx.application import Sphinx

import cnnjax
from cnnjax import models
from cnnjax.analysis.summary import Summary, summarize
from cnnjax.cli import COMMANDS, build_parser
from cnnjax.config import COMPONENTS, SECTIONS, SHARED, TOP, name_first, section_options
from cnnjax.core.locate import shipped_configs
from cnnjax.core.options import REQUIRED, Option, declared, describe
from cnnjax.models.published import Published
from cnnjax.transfer.published_weights import PUBLISHED_WEIGHTS, address
from cnnjax.transfer.torchvision import NETWORKS
from experiments.benchmarks import networks as measured_networks

DOCS = Path(__file__).parent
ROOT = DOCS.parent


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the extension with Sphinx."""
    app.connect("autodoc-process-docstring", escape_markup)
    app.connect("autodoc-process-signature", short_signature)
    app.connect("builder-inited", lambda app: write_pages(Path(app.doctreedir).parent / "summaries.json"))
    app.connect("build-finished", lambda app, error: error or write_llms_txt(app))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_pages(cache: Path) -> None:
    """Writes the generated pages, and removes pages that are no longer generated.

    Args:
      cache: the file in which the summary tables of the models are cached between builds.
    """
    pages = {
        "reference/commands.md": commands_page(),
        "reference/config.md": config_page(),
        "reference/configs.md": shipped_configs_page(),
        **api_pages(),
        **model_pages(cached_summaries(cache)),
        **study_pages(),
    }
    for folder in ("reference/api", "reference/models", "studies"):
        for path in (DOCS / folder).rglob("*.md"):
            if path.relative_to(DOCS).as_posix() not in pages:
                path.unlink()
    for name, text in pages.items():
        write_if_changed(DOCS / name, text)
    for picture in (ROOT / "experiments" / "results").glob("*.[ps][nv]g"):
        target = DOCS / "studies" / "results" / picture.name
        if not target.exists() or target.stat().st_mtime < picture.stat().st_mtime:
            shutil.copyfile(picture, target)


def write_llms_txt(app: Sphinx) -> None:
    """Writes `llms.txt` (llmstxt.org) beside the pages: each page's title and address, by the index's order, for a language model."""
    found, titles = app.env.found_docs, app.env.titles
    lines = ["# cnnjax", "", f"> {first_line(cnnjax)}", ""]
    for part in app.env.toctree_includes["index"]:
        folder = part.removesuffix("index")
        pages = [part] if folder == part else sorted(name for name in found if name.startswith(folder))
        lines += [f"## {titles[part].astext()}", ""]
        lines += [*(f"- [{titles[name].astext()}]({name}.html)" for name in pages), ""]
    write_if_changed(Path(app.outdir) / "llms.txt", "\n".join(lines))


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
    """The page on the command line, from the parsers of the commands."""
    subparsers = next(action for action in build_parser(None)._actions if isinstance(action.choices, dict))
    parts = [
        "# Commands",
        "Every command takes `--help`, and `--debug` for the traceback of an error. Flags are spelled with hyphens; "
        "underscores are accepted. If a command takes `--config`, any field can be set by `--config.SECTION.FIELD=VALUE` "
        "([config fields](config.md)).",
    ]
    for group, names in COMMANDS.items():
        parts.append(f"## {group.capitalize()}")
        for name in names:
            parts.append(f"### cnnjax {name}\n\n{parser_text(subparsers.choices[name])}")
    return "\n\n".join(parts) + "\n"


def parser_text(parser: argparse.ArgumentParser) -> str:
    """The description, usage and arguments of a parser and of its subparsers."""
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
    """An argument's help, with its default if the help does not state it."""
    text = (action.help or "") % {"default": action.default, "prog": parser.prog}
    usual = action.default
    says = "default" in text or usual in (None, False, True, [], (), argparse.SUPPRESS) or action.nargs == 0
    choices = f"; one of {', '.join(map(str, action.choices))}" if action.choices and action.metavar else ""
    required = " (required)" if action.required and action.option_strings else ""
    return prose(text + choices + ("" if says else f" (default: {usual})") + required)


# ----- Config


def config_page() -> str:
    """The page on the config's fields, from the declarations of the components."""
    parts = [
        "# Config fields",
        "Every field of a config, by section. `cnnjax fields SECTION` prints the same, and `cnnjax fields --config "
        "FILE` the fields of the components of a config, including your own. A field is set in a config file, on the "
        'command line (`--config.train.epochs=5`) or in `load_config(FILE, {"train.epochs": 5})`.',
        "## Fields without a section",
        fields_table("", TOP),
    ]
    for section in SECTIONS:
        parts += [f"## {section}", fields_table(section, dict(name_first(section_options(section))))]
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
    """The page on the configs that are part of cnnjax: their texts, with commands and results."""
    parts = [
        "# Shipped configs",
        "The configs that are part of cnnjax, each with its command and measured result. `cnnjax train --config NAME` works "
        "in any folder.",
    ]
    for name, path in shipped_configs().items():
        text = path.read_text("utf-8")
        parts.append(f"## {name}\n\n```python\n{text.strip()}\n```")
    return "\n\n".join(parts) + "\n"


# ----- API


# Modules of public names, besides those whose names are imported when they are first used.
LISTED = "cnnjax.ablation.spaces", "cnnjax.detection", "cnnjax.layers"


def public_modules() -> list[str]:
    """The modules that have a list of public names, cnnjax itself first."""
    package = Path(cnnjax.__file__).parent
    folders = [path.parent.relative_to(package.parent) for path in package.rglob("__init__.pyi")]
    return sorted({".".join(folder.parts) for folder in folders} | set(LISTED))


def api_pages() -> dict[str, str]:
    """A page for each module with public names, from the docstrings, and a page that lists the modules."""
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
    """The autodoc directive of a public name; a choice of words is listed."""
    if get_origin(thing) is Literal:
        return (
            f"```{{py:data}} {module}.{name}\n\nOne of {', '.join(code(repr(word)) for word in get_args(thing))}.\n```"
        )
    if inspect.isclass(thing):
        kind, members = "autoclass", ":members:\n"
    elif callable(thing):
        kind, members = "autofunction", ""
    else:
        return f"```{{py:data}} {module}.{name}\n:type: {type(thing).__name__}\n```"
    return f"```{{eval-rst}}\n.. {kind}:: {module}.{name}\n" + (f"   {members}" if members else "") + "```"


def escape_markup(app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Escapes mathematics in docstrings that reStructuredText would read as markup: |x - y| and *shape."""
    for place, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(`+[^`]+`+)", line)
            escaped = (re.sub(r"\||(?<=[\s(,])\*(?=\w)", r"\\\g<0>", part) for part in parts)
            lines[place] = "".join(
                part if part.startswith("`") else new for part, new in zip(parts, escaped, strict=True)
            )


def short_signature(
    app: Sphinx, kind: str, name: str, thing: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """A signature in short: types by their last name, functions as "...", and without the fields that Flax adds to a module."""
    return tuple(
        text and functools.reduce(lambda text, rule: re.sub(*rule, text), SHORTER, text)
        for text in (signature, returned)
    )


# What is replaced in signatures, and by what.
SHORTER = (
    (r", parent: .*?, name: str \| None = None", ""),
    (r"~(?:\w+\.)+(\w+)", r"\1"),
    (r"jaxlib\._jax\.Array", "Array"),
    (r"<function (?:[^<>]|<[^<>]*>)*>", "..."),
)


# ----- Models


def families() -> Iterator[tuple[str, ModuleType]]:
    """The files of architectures that have published figures: name and module."""
    for found in pkgutil.iter_modules(models.__path__):
        module = importlib.import_module(f"cnnjax.models.{found.name}")
        if hasattr(module, "PUBLISHED"):
            yield found.name, module


def model_pages(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """A page for each family of networks, from their published figures, and a page that compares all networks.

    Args:
      summaries: the summary of each network, from `cached_summaries`.
    """
    pages, rows = {}, []
    for family, module in families():
        pages[f"reference/models/{family}.md"] = family_page(module, summaries)
        rows += [
            (f"[`{name}`]({family}.md)", *figures(row), prose(row.result)) for name, row in module.PUBLISHED.items()
        ]
    listed = table(("network", "parameters", "MACs", "image", "published result"), rows, "-rr")
    text = (
        "# Models\n\nEach architecture is one file of `cnnjax/models` that reads like its paper's table. Parameters, multiply-adds "
        "(MACs) and receptive fields are tested against the published ones. Parameters are those used in prediction. `cnnjax "
        "models` prints this table, `cnnjax summary NAME` the layers of a network.\n\n"
    )
    pages["reference/models/index.md"] = text + listed + "\n" + toctree(family for family, _ in families())
    return pages


def figures(row: Published) -> tuple[str, str, str]:
    """Parameters, multiply-adds and image of a network in this implementation."""
    counted = [f"{count:,}" for count in row.counts or ()] or ["", ""]
    return counted[0], counted[1], "x".join(map(str, row.image_shape))


def family_page(module: ModuleType, summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of a family of networks."""
    ours = [
        (code(name), *figures(row), summaries[name]["receptive_field"], str(row.num_classes))
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
        "In this implementation, without parts that are only used in training. The receptive field is that of the last feature "
        "map, in pixels (the whole image after a mean over a map, as in squeeze-and-excitation):",
        table(("network", "parameters", "MACs", "image", "receptive field", "classes"), ours, "-rr-rr"),
        "As published:",
        table(("network", "source", "parameters", "MACs", "result"), theirs, "--rr"),
        *elsewhere(module),
        *weights(module),
        *speed(module),
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
        parts.append(f"### {name}\n\n{summaries[name]['table']}")
    return "\n\n".join(filter(None, parts)) + "\n"


def elsewhere(module: ModuleType) -> list[str]:
    """The differences of a family's networks from torchvision's and Keras's, from its file."""
    title = "## In torchvision and Keras"
    if not hasattr(module, "DIFFERENCES"):
        return [title, "Neither `torchvision.models` nor `keras.applications` has a network of this family."]
    return [title, "\n".join(f"- **{where}**: {prose(text)}" for where, text in module.DIFFERENCES.items())]


def weights(module: ModuleType) -> list[str]:
    """The published weights of a family's networks: torchvision's with their addresses, and Keras's."""
    keras = [
        f"`cnnjax.load_keras({row.keras.name!r}, FILE)` loads Keras's weights of `{name}` ([how](../../howto/weights.md#kerass-weights))."
        for name, row in module.PUBLISHED.items()
        if row.keras
    ]
    listed = [*torchvision_weights(module), *(["\n".join(f"- {line}" for line in keras)] if keras else [])]
    none = "Neither torchvision nor Keras publishes weights of these networks, so that they are trained from random initial values."
    return ["## Weights", *(listed or [none])]


def torchvision_weights(module: ModuleType) -> list[str]:
    """The weights that torchvision publishes for a family's networks, with their addresses."""
    ours = {theirs: name for theirs, name in NETWORKS.items() if name in module.PUBLISHED}
    rows = [
        (
            code(ours[row.network]),
            code(row.name),
            f"[{code(row.file)}]({address(row)})",
            f"{row.mebibytes} MiB",
            *(f"{figure:.3f}" for figure in (row.top1, row.top5) if figure is not None),
            *(f"{figure:.1f}" for figure in (row.mean_iou, row.pixel_accuracy, row.box_map) if figure is not None),
            *(("an encoder's only", "") if row.empty else ()),
        )
        for row in PUBLISHED_WEIGHTS
        if row.network in ours
    ]
    if not rows:
        return []
    tasks = {row.task for row in module.PUBLISHED.values()}
    if "segmentation" in tasks:
        figures, measured = ("mean IoU, %", "pixel accuracy, %"), "Measured on COCO val2017 with Pascal VOC's labels"
    elif "detection" in tasks:
        figures, measured = ("AP, %",), "Average precision (mean over IoU 0.5 to 0.95) on COCO val2017"
    else:
        figures = "top-1 accuracy, %", "top-5 accuracy, %"
        measured = "Accuracies on ImageNet's validation split, one central crop"
    listed = table(("network", "weights", "file", "size", *figures), rows, "---rrr")
    use = (
        '`initial.weights="torchvision"` starts a training from the first of them; [trained weights](../../howto/weights.md) describes '
        f"the others, and the use without a network connection. {measured}, as stated by torchvision 0.29.1."
    )
    return [use, listed]


# The measurements that have rows of networks and the ways to run them.
SPEED_TITLES = "Training steps and predictions", "Families of networks"


def speed(module: ModuleType) -> list[str]:
    """The measured speed of a family's networks: the newest row of each network for each kind of device and JAX, PyTorch's time beside it."""
    newest: dict[tuple[str, ...], tuple[str, ...]] = {}
    paths = sorted((ROOT / "experiments" / "benchmarks" / "results").glob("*.json"))
    for measured in sorted(
        (json.loads(path.read_text("utf-8")) for path in paths), key=lambda one: one["machine"]["date"]
    ):
        if measured["title"] not in SPEED_TITLES:
            continue
        machine = measured["machine"]
        for result in measured["results"]:
            if result["network"].startswith("drawn-"):
                continue
            network, modes = measured_networks.network_of(result["network"]), result["modes"]
            if network.model not in module.PUBLISHED or "cnnjax" not in modes:
                continue
            device = modes["cnnjax"]["device"]
            options = "".join(f", {key} {value}" for key, value in network.options.items())
            what = {"train": "training step", "latency": "prediction", "throughput": "prediction"}[result["what"]]
            key = (
                code(network.model) + options,
                "x".join(map(str, network.image_shape)),
                what,
                str(result["images"]),
                result["precision"],
                f"{machine['cores']} cores of {machine['processor']}" if device == "cpu" else device,
                machine["packages"]["jax"],
            )
            theirs = [mode["median_seconds"] for name, mode in modes.items() if name.startswith("torch")]
            version = machine["packages"].get("torch", "").partition("+")[0]
            newest[key] = (
                milliseconds(modes["cnnjax"]["median_seconds"]),
                milliseconds(min(theirs)) if theirs else "",
                version if theirs else "",
                machine["date"],
            )
    rows = [(*key[:-1], ours, theirs, key[-1], *others) for key, (ours, theirs, *others) in sorted(newest.items())]
    columns = (
        "network",
        "image",
        "what",
        "images",
        "precision",
        "device",
        "cnnjax, ms",
        "PyTorch, ms",
        "JAX version",
        "PyTorch version",
        "date",
    )
    more = (
        "Medians of [the benchmarks](../../studies/benchmarks/index.md); PyTorch is the fastest of its ways to run the same network, in turns "
        "with cnnjax in the same run. [Speed](../../explanation/speed.md) has more."
    )
    if not rows:
        more = "The speed of these networks has not been measured. [Speed](../../explanation/speed.md) has the measured ones."
    return ["## Speed", more, *([table(columns, rows, "---r--rr")] if rows else [])]


def milliseconds(seconds: float) -> str:
    """A time in milliseconds, to three digits or a whole number.

    >>> milliseconds(1.4391), milliseconds(0.008874)
    ('1,439', '8.87')
    """
    return f"{1000 * seconds:,.0f}" if seconds >= 0.1 else f"{1000 * seconds:.3g}"


def cached_summaries(cache: Path) -> dict[str, dict[str, str]]:
    """The summary table and the receptive field of each network, from a cache unless the models or the summary have changed."""
    package = Path(cnnjax.__file__).parent
    sources = [package / "analysis" / "summary.py", package / "analysis" / "diagram.py", package / "core" / "html.py"]
    sources.append(Path(__file__))
    sources += [path for folder in ("models", "layers", "ops") for path in sorted((package / folder).glob("*.py"))]
    fingerprint = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    kept = json.loads(cache.read_text("utf-8")) if cache.exists() else {}
    if kept.get("fingerprint") != fingerprint:
        summaries = {name: summarize(name) for name in models.MODELS}
        content = {
            name: {"table": summary_table(summary), "receptive_field": receptive_field(summary)}
            for name, summary in summaries.items()
        }
        kept = {"fingerprint": fingerprint, "summaries": content}
        write_if_changed(cache, json.dumps(kept))
    return kept["summaries"]


def receptive_field(summary: Summary) -> str:
    """The receptive field of a network's last feature map; "" if it has none.

    After a mean over a whole map, as in squeeze-and-excitation, each value depends on the whole image.
    """
    maps = [layer for layer in summary.layers if len(layer.output_shape) > 1]
    means = [place for place, layer in enumerate(summary.layers) if layer.operation == "global-pool"]
    if means and any(math.prod(layer.output_shape[:-1]) > 1 for layer in summary.layers[means[0] :]):
        return "whole image"
    return str(max(layer.receptive_field for layer in maps)) if maps else ""


def summary_table(summary: Summary) -> str:
    """A network's summary as a drawing and a Markdown table: its layers, or its blocks if there are many layers."""
    shown = summary.blocks()
    note = "" if shown is summary else f"{len(summary.layers)} layers, shown by block.\n\n"
    columns, rows = shown.table()
    drawing = f"<div>{shown.svg()}</div>\n\n"
    return note + drawing + table(columns, [[prose(cell) for cell in row] for row in rows], "----rrrr")


# ----- Studies


def study_pages() -> dict[str, str]:
    """The pages of the studies and of the speed measurements in `experiments/`."""
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
    """The page of a measurement; its title has the date and the machine from the file's name."""
    title, _, rest = path.read_text("utf-8").partition("\n")
    return f"{title}: {path.stem.replace('_', ' ')}\n{rest}"
