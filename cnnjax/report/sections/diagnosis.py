"""The diagnosis of a run: faults in words, with evidence."""

from collections.abc import Mapping

from cnnjax.report.blocks import Block, Columns, Section, Template, Text
from cnnjax.report.contents import RunContents
from cnnjax.report.diagnosis import cannot_see_history, diagnose_history, none_found

NEEDS = ()


def section(contents: RunContents) -> Section:
    """The diagnosis of one run."""
    return Section("Diagnosis", findings(contents))


def compare(runs: Mapping[str, RunContents]) -> Section:
    """The diagnoses of several runs beside each other."""
    return Section("Diagnosis", [Columns({name: findings(contents) for name, contents in runs.items()})])


def findings(contents: RunContents) -> list[Block]:
    """The findings, and the faults that could not be judged; also for a run without weights, from its metrics."""
    if contents.config is None or contents.described is None:
        return [Text("The diagnosis needs the run's config and the description of its data.")]
    logged = contents.history, contents.config, contents.described
    found, unseen = diagnose_history(*logged), cannot_see_history(*logged)
    none = none_found(contents.history, contents.described)
    nothing = f"{none[0].upper()}{none[1:]}."
    lines = [f"- **{finding.name}**: {finding.words} {finding.evidence} {finding.advice}" for finding in found]
    markdown = [Text("\n".join(lines or [nothing]))]
    if unseen:
        markdown.append(Text("\n".join(["What could not be judged:", *(f"- {sentence}" for sentence in unseen)])))
    return [Template("findings.html", {"findings": found, "nothing": nothing, "unseen": unseen}, markdown)]
