"""Deeper or wider at equal multiply-adds: a small network of 3x3 convolutions with more convolutions a stage, or with more maps.

python -m experiments.depth_and_width [--scale smoke|laptop|full]
"""

from collections.abc import Iterable

import cnnjax
from experiments.drawings import COLOURS, panels, set_logarithmic
from experiments.study import COMMON, SMOKE_CLOTHES, Part, Results, Scale, Study, main, markdown, spread


def plan(depth: int, width: int) -> str:
    """Two stages of `depth` 3x3 convolutions each, of `width` and twice as many maps."""
    stages = (" ".join(["conv", *[str(maps)] * depth, "pool"]) for maps in (width, 2 * width))
    return " | ".join([*stages, "fc 32"])


NETWORKS = {
    "1 convolution a stage, 8 and 16 maps": plan(1, 8),
    "deeper: 2 convolutions a stage": plan(2, 8),
    "wider: 16 and 32 maps": plan(1, 16),
    "deeper: 3 convolutions a stage": plan(3, 8),
    "wider: 24 and 48 maps": plan(1, 24),
}


def by_multiply_adds(results: Results) -> Iterable[Part]:
    """The test error of every run against the multiply-adds of its network, deeper ones apart from wider ones."""
    figure, [axis] = panels(1)
    first, *others = results.table.variants
    counts, rows = {}, []
    for variant in results.table.variants:
        run = results.runs(variant)[0]
        counts[variant] = cnnjax.summarize(run.model, tuple(run.described["image_shape"])).total_macs
        values = list(results.table.values(variant).values())
        rows.append([variant, f"{counts[variant] / 1e6:.2f} million", spread(values), results.scale.data])
    for kind, (name, marker) in enumerate({"deeper": "^", "wider": "o"}.items()):
        line = [first, *(variant for variant in others if variant.startswith(name))]
        for variant in line:
            errors = [100 - 100 * value for value in results.table.values(variant).values()]
            axis.plot([counts[variant]] * len(errors), errors, marker, color=COLOURS[kind], alpha=0.5, markersize=4)
        means = [100 - 100 * sum(of.values()) / len(of) for of in map(results.table.values, line)]
        axis.plot([counts[variant] for variant in line], means, color=COLOURS[kind], label=name)
    set_logarithmic(axis.xaxis, (1, 2, 5))
    axis.set_xlabel("multiply-adds of an image")
    axis.set_ylabel("test error (%)")
    axis.legend()
    yield Part("multiply_adds", markdown(["network", "multiply-adds", "test accuracy in %", "data"], rows), figure)


STUDY = Study(
    name="depth_and_width",
    title="Depth and width at equal multiply-adds",
    question="Deeper or wider?",
    answer=(
        "Not told by five seeds: at equal multiply-adds deeper and wider networks lie within half a point (89.4 and 89.6 %, "
        "88.6 and 89.1 %), and none is distinguishable from the smallest (88.8 %). 29 to 75 seeds would tell 0.3 points."
    ),
    exercise=(
        "Count the multiply-adds and the receptive field of the five networks by hand (`cnnjax summary` checks them). Which of the two "
        "do the deeper networks gain that the wider ones do not?"
    ),
    config={
        **COMMON,
        "dataset": {"name": "fashion_mnist"},
        "model": {"name": "pattern"},
        "optimizer": {"learning_rate": 0.02, "weight_decay": 1e-4},
    },
    axes={name: {"model.plan": layers} for name, layers in NETWORKS.items()},
    scales={
        "smoke": SMOKE_CLOTHES,
        "laptop": Scale("Fashion-MNIST", {"train.epochs": 4, "evaluate.every": 4}, 5),
        "full": Scale("Fashion-MNIST", {"train.epochs": 30}, 5),
    },
    smallest=0.003,
    published={},
    findings="""
Four times the multiply-adds, as a second convolution in each stage or as twice the maps, give 89.4 and 89.6 % instead of 88.8: +0.6 points
[-0.1, 1.3] and +0.8 [-0.1, 1.7], not distinguishable from zero after the correction for four variants, nor from each other. Seven times as
many give no more after four epochs, 88.6 and 89.1 %: the larger networks fit their training images no better either (90.0 and 90.7 %, the
smallest 90.4), which speaks for too short a training rather than too large a network.

What the seeds do say: no network is shown to be better than the smallest, at up to seven times the multiply-adds. Depth costs fewer
parameters (29,602 and 32,506 against 55,338 and 86,282), because it leaves the dense layer as it is. Whether more epochs part deep from
wide is left open; 29 to 75 seeds would find a difference of 0.3 points. What depth without shortcuts does to training is the question of
`residual_depth`.
""",
    parts=by_multiply_adds,
)

if __name__ == "__main__":
    main(STUDY)
