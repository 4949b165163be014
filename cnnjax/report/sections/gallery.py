"""The mistakes that the network is most confident of, and the hits that it is least confident of."""

from cnnjax.analysis import pictures
from cnnjax.report.blocks import Block, Figure, Heading, Section, Template, Text
from cnnjax.report.contents import RunContents
from cnnjax.report.predictions import (
    Predictions,
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
    predictions = contents.class_predictions
    groups = (
        ("mistakes", "Most confident mistakes", most_confident_mistakes(predictions)[:PICTURES]),
        ("hits", "Least confident hits", least_confident_hits(predictions)[:PICTURES]),
    )
    blocks: list[Block] = []
    for name, title, examples in groups:
        blocks.append(Heading(title))
        blocks.append(gallery(predictions, examples, name, title) if examples else Text("There are none."))
    return Section("Gallery", blocks)


def gallery(predictions: Predictions, examples: list[int], name: str, title: str) -> Block:
    """Examples with their verdicts; as a figure of this name and title in Markdown."""
    shown = [
        {"index": index, "pixels": predictions.pixels[index], "verdict": verdict(predictions, index)}
        for index in examples
    ]
    captions = [caption(predictions, index, "\n") for index in examples]
    drawn = pictures.plot_gallery([predictions.pixels[index] for index in examples], captions)
    return Template("gallery.html", {"examples": shown}, [Figure(drawn, title, name)])
