"""Reports on a run or on several: results, mistakes and training, as one HTML page.

The page contains its pictures, styles and script, and needs no network. `report.md` has the same content with figures as PNG files.
The sections of the page are in `sections/`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.analysis import pictures
from cnnjax.analysis.curves import short_names
from cnnjax.core import files
from cnnjax.report import sections
from cnnjax.report.blocks import Section, figure_file, figures
from cnnjax.report.contents import RunContents, read_contents
from cnnjax.report.markdown import render_markdown
from cnnjax.report.page import render_page
from cnnjax.training import run_directory


@dataclasses.dataclass(frozen=True)
class Written:
    """The files that `write_report` wrote.

    Attributes:
      page: the HTML file.
      folder: the folder of `report.md` and the figures.
      missing: a sentence on each missing part of a run.
    """

    page: Path
    folder: Path
    missing: tuple[str, ...]


def write_report(
    workdirs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    examples: int = 10_000,
    dataset: Any = None,
) -> Written:
    """Writes the report of a run, or a comparison of several.

    Args:
      workdirs: the run directory, or several.
      out: the path of the page; None is RUN/report/index.html, or comparison/index.html for several runs. For another page the
        figures and `report.md` go to a folder with the name of the page and "_files".
      examples: the largest number of examples of the test split that are predicted, from the first on.
      dataset: the data set of the runs, if it was passed to `train`, as it was passed.

    Raises:
      FileNotFoundError: a directory is not a run, or the folder of `out` does not exist.
      ValueError: no run is given, a run is given twice, or `out` does not end in .html.
    """
    given = [workdirs] if isinstance(workdirs, str | Path) else list(workdirs)
    paths = [Path(workdir).expanduser() for workdir in given]
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        raise ValueError("report: expected one run directory, or several different ones")
    if examples < 1:
        raise ValueError(f"report: examples={examples}: expected at least 1")
    page, folder = page_and_folder(paths, None if out is None else Path(out).expanduser())
    named = dict(zip(short_names([path.resolve().parts for path in paths]), paths, strict=True))
    runs = {name: read_contents(path, examples, dataset) for name, path in named.items()}
    if len(runs) > 1:
        made, failed = sections.comparison_sections(runs)
        missing = [f"{name}: {sentence}" for name, contents in runs.items() for sentence in contents.missing]
    else:
        [contents] = runs.values()
        made, failed = sections.run_sections(contents)
        missing = list(contents.missing)
    missing += failed
    title, subtitle = " · ".join(runs), "; ".join(dict.fromkeys(map(subject, runs.values())))
    folder.mkdir(parents=True, exist_ok=True)
    write_figures(folder, made)
    files.write_atomically(folder / "report.md", render_markdown(title, subtitle, made, missing))
    files.write_atomically(page, render_page(title, subtitle, made, missing))
    return Written(page, folder, tuple(missing))


def write_figures(folder: Path, made: Mapping[str, Section]) -> None:
    """Writes the sections' figures, and deletes those of an earlier report."""
    drawn = {figure_file(name, figure): figure for name, section in made.items() for figure in figures(section.blocks)}
    for name, figure in drawn.items():
        pictures.save(figure.drawing, folder / name)
    known = {*sections.RUN, *sections.COMPARISON}
    for path in folder.glob("*.png"):
        if path.name not in drawn and path.stem.partition("-")[0] in known:
            path.unlink()


def page_and_folder(workdirs: Sequence[Path], out: Path | None) -> tuple[Path, Path]:
    """The page's path, and the folder of its figures."""
    if out is None:
        folder = workdirs[0] / run_directory.REPORT if len(workdirs) == 1 else Path("comparison")
        return folder / "index.html", folder
    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{out}: expected a name that ends in .html")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: there is no folder {out.parent}")
    return out, out.with_name(f"{out.stem}_files")


def subject(contents: RunContents) -> str:
    """The network and the data in a few words."""
    if contents.config is None:
        return "a damaged config"
    return f"{contents.config.model.name} on {contents.config.dataset.name}"
