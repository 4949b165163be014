"""The findings of an exploration, as tables for a terminal and as a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from cnnjax.core.terminal import count_of
from cnnjax.data.boxes import CLASS, STATUS, are_boxes, present
from cnnjax.data.card import shape_text
from cnnjax.data.catalogue import is_folder
from cnnjax.data.displayed import displayed
from cnnjax.data.labels import are_marks, groups, label_text, members
from cnnjax.data.subsets import are_classes, are_maps
from cnnjax.data.transforms import Statistics
from cnnjax.report.blocks import Block, Details, Section, Table, Template, Text
from cnnjax.report.charts import column_chart
from cnnjax.report.exploration import (
    GRID,
    SHOWN,
    Duplicate,
    Exploration,
    Originals,
    SplitFacts,
)
from cnnjax.report.page import render_page
from cnnjax.tasks.detection_metrics import AREAS, areas
from cnnjax.tasks.regression import as_rows
from cnnjax.tasks.task import number_names

# The number of pairs that are listed, and of classes that are shown with pictures; all are counted.
LISTED, DRAWN_CLASSES = 24, 100


class Titled(NamedTuple):
    """A table with its title."""

    title: str
    table: Table


# --- tables -----------------------------------------------------------------------------------------------------


def tables(found: Exploration) -> dict[str, Titled]:
    """The findings as tables, by the names of their sections."""
    kind, splits = _targets(found)
    result = {
        "splits": Titled(f"{found.dataset.name}: {kind}, {_image_sizes(found)}", splits),
        "classes": Titled("Examples of each class", Table(("class", *found.splits), _class_rows(found))),
        "pixels": Titled(
            f"Pixels, {_range_of(found)}",
            Table(
                (
                    "split",
                    "mean by channel",
                    "standard deviation",
                    "brightness, 5 % to 95 %",
                    "contrast",
                ),
                [
                    (split, *_numbers(facts.mean, facts.std), *_ranges(facts.brightness, facts.contrast))
                    for split, facts in found.splits.items()
                ],
            ),
        ),
        "duplicates": Titled(
            "Equal images, and near-duplicates across splits", Table(("what", "images"), _duplicate_counts(found))
        ),
    }
    if are_maps(found.dataset.splits[next(iter(found.splits))].labels):
        result["maps"] = Titled("Pixels of each class", Table(("class", *found.splits), _map_rows(found)))
    if are_boxes(found.dataset.splits[next(iter(found.splits))].labels):
        result["objects"] = Titled("Objects of each class", Table(("class", *found.splits), _object_rows(found)))
        result["boxes"] = Titled(
            "Boxes, in pixels of the prepared images", Table(("what", *found.splits), _box_rows(found))
        )
    for name, title, pairs in (
        ("copies", "Equal images in one split", _copies(found)),
        ("pairs", "The most similar images across splits", found.duplicates),
    ):
        if pairs:
            more = f", {LISTED} of {len(pairs):,}" if len(pairs) > LISTED else ""
            columns = ("image", "class", "similar image", "its class", "correlation")
            result[name] = Titled(f"{title}{more}", Table(columns, [_pair_row(found, pair) for pair in pairs[:LISTED]]))
    return result | (_original_tables(found.originals) if found.originals else {})


def _image_sizes(found: Exploration) -> str:
    """The shape of the images, and the sizes of a folder's files if these were resized."""
    shape = shape_text(found.dataset.image_shape)
    sizes = [] if found.originals is None else np.unique(found.originals.sizes, axis=0).tolist()
    if not sizes or sizes == [list(found.dataset.image_shape[:-1])]:
        return f"images of {shape}"
    return f"images of {shape_text(sizes[0]) if len(sizes) == 1 else f'{len(sizes):,} sizes'}, here resized to {shape}"


def _copies(found: Exploration) -> list[Duplicate]:
    """The images that are equal to an earlier image of their split, pairs with different labels first."""
    pairs = [
        Duplicate(split, int(position), split, int(first), 1.0, True)
        for split, facts in found.splits.items()
        for first, position in facts.equal
    ]
    labels = {split: found.dataset.splits[split].labels for split in found.splits}
    return sorted(
        pairs,
        key=lambda pair: np.array_equal(labels[pair.split][pair.position], labels[pair.split][pair.other_position]),
    )


