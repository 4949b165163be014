"""Reports: what a run, or several beside each other, learned and where it fails, as one page for a browser.

The page holds its pictures, styles and script, and needs no network. `report.md` says the same with the figures as PNG
files beside it.
"""

import contextlib
import dataclasses
import html
import importlib.resources
import json
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.analysis import pictures
from cnnjax.analysis.curves import short_names
from cnnjax.core import files
from cnnjax.report import comparison, sections
from cnnjax.report.markup import finite
from cnnjax.report.material import EXPECTED, Material, gather, one_line
from cnnjax.report.sections import Section
from cnnjax.training import run_directory


@dataclasses.dataclass(frozen=True)
class Written:
    """What `write_report` wrote.

    Attributes:
      page: the HTML file.
      folder: where `report.md` and the figures are.
      missing: a sentence on each thing that a whole run has and this one, or one of these, has not.
    """

    page: Path
    folder: Path
    missing: tuple[str, ...]


def write_report(
    workdirs: str | Path | Sequence[str | Path], out: str | Path | None = None, examples: int = 10_000
) -> Written:
    """Writes the report of a run, or of several compared.

    Args:
      workdirs: the run directory, or several.
      out: the page; None is RUN/report/index.html, of several runs comparison/index.html. With another page than these the
        figures and `report.md` go to a folder of its name and "_files".
      examples: so many of the test split are judged, its first.

    Raises:
      FileNotFoundError: a directory holds no run, or there is no folder for `out`.
      ValueError: no run is given, one is given twice, or `out` is no name of a page.
    """
    given = [workdirs] if isinstance(workdirs, str | Path) else list(workdirs)
    paths = [Path(workdir).expanduser() for workdir in given]
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        raise ValueError("report: expected one run directory, or several different ones")
    if examples < 1:
        raise ValueError(f"report: examples={examples}: expected at least 1")
    page, folder = places(paths, None if out is None else Path(out).expanduser())
    named = dict(zip(short_names([path.resolve().parts for path in paths]), paths, strict=True))
    materials = {name: gather(path, examples) for name, path in named.items()}
    found, style, layout, lost = several(materials) if len(materials) > 1 else single(*materials.items())
    missing = [
        sentence if len(materials) == 1 else f"{name}: {sentence}"
        for name, material in materials.items()
        for sentence in material.missing
    ] + lost
    title = " · ".join(materials)
    subtitle = "; ".join(dict.fromkeys(map(described, materials.values())))
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {name: figure for section in found for name, figure in section.figures.items()}
    for name, figure in drawn.items():
        pictures.save(figure, folder / f"{name}.png")
    for name in FIGURES - drawn.keys():  # of an earlier report
        (folder / f"{name}.png").unlink(missing_ok=True)
    files.write_atomically(folder / "report.md", markdown(title, subtitle, found, missing))
    files.write_atomically(page, hypertext(title, subtitle, found, missing, style, layout))
    return Written(page, folder, tuple(missing))


# What a report may have drawn.
FIGURES = {
    "attribution", "calibration", *(f"calibration-{number}" for number in range(1, 21)), "confusion", "curves", "disagreements",
    "embedding", "feature_maps", "filters", "histograms", "hits", "mistakes",
}  # fmt: skip


def places(workdirs: Sequence[Path], out: Path | None) -> tuple[Path, Path]:
    """The page, and the folder of its figures."""
    if out is None:
        folder = workdirs[0] / run_directory.REPORT if len(workdirs) == 1 else Path("comparison")
        return folder / "index.html", folder
    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{out}: expected a name that ends in .html")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: there is no folder {out.parent}")
    return out, out.with_name(f"{out.stem}_files")


def described(material: Material) -> str:
    """The network and the data in a few words."""
    if material.config is None:
        return "a damaged config"
    return f"{material.config.model.name} on {material.config.dataset.name}"


Parts = tuple[list[Section], str, dict[str, int], list[str]]


