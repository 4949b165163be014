"""The sections of a report, one a file, in the order of the page.

A section's file has

    NEEDS = ("config",)                                      what of `RunContents` it cannot do without
    def section(contents: RunContents) -> Section | None     of one run's page; None where there is nothing to show
    def compare(runs: Mapping[str, RunContents]) -> Section | None     of a page that compares runs, by their names

of which it may leave out one of the two. Adding a section is such a file, and its name in `RUN` or `COMPARISON` below. The name is
the section's address in the page and begins its figures' file names.
"""

import importlib
from collections.abc import Callable, Mapping

from cnnjax.report.blocks import Section
from cnnjax.report.contents import RunContents, one_line

# The sections of one run's page.
RUN = (
    "summary",
    "figures",
    "diagnosis",
    "curves",
    "confusion",
    "calibration",
    "labels",
    "numbers",
    "maps",
    "gallery",
    "training_labels",
    "filters",
    "feature_maps",
    "attribution",
    "histograms",
    "embedding",
    "network",
    "config",
    "environment",
)
# The sections of a page that compares runs.
COMPARISON = ("summary", "figures", "curves", "pairs", "config", "diagnosis", "calibration", "environment")

Sections = dict[str, Section]


def run_sections(contents: RunContents) -> tuple[Sections, list[str]]:
    """The sections of one run's page by their names, and a sentence on each that failed."""
    made, failed = {}, []
    for name in RUN:
        module = importlib.import_module(f"{__name__}.{name}")
        if all(contents.has(need) for need in module.NEEDS):
            _make(name, lambda module=module: module.section(contents), made, failed)
    return made, failed


def comparison_sections(runs: Mapping[str, RunContents]) -> tuple[Sections, list[str]]:
    """The sections of a page that compares runs; each is of the runs that have what it needs."""
    made, failed = {}, []
    for name in COMPARISON:
        module = importlib.import_module(f"{__name__}.{name}")
        able = {run: contents for run, contents in runs.items() if all(contents.has(need) for need in module.NEEDS)}
        if able:
            _make(name, lambda module=module, able=able: module.compare(able), made, failed)
    return made, failed


def _make(name: str, make: Callable[[], Section | None], made: Sections, failed: list[str]) -> None:
    try:
        section = make()
    except Exception as error:  # whatever it is: the rest of the report must not be lost with it
        failed.append(f"{name.replace('_', ' ').capitalize()} could not be shown: {one_line(error)}")
        return
    if section is not None:
        made[name] = section