def _targets(found: Exploration) -> tuple[str, Table]:
    """A description of the targets, and a table with a row for each split."""
    labels, names = found.dataset.splits[next(iter(found.splits))].labels, groups(found.dataset)
    if are_classes(labels) or are_marks(labels):
        classes = are_classes(labels)
        columns = ("split", "examples", "largest class", "smallest class", "ratio")
        rows = [_split_row(split, facts, names) for split, facts in found.splits.items()]
        if classes:
            return f"{len(names)} classes", Table((*columns, "always guessing the largest"), rows)
        return f"{len(names)} labels of 0 or 1", Table(columns, [row[:-1] for row in rows])
    if are_boxes(labels):
        counts = {split: _objects(found, split)[1] for split in found.splits}
        rows = [
            (split, f"{len(own):,}", f"{own.sum():,}", f"{(own == 0).sum():,}", _spread(own))
            for split, own in counts.items()
        ]
        columns = ("split", "examples", "objects", "without objects", "objects of an image: least, median, most")
        return f"boxes of {len(found.dataset.label_names)} classes", Table(columns, rows)
    if labels.ndim > 2:
        sizes = [(split, f"{facts.examples:,}") for split, facts in found.splits.items()]
        return f"targets of {'x'.join(map(str, labels.shape[1:]))}", Table(("split", "examples"), sizes)
    names = number_names(found.dataset.label_names, as_rows(labels).shape[1])
    rows = [
        (split, f"{facts.examples:,}", *_number_row(found.dataset.splits[split].labels, names))
        for split, facts in found.splits.items()
    ]
    columns = ("split", "examples", "mean", "standard deviation", "smallest to largest")
    return f"{count_of(len(names), 'number')} per image", Table(columns, rows)


def _number_row(labels: np.ndarray, names: Sequence[str]) -> Sequence[str]:
    """The mean, the standard deviation and the range of each number in a split's targets."""
    columns = list(zip(names, as_rows(labels).T, strict=True))
    return (
        "  ".join(f"{name} {values.mean():.4g}" for name, values in columns),
        "  ".join(f"{values.std():.4g}" for _, values in columns),
        "  ".join(f"{values.min():.4g} to {values.max():.4g}" for _, values in columns),
    )


def _split_row(split: str, facts: SplitFacts, names: Sequence[str]) -> Sequence[Any]:
    counts = facts.class_counts
    return (
        split,
        f"{facts.examples:,}",
        _class(counts, counts.argmax(), names),
        _class(
            counts, len(counts) - 1 - counts[::-1].argmin(), names
        ),  # of equal ones the last, the largest being the first
        f"{facts.imbalance:.2f}",
        f"{counts.max() / facts.examples:.1%} right",
    )


def _class_rows(found: Exploration) -> list[Sequence[Any]]:
    return [
        (name, *(f"{facts.class_counts[label]:,}" for facts in found.splits.values()))
        for label, name in enumerate(groups(found.dataset))
    ]


def _map_rows(found: Exploration) -> list[Sequence[Any]]:
    """The fraction of each split's pixels in each class, and in each number that is not a class."""
    values, names = found.dataset.map_values, found.dataset.label_names
    totals = {split: sum(counts.values()) for split, counts in values.items()}
    return [
        (
            names[number] if 0 <= number < len(names) else str(number),
            *(f"{values[split].get(number, 0) / totals[split]:.2%}" for split in found.splits),
        )
        for number in sorted({*range(len(names)), *(number for counts in values.values() for number in counts)})
    ]


def _objects(found: Exploration, split: str) -> tuple[Float[np.ndarray, "object 6"], Int[np.ndarray, "example"]]:
    """The objects of a split, and their number in each image."""
    rows = np.asarray(found.dataset.splits[split].labels)
    here = present(rows)
    return rows[here], here.sum(1)


def _object_rows(found: Exploration) -> list[Sequence[Any]]:
    """The number of objects of each class in each split."""
    names = found.dataset.label_names
    classes = [_objects(found, split)[0][:, CLASS].astype(int) for split in found.splits]
    highest = max([len(names), *(own.max(initial=-1) + 1 for own in classes)])
    counts = [np.bincount(own, minlength=highest) for own in classes]
    return [
        (names[number] if number < len(names) else str(number), *(f"{own[number]:,}" for own in counts))
        for number in range(highest)
    ]


