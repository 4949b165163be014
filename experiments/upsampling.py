"""How a U-Net's maps grow: transposed convolution, resizing before a convolution, bed of nails, max-unpooling; and checkerboards.

python -m experiments.upsampling [--scale smoke|small|full]
"""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

import cnnjax
from experiments.drawings import draw_picture, draw_row_titles, panels
from experiments.measures import drawn_state, inputs
from experiments.scenes import CONFIG, scales, sharpness
from experiments.study import Part, Results, Study, main, markdown

# The side of an even image, so large that the border does not reach the part in the middle that is looked at; and the image's values.
SIDE, SEEN, GREYS = 160, 32, (0, 50, 100, 150, 200, 250)


def even_logits(run: cnnjax.Run, variables: Mapping[str, Any]) -> Float[np.ndarray, "grey row column class"]:
    """The logits in the middle of images of one grey each."""
    images = np.broadcast_to(np.array(GREYS, np.uint8)[:, None, None, None], (len(GREYS), SIDE, SIDE, 1))
    first = (SIDE - SEEN) // 2
    return np.asarray(run.model.apply(variables, inputs(run, images)))[:, first : first + SEEN, first : first + SEEN]


def unevenness(logits: Float[np.ndarray, "grey row column class"]) -> float:
    """The standard deviation of logits over the positions of an even image, as a root mean square over images and classes."""
    return float(np.sqrt(logits.var((1, 2)).mean()))


def checkerboards(results: Results) -> Part:
    """What each network makes of an even image, before and after training."""
    variants = results.table.variants
    figure, axes = panels(len(variants), 2, height=1.9)
    draw_row_titles(axes, len(variants), ("before training", "after training"))
    rows = []
    for column, variant in enumerate(variants):
        sizes: list[list[float]] = [[], []]
        for number, run in enumerate(results.runs(variant)):
            scenes = cnnjax.runs.load_split(run).images[:32]
            for row, variables in enumerate((drawn_state(run).variables, run.selected.variables)):
                usual = np.asarray(run.model.apply(variables, inputs(run, scenes))).std((0, 1, 2))
                logits = even_logits(run, variables) / usual
                sizes[row].append(unevenness(logits))
                if number == 0:
                    axis, shown = axes[row * len(variants) + column], logits[len(GREYS) // 2, ..., 0]
                    draw_picture(axis, shown - shown.mean(), cmap="gray", vmin=-0.5, vmax=0.5)
                    if row == 0:
                        axis.set_title(textwrap.fill(variant, 18))
        rows.append(
            [variant, *(f"{np.mean(of):.3f} ({min(of):.3f} to {max(of):.3f})" for of in sizes), results.scale.data]
        )
    text = (
        f"An image of one grey should give the same logits everywhere. The table has their standard deviation over the {SEEN}x{SEEN} "
        f"positions in the middle of even images of {SIDE}x{SIDE}, where no border is felt, in units of the same logits' standard deviation on "
        f"test scenes: the root mean square over {len(GREYS)} greys and all classes, as mean and range over the seeds. The picture shows "
        f"the background's logit for one grey, from -0.5 (black) to 0.5 in that unit.\n\n"
        f"{markdown(['unevenness for even images', 'before training', 'after training', 'data'], rows)}"
    )
    return Part("checkerboards", text, figure)


def parts(results: Results) -> Iterable[Part]:
    """The checkerboards, and the IoU near edges."""
    yield checkerboards(results)
    first, *others = results.table.variants
    yield sharpness(results, dict.fromkeys(others, first))


STUDY = Study(
    name="upsampling",
    title="Transposed convolution, resizing, bed of nails and max-unpooling",
    question="How should a U-Net's maps grow, and whence checkerboards?",
    answer="Not run yet.",
    exercise=(
        "Show on paper that a bed of nails with a convolution 2x2 and a transposed convolution 2x2 of stride 2 are the same function. "
        "Draw `cnnjax.layers.ConvTranspose(1, 3, 2)` of an even map: which positions do two kernels reach, and which four?"
    ),
    config={
        **CONFIG,
        "model": {"name": "unet_same", "features": 8, "depth": 3, "batch_norm": True, "dropout_rate": 0.0},
        # As in the config `digit_scenes_unet`: Muon learns the classes of scenes in a fraction of the passes that AdamW needs.
        "optimizer": {"name": "muon", "learning_rate": 0.02, "weight_decay": 1e-3},
    },
    axes={
        "transposed convolution": {},
        "nearest and convolution": {"model.upsampling": "nearest"},
        "bed of nails and convolution": {"model.upsampling": "bed_of_nails"},
        "max-unpooling": {"model.upsampling": "max_unpooling"},
    },
    scales=scales(32, 10, 10, {"model.features": 2, "model.depth": 1}, seeds=5),
    published={},
    findings="",
    parts=parts,
)

if __name__ == "__main__":
    main(STUDY)
