"""The mistakes that the network is most confident of, and the hits that it is least confident of."""

from collections.abc import Sequence

import numpy as np

from cnnjax.analysis import pictures
from cnnjax.report.blocks import Block, Figure, Heading, Section, Template, Text
from cnnjax.report.contents import RunContents
from cnnjax.report.predictions import (
    Predictions,
    Verdict,
    caption,
    least_confident_hits,
    most_confident_mistakes,
    verdict,
)  # fmt: skip

NEEDS = ("class_predictions",)
# Pictures of each kind.
PICTURES = 12


def section(contents: RunContents) -> Section:
    """The gallery of the test split."""
    predictions = contents.predictions
    groups = (
        ("mistakes", "Most confident mistakes", "label, prediction and its probability", most_confident_mistakes),
        ("hits", "Least confident hits", "predicted right, with the lowest probabilities", least_confident_hits),
    )
    blocks: list[Block] = []
    for name, title, words, choose in groups:
        examples = choose(predictions)
        shown = f", {PICTURES} of {len(examples):,}" if len(examples) > PICTURES else ""
        blocks += [Heading(title), Text(f"Test images: {words}{shown}." if examples else "There are none.")]
        blocks += [gallery(predictions, examples[:PICTURES], name, title)] if examples else []
    return Section("Gallery", blocks)


def gallery(predictions: Predictions, examples: list[int], name: str, title: str) -> Block:
    """Examples with their verdicts; as a figure of this name and title in Markdown."""
    pixels = predictions.pictures(examples)
    found = [verdict(predictions, index) for index in examples]
    captions = [caption(predictions, index, "\n") for index in examples]
    return picture_row(examples, pixels, found, captions, name, title)


def picture_row(
    examples: Sequence[int],
    pixels: Sequence[np.ndarray],
    found: Sequence[Verdict],
    captions: Sequence[str],
    name: str,
    title: str,
) -> Block:
    """Pictures of examples with their verdicts; as a figure of this name and title, with the captions, in Markdown."""
    shown = [
        {"index": index, "pixels": image, "verdict": verdict}
        for index, image, verdict in zip(examples, pixels, found, strict=True)
    ]
    drawn = pictures.plot_gallery(pixels, captions)
    return Template("gallery.html", {"examples": shown}, [Figure(drawn, title, name)])


def wrong_captions(found: Sequence[Verdict]) -> list[str]:
    """Verdicts that are wrong as captions."""
    return [f"{verdict.label}\nas {verdict.predicted}, {verdict.confidence}" for verdict in found]
