"""Pairwise comparison of runs on the same test examples."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from cnnjax.analysis import pictures
from cnnjax.report.blocks import Block, Figure, Section, Table, Template, Text
from cnnjax.report.contents import RunContents
from cnnjax.report.predictions import Predictions, caption, verdict
from cnnjax.tasks import classification_metrics as classification

NEEDS = ("class_predictions",)
COLUMNS = (
    "pair",
    "difference in accuracy",
    "95 % interval (score)",
    "only the first right",
    "only the second right",
    "p (McNemar, exact)",
)
# Pictures of each of two runs.
PICTURES = 6


def compare(runs: Mapping[str, RunContents]) -> Section:
    """The paired differences, and examples that only one run of a pair gets right."""
    rows, unpaired, examples = [], [], []
    for (first, one), (second, other) in combinations(runs.items(), 2):
        a, b = one.predictions, other.predictions
        if a.label_names != b.label_names or not np.array_equal(a.labels, b.labels):
            unpaired.append(Text(f"{first} and {second} have different test examples, so that they cannot be paired."))
            continue
        found = classification.compare(a.predicted, b.predicted, a.labels)
        rows.append(
            (f"{first} − {second}", f"{found.difference:+z.4f}", f"{found.low:+z.4f} to {found.high:+z.4f}",
             found.only_first, found.only_second, f"{found.p_value:.3g}")
        )  # fmt: skip
        examples = examples or disagreements(first, second, a, b)
    text = (
        "The interval of the difference is from Tango's score test. p is the probability of a split at least this unequal of the "
        "examples that only one run gets right, if both were equally good; it is not corrected for the number of pairs."
    )
    if not rows:
        return Section(
            "On the same examples", [Text("This needs two runs whose test examples could be read."), *unpaired]
        )
    return Section("On the same examples", [Table(COLUMNS, rows, range(1, 6)), Text(text), *unpaired, *examples])


def disagreements(first: str, second: str, a: Predictions, b: Predictions) -> list[Block]:
    """The examples that only one of two runs gets right, most confident mistakes of the other first."""
    groups, pixels, captions = [], [], []
    for winner, loser, right, wrong in ((first, second, a, b), (second, first, b, a)):
        chosen = np.flatnonzero(right.right & ~wrong.right)
        chosen = chosen[np.argsort(-wrong.confidence[chosen], kind="stable")][:PICTURES].tolist()
        if not chosen:
            continue
        images = wrong.pictures(chosen)
        shown = [
            {"index": i, "pixels": image, "verdict": verdict(wrong, i)} for i, image in zip(chosen, images, strict=True)
        ]
        groups.append((f"{winner} is right, {loser} is wrong", shown))
        pixels += [*images]
        captions += [caption(wrong, i, "\n") for i in chosen]
    if not groups:
        return []
    drawn = Figure(pictures.plot_gallery(pixels, captions), "examples that only one run gets right")
    return [Template("galleries.html", {"groups": groups}, [drawn])]
