"""What the studies of segmentation share: their data, and how sharp the maps of their networks are at the edges of the items."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from scipy import ndimage

import cnnjax
from cnnjax.ablation.statistics import paired_difference
from cnnjax.data.datasets import Split
from cnnjax.runs import load_split
from cnnjax.tasks.segmentation import map_confusion, map_metrics
from experiments.drawings import PAGE, draw_picture, panels
from experiments.study import COMMON, Part, Results, Scale, markdown, spread

# Pixels to the nearest one of another class, for which the IoU is measured.
DISTANCES = (1, 2, 4)
# The test scene of the pictures.
SHOWN = 3
FEW_TESTED = {"dataset.valid_split": "validation[:4]", "dataset.test_split": "test[:4]"}
CONFIG = {
    **COMMON,
    "dataset": {"name": "digit_scenes"},
    "task": {"name": "segmentation"},
    "optimizer": {"name": "adamw", "learning_rate": 5e-3, "weight_decay": 1e-3},
    "evaluate": {"checkpoint": "last", "batch_size": 100},
}


def scales(side: int, batch_size: int, epochs: int, smoke: Mapping[str, Any], seeds: int = 3) -> dict[str, Scale]:
    """The three scales of a study on scenes of digits.

    Args:
      side: the height and width that scenes of 64x64 are made to have.
      batch_size: the scenes in a batch at the small scale.
      epochs: the passes at that scale.
      smoke: the fields that make the network small for the tests.
      seeds: the seeds at the small scale.
    """
    size = {} if side == 64 else {"dataset.resize": (side, side)}
    few = {**FEW_TESTED, "dataset.train_split": "train[:16]", **smoke}
    return {
        "smoke": Scale("16 scenes of digits", {**size, **few, "train.batch_size": 8, "train.epochs": 1}, 1),
        "small": Scale(
            f"1,500 scenes of digits, {side}x{side}",
            {**size, "train.batch_size": batch_size, "train.epochs": epochs, "evaluate.every": epochs},
            seeds,
        ),
        "full": Scale("20,000 scenes of clothes, 64x64", {"dataset.name": "fashion_scenes", "train.epochs": 20}, 5),
    }


def near_edges(
    labels: Int[np.ndarray, "example height width"], distance: int
) -> Bool[np.ndarray, "example height width"]:
    """Whether a pixel has one of another class among those up to `distance` rows and columns from it.

    >>> near_edges(np.array([[[0, 0, 0, 1]]]), 1).tolist()
    [[[False, False, True, True]]]
    """
    window = (1, 2 * distance + 1, 2 * distance + 1)
    highest, lowest = (
        found(labels, window, mode="nearest") for found in (ndimage.maximum_filter, ndimage.minimum_filter)
    )
    return highest != lowest


def iou_by_distance(
    labels: Int[np.ndarray, "example height width"],
    predicted: Int[np.ndarray, "example height width"],
    classes: int,
    ignore: int,
    distances: Sequence[int] = DISTANCES,
) -> dict[str, float]:
    """The mean IoU of all pixels, of those at most so far from an edge, and of those farther from it than the last distance.

    The pixels near an edge are what Kohli, Ladický and Torr (IJCV 2009) call a trimap.
    """
    everywhere = np.ones(labels.shape, bool)
    parts = {"all pixels": everywhere}
    parts |= {f"within {distance}": near_edges(labels, distance) for distance in distances}
    parts[f"beyond {distances[-1]}"] = ~near_edges(labels, distances[-1])
    return {
        name: map_metrics(map_confusion(np.where(part, labels, ignore), predicted, classes, ignore))["mean_iou"]
        for name, part in parts.items()
    }


def test_maps(run: cnnjax.Run) -> tuple[Split, Int[np.ndarray, "example height width"]]:
    """The test split of a run on scenes, and the class that it predicts of each pixel."""
    split = load_split(run)
    return split, run.predict_prepared(split.images).argmax(-1)


def sharpness(results: Results, baselines: Mapping[str, str]) -> Part:
    """The mean IoU of each variant by the distance to an edge, with the maps of one scene.

    Args:
      results: the results of the study.
      baselines: variant -> the one that it is compared with.
    """
    found: dict[str, list[dict[str, float]]] = {}
    pictures: dict[str, Any] = {}
    for variant in results.table.variants:
        found[variant] = []
        for run in results.runs(variant):
            split, predicted = test_maps(run)
            classes, ignore = run.facts.outputs["num_classes"], run.task.ignore
            found[variant].append(iou_by_distance(split.labels, predicted, classes, ignore))
            pictures.setdefault(variant, predicted[SHOWN])
    scene, labels = split.images[SHOWN, ..., 0], split.labels[SHOWN]
    columns, rows = [*next(iter(found.values()))[0]], []
    for variant, values in found.items():
        rows.append([variant, *(spread([each[column] for each in values]) for column in columns), results.scale.data])
        if other := baselines.get(variant):
            rows.append([f"{variant}, less {other}", *(_less(values, found[other], column) for column in columns), ""])
    figure, axes = panels(2 + len(pictures), width=min(1.5, PAGE / (2 + len(pictures))), height=1.8)
    titles = ["a test scene", "its classes", *pictures]
    for axis, title, picture in zip(axes, titles, [scene, labels, *pictures.values()], strict=True):
        colours = {"cmap": "gray", "vmax": 255} if picture is scene else {"cmap": "tab20", "vmax": 19}
        draw_picture(axis, picture, vmin=0, **colours)
        axis.set_title(textwrap.fill(title, 16))
    text = (
        "The mean IoU over the classes, of the pixels that are at most 1, 2 and 4 pixels from one of another class, and of those "
        "farther away, as means ± standard deviations with 95 % confidence intervals, and paired differences in percentage points. "
        f"The picture shows what the first seed's networks say of one test scene.\n\n{markdown(['mean IoU in %', *columns, 'data'], rows)}"
    )
    return Part("edges", text, figure)


def _less(values: Sequence[Mapping[str, float]], baseline: Sequence[Mapping[str, float]], column: str) -> str:
    """The paired difference over the seeds in percentage points."""
    given, others = ({seed: each[column] for seed, each in enumerate(of)} for of in (values, baseline))
    known = paired_difference(given, others)
    if known is None or known.deviation is None:
        return "" if known is None else f"{100 * known.mean:+.1f}"
    return f"{100 * known.mean:+.1f} [{100 * known.low:+.1f}, {100 * known.high:+.1f}]"
