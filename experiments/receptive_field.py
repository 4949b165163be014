"""Theoretical and effective receptive fields, and the effect of shifts on predictions.

python -m experiments.receptive_field [--scale smoke|small|laptop|full]
"""

import textwrap
from collections.abc import Iterable

import numpy as np

import cnnjax
from experiments.drawings import draw_lines, draw_picture, draw_row_titles, panels
from experiments.measures import (
    classes_when_shifted,
    drawn_state,
    effective_receptive_field,
    field_size,
    inputs,
    layer_outputs,
    test_images,
)
from experiments.study import COMMON, SMOKE_CLOTHES, Part, Results, Scale, Study, main, markdown, spread

DISTANCES = (1, 2, 4)
IMAGES, FIELD_IMAGES = 1000, 64  # numbers of test images for shifts and for gradients


def last_convolution(run: cnnjax.Run) -> tuple[str, int]:
    """The name of the last convolution, and its theoretical receptive field in pixels."""
    layers = cnnjax.summarize(run.model, tuple(run.described["image_shape"])).layers
    last = [layer for layer in layers if layer.operation.startswith("conv")][-1]
    return last.name, last.receptive_field


def fields(results: Results) -> Part:
    """The effective receptive field of the last convolution's middle unit, before and after training."""
    variants = results.table.variants
    figure, axes = panels(len(variants), 2, height=1.2)
    draw_row_titles(axes, len(variants), ("before training", "after training"))
    rows = []
    for column, variant in enumerate(variants):
        sizes: list[list[float]] = [[], []]
        for number, run in enumerate(results.runs(variant)):
            layer, theoretical = last_convolution(run)
            images = inputs(run, test_images(run, FIELD_IMAGES).images)
            for row, variables in enumerate((drawn_state(run).variables, run.selected.variables)):
                field = effective_receptive_field(
                    lambda x, run=run, v=variables, layer=layer: layer_outputs(run.model, v, x, [layer])[layer], images
                )
                sizes[row].append(field_size(field))
                if number == 0:
                    axis = axes[row * len(variants) + column]
                    draw_picture(axis, field, cmap="magma", vmin=0, vmax=1)
                    if row == 0:
                        axis.set_title(textwrap.fill(variant, 12))
        rows.append(
            [
                variant,
                layer,
                f"{theoretical}",
                *(f"{np.mean(of):.1f} ({min(of):.1f} to {max(of):.1f})" for of in sizes),
                results.scale.data,
            ]
        )
    head = ["receptive field in pixels", "layer", "theoretical", "effective, before training", "after training", "data"]
    text = (
        f"The gradient of the central unit of the last convolution, for {FIELD_IMAGES} test images. The picture shows its root mean "
        "square. The effective size is the side of a square with as many pixels as have more than 4.55 % of the greatest value (Luo "
        f"et al., 2016), as mean and range over the seeds:\n\n{markdown(head, rows)}"
    )
    return Part("fields", text, figure)


def shifts(results: Results) -> Part:
    """How often the class of a shifted image stays the same, and how often it is right."""
    figure, [axis] = panels(1)
    rows, lines = [], {}
    for variant in results.table.variants:
        same: dict[int, list[float]] = {distance: [] for distance in DISTANCES}
        right: dict[int, list[float]] = {distance: [] for distance in (0, *DISTANCES)}
        for run in results.runs(variant):
            split = test_images(run, IMAGES)
            found = classes_when_shifted(run, split.images, (0, *DISTANCES))
            for distance in right:
                right[distance].append(float((found[distance] == split.labels).mean()))
            for distance in DISTANCES:
                same[distance].append(float((found[distance] == found[0]).mean()))
        lines[variant] = [(DISTANCES, 100 * np.array(values)) for values in zip(*same.values(), strict=True)]
        rows.append([variant, *map(spread, same.values()), *map(spread, right.values()), results.scale.data])
    draw_lines(axis, lines, "o")
    axis.set_xlabel("shift in pixels")
    axis.set_ylabel("same class as without the shift (%)")
    axis.set_xticks(DISTANCES)
    axis.legend()
    head = [
        "first 1,000 test images, in %",
        *(f"same class at {distance} px" for distance in DISTANCES),
        *(f"right at {distance} px" for distance in right),
        "data",
    ]
    return Part(
        "shifts", f"Images shifted up, down, left and right, filled with black:\n\n{markdown(head, rows)}", figure
    )


def parts(results: Results) -> Iterable[Part]:
    """The receptive fields and the shifts."""
    yield fields(results)
    yield shifts(results)


STUDY = Study(
    name="receptive_field",
    title="Receptive fields and invariance to shifts",
    question="Which pixels does a unit see, and does a shift matter?",
    answer=(
        "Eight 3x3 convolutions effectively use 11.9 of their 17 pixels, two 7x7 all 13. Under a shift of 2 "
        "pixels 72 to 73 % of the predictions stay the same with a second pooling, 64 % without, 65 % with "
        "strides instead."
    ),
    exercise=(
        "Derive the theoretical receptive field of two 7x7 and of eight 3x3 convolutions. Why do the outer pixels "
        "count less in the deep network?"
    ),
    config={
        **COMMON,
        "dataset": {"name": "fashion_mnist"},
        "model": {"name": "pattern", "plan": "conv 8 8 pool | fc 32"},
        "optimizer": {"learning_rate": 0.02},
    },
    axes={
        "2 of 3x3": {},
        "4 of 3x3": {"model.plan": "conv 8 8 8 8 pool | fc 32"},
        "8 of 3x3": {"model.plan": "conv 8 8 8 8 8 8 8 8 pool | fc 32"},
        "2 of 7x7": {"model.kernel_size": 7},
        "2, max pooling, 2": {"model.plan": "conv 8 8 pool | conv 8 8 pool | fc 32"},
        "2, average pooling, 2": {"model.plan": "conv 8 8 pool | conv 8 8 pool | fc 32", "model.pooling": "average"},
        "2 and 2, strided": {"model.plan": "conv 8 8 | conv 8 8 | fc 32", "model.strides": 2},
    },
    scales={
        "smoke": SMOKE_CLOTHES,
        "small": Scale(
            "Fashion-MNIST, 100 per class, test of 5,000",
            {
                "dataset.examples_per_class": 100,
                "dataset.test_split": "test[:5000]",
                "train.batch_size": 50,
                "train.epochs": 6,
                "evaluate.every": 6,
            },
            3,
        ),
        "laptop": Scale("Fashion-MNIST", {"train.epochs": 3, "evaluate.every": 3}, 5),
        "full": Scale("Fashion-MNIST", {"train.epochs": 20}, 5),
    },
    smallest=0.003,
    published={},
    findings="""
The effective receptive field of a stack of small filters is smaller than the theoretical one, increasingly so with depth (as Luo et
al., 2016, derive): two 3x3 filters use all of their 5 pixels, four use 8.7 of 9, eight use 11.9 of 17, and 13.9 before training. Two
7x7 filters use all of 13. Luo et al. saw training enlarge the effective field in larger networks; these six epochs do not show it.

With a second pooling more predictions stay the same when the image is shifted by 2 pixels: 72 to 73 %, against 64 % with two
convolutions and one pooling; with three seeds the intervals just touch. Strides of 2 instead of pooling do not help (65 %), although
they shrink the maps equally: pooling matters, not the size. No network is invariant: at 4 pixels each keeps 35 to 41 % of its
predictions. Depth alone costs accuracy at this size: eight convolutions are 8 points worse than two, with an interval that still
contains zero.
""",
    parts=parts,
)

if __name__ == "__main__":
    main(STUDY)
