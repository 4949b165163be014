"""Training images whose labels look wrong, by the network's predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cnnjax.analysis.labels import contradicted_labels
from cnnjax.data import folders, sources
from cnnjax.data.cache import readable_positions
from cnnjax.data.catalogue import is_folder
from cnnjax.data.datasets import DatasetOptions, Split
from cnnjax.report.blocks import Block, Details, Section, Table, Text
from cnnjax.report.contents import RunContents
from cnnjax.report.predictions import Verdict, pictures_of
from cnnjax.report.sections.gallery import picture_row
from cnnjax.runs import Run
from cnnjax.training import run_directory

NEEDS = ("run", "class_predictions")
# The number of pictures; the fraction of reproduced labels from which a network has memorised most; images in memory at a time.
PICTURES, MEMORISED, BLOCK = 24, 0.995, 512
REMEDY = "A network trained for fewer epochs, or with augmentation or weight decay, contradicts more of them."


def section(contents: RunContents) -> Section | None:
    """The training images whose labels the network contradicts most; None for imported weights."""
    run = contents.run
    if run.described.get("imported"):
        return None
    split = contents.splits["train"]
    count = min(contents.examples, len(split))
    positions = np.linspace(0, len(split) - 1, count).astype(int)
    labels, probabilities = np.asarray(split.labels)[positions], predicted(run, split, positions)
    suspects = contradicted_labels(probabilities, labels)
    blocks: list[Block] = [Text(sentence) for sentence in remarks(len(suspects), count, len(split))]
    if len(shown := suspects[:PICTURES]):
        pixels = np.asarray(split.images[positions[shown]])
        images = pictures_of(pixels, range(len(shown)), run_directory.read_statistics(run.described))
        names = image_names(run, split, positions[shown])
        blocks += shown_labels(images, names, labels[shown], probabilities[shown], run.label_names)
    return Section("Labels that look wrong", blocks)


def predicted(run: Run, split: Split, positions: Int[np.ndarray, "chosen"]) -> Float[np.ndarray, "chosen class"]:
    """The probabilities of some images, which are read in blocks."""
    blocks = [positions[start : start + BLOCK] for start in range(0, len(positions), BLOCK)]
    return np.concatenate([run.predict_prepared(np.asarray(split.images[block])) for block in blocks])


def remarks(suspects: int, count: int, total: int) -> list[str]:
    """Sentences on the number of contradicted labels, and on the reliability of the list."""
    images = f"{count:,} training images"
    if count < total:
        images += f" (evenly spaced through all {total:,}; --examples sets how many)"
    reproduced = 1 - suspects / count
    if not suspects:
        return [
            f"The network predicts the given labels of all of {images}. It has memorised any wrong labels too, so that they "
            f"cannot be found here. {REMEDY}"
        ]
    found = [
        f"On its training images without augmentation, the network contradicts the labels of {suspects:,} of {images}. Each is a "
        "wrong label or a hard image; the images where another class exceeds the label's probability most are first (after "
        "Northcutt, Jiang and Chuang, Confident learning, 2021)."
    ]
    if reproduced >= MEMORISED:
        found.append(
            f"This list is not reliable: the network reproduces {100 * reproduced:.1f} % of the training labels, and wrong labels "
            f"that it has memorised do not appear. {REMEDY}"
        )
    return found


def shown_labels(
    images: Sequence[np.ndarray],
    names: Sequence[str],
    labels: Int[np.ndarray, "shown"],
    probabilities: Float[np.ndarray, "shown class"],
    classes: Sequence[str],
) -> list[Block]:
    """The contradicted labels as pictures and as a table."""
    verdicts, captions, rows = [], [], []
    for place, name in enumerate(names):
        label, guess = labels[place], probabilities[place].argmax()
        own, highest = (f"{100 * probabilities[place, k]:.1f} %" for k in (label, guess))
        verdicts.append(Verdict(classes[label], classes[guess], f"{highest}, {name}", False))
        captions.append(f"{classes[label]} as {classes[guess]}, {highest}\n{name}")
        rows.append((name, classes[label], own, classes[guess], highest))
    columns = ("image", "label", "its probability", "predicted", "its probability")
    row = picture_row(range(len(names)), images, verdicts, captions, "", "training images whose labels look wrong")
    return [row, Details("as a table", [Table(columns, rows, (2, 4))])]


def image_names(run: Run, split: Split, positions: Int[np.ndarray, "chosen"]) -> list[str]:
    """The file names of a folder's training images; for other data, or if the config selects examples, their positions."""
    options = run.config.dataset
    if is_folder(options.name):
        source = sources.folder_source(options.name, options.split_seed, lambda line: None, options.spatial_axes)
        root = Path(options.name).expanduser().resolve()
        listing = folders.list_folder(root, options.split_seed)
        files = listing.shuffled("train")
        readable = readable_positions(source, "train", DatasetOptions(**options), options.unreadable, options.streaming)
        found = [files[position] for position in readable]
        if np.array_equal([listing.classes.index(label) for _, label in found], split.labels):
            return [found[position][0].relative_to(root).as_posix() for position in positions]
    return [f"train[{position}]" for position in positions]