def _box_rows(found: Exploration) -> list[Sequence[Any]]:
    """The sizes of boxes in each split: smallest, median and largest, and shares."""
    columns = []
    for split in found.splits:
        rows, _ = _objects(found, split)
        width, height, size = rows[:, 2] - rows[:, 0], rows[:, 3] - rows[:, 1], areas(rows)
        shares = (
            [((low <= size) & (size < high)).mean() for low, high in [*AREAS.values()][1:]] if len(rows) else [0] * 3
        )
        columns.append(
            (
                *(_spread(values, form) if len(rows) else "" for values, form in ((width, ".0f"), (height, ".0f"))),
                _spread(width / height, ".2f") if len(rows) else "",
                *(f"{share:.1%}" for share in shares),
                f"{(rows[:, STATUS] > 0).sum():,}",
            )
        )
    what = (
        *("width: smallest, median, largest", "height", "aspect, width / height", "small: area below 32x32"),
        *("medium: area below 96x96", "large", "ignored (difficult, or crowds)"),
    )
    return [(name, *values) for name, values in zip(what, zip(*columns, strict=True), strict=True)]


def _pair_row(found: Exploration, pair: Duplicate) -> Sequence[Any]:
    image, other = (pair.split, pair.position), (pair.other_split, pair.other_position)
    correlation = "equal" if pair.equal else f"{pair.correlation:.4f}"
    return (
        found.name(*image),
        label_text(found.dataset, *image),
        found.name(*other),
        label_text(found.dataset, *other),
        correlation,
    )


def _class(counts: Int[np.ndarray, "class"], label: int, names: Sequence[str]) -> str:
    return f"{names[label]} {counts[label]:,}"


def _range_of(found: Exploration) -> str:
    """The range or type of the stored pixels, in words."""
    dtype = found.dataset.image_dtype
    return f"0 to {np.iinfo(dtype).max}" if dtype.kind == "u" else f"of {dtype}"


def _numbers(*groups: Sequence[float]) -> list[str]:
    """Groups of numbers as text, with one decimal, or more digits if they are small."""
    form = ".1f" if max(abs(value) for values in groups for value in values) >= 10 else ".3g"
    return ["  ".join(format(value, form) for value in values) for values in groups]


def _ranges(*groups: Float[np.ndarray, "example"]) -> list[str]:
    bounds = [np.percentile(values, [5, 95]) for values in groups]
    form = ".0f" if max(abs(bound).max() for bound in bounds) >= 10 else ".3g"
    return [f"{low:{form}} to {high:{form}}" for low, high in bounds]


def _duplicate_counts(found: Exploration) -> list[Sequence[Any]]:
    rows: list[Sequence[Any]] = []
    for split, facts in found.splits.items():
        rows.append((f"{split}: equal to an earlier image of {split}", f"{facts.copies:,}"))
        if facts.contradictions:
            rows.append((f"{split}: ... with another class", f"{facts.contradictions:,}"))
    for later, earlier in (("valid", "train"), ("test", "train"), ("test", "valid")):
        if later in found.splits and earlier in found.splits:
            pairs = [pair for pair in found.duplicates if (pair.split, pair.other_split) == (later, earlier)]
            equal = sum(pair.equal for pair in pairs)
            rows.append((f"{later}: equal to an image of {earlier}", f"{equal:,}"))
            rows.append((f"{later}: near-duplicate of an image of {earlier}", f"{len(pairs) - equal:,}"))
    return rows


def _spread(values: np.ndarray, form: str = ".0f") -> str:
    return "  ".join(format(value, form) for value in (values.min(), np.median(values), values.max()))


def _original_tables(originals: Originals) -> dict[str, Titled]:
    lengths = originals.sizes.T
    first, *others = ("length",) if len(lengths) == 1 else ("depth", "height", "width")[-len(lengths) :]
    rows: list[Sequence[Any]] = [
        ("files read", f"{len(originals.sizes):,}"),
        (f"{first}: smallest, median, largest", _spread(lengths[0])),
        *((name, _spread(values)) for name, values in zip(others, lengths[1:], strict=True)),
        *([("aspect, width / height", _spread(lengths[1] / lengths[0], ".2f"))] if len(lengths) == 2 else []),
        ("different sizes", f"{len(np.unique(originals.sizes, axis=0)):,}"),
        ("pixel formats", ", ".join(f"{mode} {count:,}" for mode, count in originals.modes.items())),
        ("turned upright by EXIF orientation", f"{originals.turned:,}"),
        ("files that are not images", f"{len(originals.ignored):,} {' '.join(originals.ignored[:3])}".strip()),
    ]
    result = {"files": Titled("Files", Table(("what", ""), rows))}
    if originals.damaged:
        files = "1 file" if len(originals.damaged) == 1 else f"{len(originals.damaged)} files"
        title = f"{files} that cannot be read (dataset.unreadable refuses or skips them in training)"
        result["unreadable"] = Titled(title, Table(("file and reason",), [(message,) for message in originals.damaged]))
    return result