@contextlib.contextmanager
def noting(lost: list[str], what: str) -> Iterator[None]:
    """Within the block, what cannot be drawn becomes a sentence."""
    try:
        yield
    except EXPECTED as error:
        lost.append(f"{what} could not be shown: {one_line(error)}")


def single(named: tuple[str, Material]) -> Parts:
    """The sections of one run's page; the style that holds its pictures and their layout; what could not be shown."""
    name, material = named
    found: list[Section | None] = [sections.headline(material), sections.diagnosis(material)]
    found.append(sections.training({name: material}))
    style, layout, lost = "", {}, []
    run, test = material.run, material.test
    if test is not None:
        chosen = sections.atlas_examples(test)
        places = {index: place for place, index in enumerate(chosen)}
        style, layout = sections.atlas_style(test, chosen)
        found += [
            sections.mistakes(material, places),
            sections.calibrated({name: material}),
            sections.gallery(material),
        ]
    if run is not None:
        found.append(sections.first_filters(material))
    if run is not None and test is not None:
        # All images that are looked at closely go through the network's normalisation in one batch.
        first, closely = sections.embedded(test), sections.chosen_examples(test)
        inputs = run.network_inputs(test.pixels[[*range(first), *closely]])
        near, images = inputs[first:], inputs[:first]
        with noting(lost, "Feature maps"):
            found.append(sections.inside(material, near, closely))
        with noting(lost, "Attribution"):
            found.append(sections.evidence(material, near, closely))
        with noting(lost, "Histograms"):
            found.append(sections.spreads(material, images, test.labels[:first]))
        with noting(lost, "The embedding"):
            found.append(sections.embedding(material, images, places))
    if material.model is not None:
        found.append(sections.network(material))
    if material.config is not None:
        found.append(sections.settings(material))
    found.append(sections.environment(material))
    return [section for section in found if section is not None], style, layout, lost


def several(materials: Mapping[str, Material]) -> Parts:
    """The same of a page that compares runs."""
    found = [
        comparison.compared_figures(materials),
        sections.training(materials),
        comparison.paired(materials),
        comparison.config_differences(materials),
        comparison.diagnoses(materials),
        sections.calibrated(materials),
        comparison.environments(materials),
    ]
    return [section for section in found if section is not None], "", {}, []


def hypertext(
    title: str,
    subtitle: str,
    found: Sequence[Section],
    missing: Sequence[str],
    style: str,
    layout: Mapping[str, int],
) -> str:
    """The page, whole."""
    page = importlib.resources.files("cnnjax.report") / "report_page"
    data: dict[str, Any] = {"atlas": layout}
    for section in found:
        data |= section.data
    content = json.dumps(finite({key: _rounded(value) for key, value in data.items()}), allow_nan=False)
    links = "".join(f'<a href="#{s.anchor}">{html.escape(s.title)}</a>' for s in found if s.title)
    body = "".join(
        f'<section id="{s.anchor}">{f"<h2>{html.escape(s.title)}</h2>" if s.title else ""}{s.html}</section>'
        for s in found
    )
    notice = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in missing)
    return string.Template((page / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        style=(page / "style.css").read_text(encoding="utf-8") + style,
        script=(page / "script.js").read_text(encoding="utf-8"),
        links=links,
        notice=f'<aside class="notice"><b>What is missing</b><ul>{notice}</ul></aside>' if notice else "",
        body=body,
        data=content.replace("<", "\\u003c"),  # nothing within ends the element
    )


def _rounded(value: Any) -> Any:
    """Arrays of floating-point numbers to six digits, which are more than a chart shows."""
    if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating):
        return [[float(f"{item:.6g}") for item in row] for row in value] if value.ndim == 2 else value
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def markdown(title: str, subtitle: str, found: Sequence[Section], missing: Sequence[str]) -> str:
    """The report in Markdown."""
    parts = [f"# {title}", subtitle]
    if missing:
        parts.append("What is missing:\n\n" + "\n".join(f"- {sentence}" for sentence in missing))
    for section in found:
        parts += [f"## {section.title}"] if section.title else []
        parts.append(section.markdown)
    return "\n\n".join(parts) + "\n"
