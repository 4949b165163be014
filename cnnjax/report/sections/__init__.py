"""The sections of a report, one per file, in the order of the page.

A section's file has

    NEEDS = ("config",)                                      the attributes of `RunContents` that it requires
    def section(contents: RunContents) -> Section | None     the section of one run's page; None if there is nothing to show
    def compare(runs: Mapping[str, RunContents]) -> Section | None     the section of a page that compares runs, by name

and may leave out one of the two functions. A new section is such a file, and its name in `RUN` or `COMPARISON` below. The name is
the section's address in the page and the prefix of its figures' file names.
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
    "boxes",
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
    """The sections of one run's page by name, and a sentence on each that failed."""
    made, failed = {}, []
    for name in RUN:
        module = importlib.import_module(f"{__name__}.{name}")
        if all(contents.has(need) for need in module.NEEDS):
            _make(name, lambda module=module: module.section(contents), made, failed)
    return made, failed


def comparison_sections(runs: Mapping[str, RunContents]) -> tuple[Sections, list[str]]:
    """The sections of a page that compares runs; each uses the runs that meet its needs."""
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
    except Exception as error:  # any error: the rest of the report must not be lost
        failed.append(f"{name.replace('_', ' ').capitalize()} could not be shown: {one_line(error)}")
        return
    if section is not None:
        made[name] = section