# --- the page ---------------------------------------------------------------------------------------------------

# The headings of the sections, which are also in the navigation.
HEADINGS = {
    "splits": "Splits",
    "classes": "Classes",
    "pixels": "Pixels",
    "duplicates": "Duplicates",
    "copies": "Equal images",
    "pairs": "Similar across splits",
    "maps": "Pixels of classes",
    "objects": "Objects of classes",
    "boxes": "Boxes",
    "files": "Files",
    "unreadable": "Unreadable files",
}


def as_page(found: Exploration, samples: int = 8) -> str:
    """The findings as a self-contained HTML page with pictures.

    Args:
      found: the exploration, from `explore`.
      samples: the number of examples of each class, evenly spaced through the training split.
    """
    found_tables = tables(found)
    sections = {"summary": Section("", [Template("lead.html", {"text": summary(found)})])}
    for name, (title, table) in found_tables.items():
        make = PAGE.get(name)
        blocks = make(found, table, samples) if make else [table]
        titled = name in ("splits", "classes", "files")  # by their headings
        sections[name] = Section(HEADINGS[name], blocks if titled else [Text(f"{title}."), *blocks])
    name = Path(found.dataset.name).name if is_folder(found.dataset.name) else found.dataset.name
    return render_page(name, found_tables["splits"].title, sections)


def summary(found: Exploration) -> str:
    """The contents and the problems of the data set, in a few sentences."""
    sizes = ", ".join(f"{facts.examples:,} in {split}" for split, facts in found.splits.items())
    total = sum(facts.examples for facts in found.splits.values())
    sentences = [f"{total:,} images: {sizes}."]
    first = next(iter(found.splits.values()))
    if len(names := groups(found.dataset)) > 1 and first.imbalance > 1.5:
        counts = first.class_counts
        sentences.append(
            f"The largest class, {_class(counts, counts.argmax(), names)}, has {first.imbalance:.1f} times the images of the "
            f"smallest, {_class(counts, counts.argmin(), names)}."
        )
    copies, wrong = (
        sum(getattr(facts, name) for facts in found.splits.values()) for name in ("copies", "contradictions")
    )
    if copies:
        marked = f", {wrong:,} of them with another label" if wrong else ""
        sentences.append(f"Images equal to an earlier image of their split: {copies:,}{marked}.")
    leaked = len({(pair.split, pair.position) for pair in found.duplicates})
    if leaked:
        sentences.append(
            f"Images with a copy or near-copy in an earlier split: {leaked:,}; with them, test figures are better than on new images."
        )
    if found.originals and found.originals.damaged:
        sentences.append(f"Files that cannot be read: {len(found.originals.damaged):,}.")
    if not copies and not leaked:
        sentences.append("There are no duplicates.")
    return " ".join(sentences)


def _class_section(found: Exploration, table: Table, samples: int) -> list[Block]:
    """A row for each class with its counts, mean image and examples; very many classes have pictures of the first only."""
    split = next(iter(found.dataset.splits.values()))
    facts = next(iter(found.splits.values()))
    member = members(split.labels, len(table.rows))
    most, classes = max(int(facts.class_counts.max()), 1), []
    for label, (name, *counts) in enumerate(table.rows[:DRAWN_CLASSES]):
        positions = np.flatnonzero(member[label])
        chosen = positions[np.linspace(0, len(positions) - 1, min(samples, len(positions))).astype(int)]
        images = _small(displayed(np.asarray(split.images[chosen]), _statistics(found))) if len(chosen) else []
        mean = displayed(facts.mean_images[label : label + 1], _statistics(found))[0]
        classes.append(
            {
                "name": name,
                "share": facts.class_counts[label] / most,
                "counts": [f"{split} {count}" for split, count in zip(found.splits, counts, strict=True)],
                "images": images,
                "mean": mean if len(chosen) else None,
            }
        )
    rest = table.rows[DRAWN_CLASSES:]
    return [
        Text("Examples evenly spaced through the training split, and the mean image of each class."),
        Template("classes.html", {"classes": classes}),
        *([Details(f"{len(rest)} more classes", [Table(table.columns, rest)])] if rest else []),
    ]


