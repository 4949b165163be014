"""The parts of a report that compares runs: each a function of what there is of them, by their names."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from cnnjax.analysis import classification, pictures
from cnnjax.config import flatten
from cnnjax.report import sections
from cnnjax.report.markup import details, escape, markdown_table, table
from cnnjax.report.material import Judged, Material
from cnnjax.report.sections import Section


def compared_figures(materials: Mapping[str, Material]) -> Section:
    """The figures that a reader looks for first, a row a run."""
    found = {name: sections.key_figures(material) for name, material in materials.items()}
    columns = list(dict.fromkeys(column for values in found.values() for column in values))
    rows = [(name, *(values.get(column, "—") for column in columns)) for name, values in found.items()]
    html = table(("run", *columns), rows, range(1, len(columns) + 1))
    return Section("figures", "Figures", html, markdown_table(("run", *columns), rows))


def diagnoses(materials: Mapping[str, Material]) -> Section:
    """Every run's diagnosis."""
    found = {name: sections.diagnosis(material) for name, material in materials.items()}
    html = "".join(f"<div><h3>{escape(name)}</h3>{section.html}</div>" for name, section in found.items())
    markdown = "\n\n".join(f"### {name}\n\n{section.markdown}" for name, section in found.items())
    return Section("diagnosis", "Diagnosis", f'<div class="columns">{html}</div>', markdown)


def paired(materials: Mapping[str, Material]) -> Section:
    """Every two runs on the same test examples: who is right where the other is not."""
    names = [name for name, material in materials.items() if material.test is not None]
    rows, odd, figures, shown = [], [], {}, ""
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            a, b = materials[first].test, materials[second].test
            same = len(a.labels) == len(b.labels) and materials[first].label_names == materials[second].label_names
            if not same or not np.array_equal(a.labels, b.labels):
                odd.append(f"{first} and {second} have different test examples: they cannot be paired.")
                continue
            found = classification.compare(a.predicted, b.predicted, a.labels)
            rows.append(
                (f"{first} − {second}", f"{found.difference:+z.4f}", f"{found.low:+z.4f} to {found.high:+z.4f}",
                 found.only_first, found.only_second, f"{found.p_value:.3g}")
            )  # fmt: skip
            if not shown:
                shown, figure = _disagreements(first, second, a, b, materials[first].label_names)
                figures = {"disagreements": figure} if figure else {}
    columns = (
        "pair",
        "difference in accuracy",
        "95 % interval (score)",
        "only the first right",
        "only the second right",
        "p (McNemar, exact)",
    )
    text = (
        "The interval is that of the difference by Tango's score test. p is how likely so unequal a split of the examples that one alone gets right would be, were both equally good; it is "
        "not corrected for the number of pairs."
    )
    if not rows:
        text = "Pairs need two runs whose test examples could be read."
    html = (
        (table(columns, rows, range(1, 6)) if rows else "")
        + sections.note(text)
        + "".join(map(sections.note, odd))
        + shown
    )
    markdown = "\n\n".join([markdown_table(columns, rows), text] if rows else [text])
    markdown += "".join(f"\n\n{sentence}" for sentence in odd)
    if figures:
        markdown += f"\n\n{sections.figure_link('disagreements', 'examples that one run alone gets right')}"
    return Section("pairs", "On the same examples", html, markdown, figures)


def _disagreements(first: str, second: str, a: Judged, b: Judged, names: Sequence[str]) -> tuple[str, Figure | None]:
    """Examples that one of two runs alone gets right."""
    html, shown, captions = "", [], []
    for winner, loser, right, wrong in ((first, second, a, b), (second, first, b, a)):
        chosen = np.flatnonzero(right.right & ~wrong.right)
        chosen = chosen[np.argsort(-wrong.confidence[chosen], kind="stable")][: sections.GALLERY // 2].tolist()
        if not chosen:
            continue
        inner = "".join(sections.pictured(wrong, i, names) for i in chosen)
        html += f'<h3>{escape(winner)} is right, {escape(loser)} takes them for another</h3><div class="gallery">{inner}</div>'
        shown += [wrong.pixels[i] for i in chosen]
        captions += [sections.caption(wrong, i, names).replace(", ", "\n", 1) for i in chosen]
    return html, pictures.plot_gallery(shown, captions) if shown else None


def config_differences(materials: Mapping[str, Material]) -> Section:
    """The fields in which the configs differ."""
    found = {name: flatten(m.config) for name, m in materials.items() if m.config is not None}
    paths = sorted({path for config in found.values() for path in config})
    rows = []
    for path in paths:
        values = [sections.shown_value(config[path]) if path in config else "—" for config in found.values()]
        if len(set(values)) > 1:
            rows.append((path, *values))
    if not rows:
        text = "The configs are equal."
        return Section("config", "Configs", sections.note(text), text)
    columns = ("field", *found)
    return Section("config", "What the configs differ in", table(columns, rows), markdown_table(columns, rows))


def environments(materials: Mapping[str, Material]) -> Section:
    """Every run's environment."""
    parts = {name: sections.environment(material) for name, material in materials.items()}
    html = "".join(details(name, section.html) for name, section in parts.items())
    markdown = "\n\n".join(f"### {name}\n\n{section.markdown}" for name, section in parts.items())
    return Section("environment", "Environment", html, markdown)
