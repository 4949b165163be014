"""Initialisers and activation functions on a problem in the plane: decision boundaries, and the layers' outputs.

python -m experiments.initialization [--scale smoke|laptop|full]
"""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnjax.data.builders.spirals import draw_points
from cnnjax.layers import activation
from experiments.drawings import COLOURS, QUIET, draw_legend_below, draw_plane, draw_row_titles, panels, without_frame
from experiments.measures import drawn_state, inputs, layer_outputs, test_images
from experiments.study import COMMON, Part, Results, Scale, Study, main, markdown

INITIALIZERS = {
    "He": "he_normal",
    "Xavier": "xavier_normal",
    "unit normal": "unit_normal",
    "normal of 0.01": "small_normal",
    "zeros": "zeros",
}
ACTIVATIONS = {"ReLU": "relu", "tanh": "tanh", "sigmoid": "sigmoid"}
LAYERS = ("fc1", "fc2", "fc3", "fc4")


def grid(height: float) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel for each variant: initialisers from left to right, activation functions from top to bottom."""
    figure, axes = panels(len(INITIALIZERS), len(ACTIVATIONS), height=height)
    draw_row_titles(axes, len(INITIALIZERS), [*ACTIVATIONS])
    for axis, title in zip(axes, INITIALIZERS, strict=False):
        axis.set_title(title)
    return figure, dict(zip(STUDY.axes, axes, strict=True))


def write_diverged(axis: Axes) -> None:
    """Says that a variant diverged, in place of what a panel would show."""
    axis.text(0.5, 0.5, "diverged", ha="center", va="center", color=QUIET, transform=axis.transAxes)
    without_frame(axis)


def boundaries(results: Results) -> Part:
    """The decision boundaries of the first seed's networks."""
    figure, axes = grid(1.6)
    points, labels = draw_points(0, 200)
    for variant, axis in axes.items():
        axis.set_box_aspect(1)
        if runs := results.runs(variant):
            draw_plane(axis, runs[0], points, labels)
        else:
            write_diverged(axis)
    return Part("boundaries", "Decision boundaries of the first seed, with some of the training points:", figure)


def histograms(results: Results) -> Part:
    """The output of each hidden layer before training, after its activation function, for the test points."""
    figure, axes = grid(1.4)
    rows = []
    for variant, axis in axes.items():
        for run in results.runs(variant)[:1]:
            images = inputs(run, test_images(run).images)
            outputs = layer_outputs(run.model, drawn_state(run).variables, images, LAYERS)
            after = {layer: np.asarray(activation(run.config.model.activation)(x)) for layer, x in outputs.items()}
            # The central 98 % of the values of all layers, so that a few outliers do not compress the rest.
            low, high = np.percentile(np.concatenate([x.ravel() for x in after.values()]), [1, 99])
            bins = np.linspace(low - 0.1 * (high - low) - 1e-3, high + 0.1 * (high - low) + 1e-3, 30)
            for number, x in enumerate(after.values()):
                label = f"layer {number + 1}"
                axis.hist(x.ravel(), bins, histtype="step", color=COLOURS[number], label=label, density=True, log=True)
            rows.append([variant, *(f"{x.std():.2g}" for x in after.values()), results.scale.data])
        axis.set_yticks([])
        axis.minorticks_off()
        axis.spines.left.set_visible(False)
        axis.locator_params(axis="x", nbins=2)
        if not results.runs(variant):
            write_diverged(axis)
    draw_legend_below(figure, len(LAYERS))
    text = (
        "Outputs of the four hidden layers before training, for the first seed: standard deviations, and histograms (density on a "
        "logarithmic scale):\n\n" + markdown(["variant", *(f"layer {number}" for number in range(1, 5)), "data"], rows)
    )
    return Part("histograms", text, figure)


def parts(results: Results) -> Iterable[Part]:
    """The decision boundaries and the histograms."""
    yield boundaries(results)
    yield histograms(results)


STUDY = Study(
    name="initialization",
    title="Initialisers and activation functions in the plane",
    question="Which initialiser for which activation, in the plane?",
    answer=(
        "He's and Xavier's weights are equally good with ReLU and tanh (96 %, within half a point); zeros and 0.01 stay at "
        "chance; a unit normal diverges with ReLU, costs tanh 0.8 points and is best with sigmoids (96.3 %)."
    ),
    exercise=(
        "Draw the standard deviation of each layer's activations before training, by depth, for He and for a "
        "normal of 0.01. By which factor does each layer change them, and what does the theory say?"
    ),
    config={
        **COMMON,
        "dataset": {"name": "spirals"},
        "model": {"name": "pattern", "plan": "fc 50 50 50 50"},
        "optimizer": {"learning_rate": 0.05},
    },
    axes={
        f"{initializer}, {activation}": {
            "model.initializer": INITIALIZERS[initializer],
            "model.activation": ACTIVATIONS[activation],
        }
        for activation in ACTIVATIONS
        for initializer in INITIALIZERS
    },
    scales={
        "smoke": Scale("spirals", {"dataset.examples_per_class": 20, "train.batch_size": 16, "train.epochs": 1}, 1),
        "laptop": Scale(
            "spirals, 900 points", {"train.batch_size": 50, "train.epochs": 100, "evaluate.every": 100}, 20
        ),
        "full": Scale("spirals, 900 points", {"train.batch_size": 50, "train.epochs": 1000, "evaluate.every": 100}, 10),
    },
    smallest=0.005,
    published={},
    findings="""
Weights of zero or with deviation 0.01 stay at chance, 25 %, with any activation function. With 0.01 the outputs of ReLU and tanh are at
most a tenth of those of the layer before (ReLU from 0.0088 to 0.0000008 in four layers), and no gradient flows back through them. With
unit normal weights and ReLU all twenty seeds diverge. With tanh these weights saturate the units, but the networks still learn, with
ragged boundaries: 95.2 %, 0.8 points [0.6, 1.0] below He's with ReLU. With ReLU and tanh, He's and Xavier's are within half a point of
each other in only four layers: 96.0 and 96.2 %, 96.2 and 96.1 %. Twenty seeds tell differences of 0.2 points apart, which are not worth
naming. The best possible classifier would reach 97.5 %.

With sigmoids the order is reversed. Their slope is at most 1/4, so that weights suited to ReLU are too small: after 100 epochs the
networks with Xavier's weights have learned three straight lines (38 %), those with He's are at 92.6 % [91.8, 93.4], and the unit normal,
the worst for ReLU, is at 96.3 %. An initialiser must suit the activation function; none is best in general. LeNet-5 shows the same order
on Fashion-MNIST.
""",
    parts=parts,
    strategy="vmap",  # dense networks of one shape: three programs for all
)

if __name__ == "__main__":
    main(STUDY)