def _pixel_section(found: Exploration, table: Table, samples: int) -> list[Block]:
    first = next(iter(found.splits.values()))
    top = 255 if found.dataset.image_dtype == np.uint8 else None
    charts = [
        _histogram(first.brightness, "brightness: mean of an image's pixels", top),
        _histogram(first.contrast, "contrast: standard deviation of an image's pixels"),
    ]
    return [table, _charts(charts, "The training images by brightness and by contrast.")]


def _duplicate_section(found: Exploration, table: Table, samples: int) -> list[Block]:
    text = (
        f"Near-duplicates are images whose correlation, in grey and averaged over a grid of {GRID}x{GRID}, is at least "
        f"{found.threshold}."
    )
    return [table, Text(text)]


def _copy_section(found: Exploration, table: Table, samples: int) -> list[Block]:
    return [_pairs(found, _copies(found)), table]


def _pair_section(found: Exploration, table: Table, samples: int) -> list[Block]:
    return [_pairs(found, found.duplicates), table]


def _file_section(found: Exploration, table: Table, samples: int) -> list[Block]:
    if len(np.unique(found.originals.sizes, axis=0)) == 1 or found.originals.sizes.shape[1] != 2:
        return [table]
    heights, widths = found.originals.sizes.T
    charts = [_histogram(widths, "width in pixels"), _histogram(heights, "height in pixels")]
    return [table, _charts(charts, "The files by width and by height.")]


def _box_section(found: Exploration, table: Table, samples: int) -> list[Block]:
    rows, counts = _objects(found, next(iter(found.splits)))
    charts = [_histogram(counts, "objects in an image")]
    if len(rows):
        charts.append(_histogram(np.sqrt(areas(rows)), "side of a square of a box's area, in pixels", what="boxes"))
    return [table, _charts(charts, "The training images by their number of objects, and their boxes by size.")]


# The sections with more than a table.
PAGE = {
    "classes": _class_section,
    "pixels": _pixel_section,
    "duplicates": _duplicate_section,
    "copies": _copy_section,
    "pairs": _pair_section,
    "boxes": _box_section,
    "files": _file_section,
}


def _statistics(found: Exploration) -> Statistics:
    """The statistics of the training images, by which images are displayed."""
    facts = next(iter(found.splits.values()))
    return Statistics(facts.mean, facts.std)


def _small(images: UInt8[np.ndarray, "image height width channel"]) -> UInt8[np.ndarray, "image h w channel"]:
    """Images reduced to sides of at most 64 pixels."""
    factor = -(-max(images.shape[1:3]) // SHOWN)
    if factor == 1:
        return images
    pictures = [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).reduce(factor) for image in images]
    return np.stack([np.atleast_3d(np.asarray(picture)) for picture in pictures])


def _pairs(found: Exploration, pairs: Sequence[Duplicate]) -> Block:
    """The first pairs as pictures side by side, with their names and labels."""
    shown = []
    for pair in pairs[:LISTED]:
        both = ((pair.split, pair.position), (pair.other_split, pair.other_position))
        images = np.stack([np.asarray(found.dataset.splits[split].images[position]) for split, position in both])
        shown.append(
            {
                "images": [
                    {
                        "pixels": pixels,
                        "name": found.name(*place),
                        "split": place[0],
                        "label": label_text(found.dataset, *place),
                    }
                    for pixels, place in zip(_small(displayed(images, _statistics(found))), both, strict=True)
                ],
                "words": "equal" if pair.equal else f"correlation {pair.correlation:.4f}",
                "same": label_text(found.dataset, *both[0]) == label_text(found.dataset, *both[1]),
            }
        )
    return Template("pairs.html", {"pairs": shown})


def _histogram(values: np.ndarray, x_title: str, top: float | None = None, what: str = "images") -> Block:
    low, high = (0, top) if top else (float(values.min()), float(values.max()))
    high = high if high > low else low + 1
    counts, _ = np.histogram(values, 48, (low, high))
    return column_chart(counts, low, high, x_title, what, f"histogram of the {x_title}")


def _charts(charts: Sequence[Block], caption: str) -> Block:
    """Two charts beside each other."""
    return Template("two_charts.html", {"charts": charts, "caption": caption})
