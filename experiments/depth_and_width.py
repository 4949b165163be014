"""Depth and width: accuracy against parameters; LeNet-5 and its doubles; plain and residual networks of 20 and 56 layers.

python -m experiments.depth_and_width [--scale smoke|small|full]
"""

from collections.abc import Iterable

from experiments.drawings import COLOURS, panels, set_logarithmic
from experiments.study import COMMON, Part, Results, Scale, Study, main

WIDTHS = {
    "LeNet-5": (6, 16, 120, 84),
    "LeNet-5, half as wide": (3, 8, 60, 42),
    "LeNet-5, twice as wide": (12, 32, 240, 168),
    "LeNet-5, four times as wide": (24, 64, 480, 336),
}
SHORTCUTS = {"residual": "A", "plain": "none"}


def by_parameters(results: Results) -> Iterable[Part]:
    """The test accuracy of every run against the number of parameters of its network."""
    figure, [axis] = panels(1)
    markers = {"LeNet-5": "o", "residual": "^", "plain": "v"}
    for kind, (name, marker) in enumerate(markers.items()):
        own = [
            record
            for record in results.table.trials
            if record["variant"].startswith(name) and record["status"] == "finished"
        ]
        x, y = [record["parameters"] for record in own], [100 * record["test/accuracy"] for record in own]
        axis.plot(x, y, marker, color=COLOURS[kind], alpha=0.7, label=name)
    set_logarithmic(axis.xaxis, (1, 2, 5))
    axis.set_xlabel("parameters")
    axis.set_ylabel("test accuracy (%)")
    axis.legend()
    yield Part("parameters", "The test accuracy of every run against the number of parameters:", figure)


STUDY = Study(
    name="depth_and_width",
    title="Depth and width",
    question="Deeper or wider?",
    answer=(
        "Plain networks get worse with depth (20 layers 92.2 %, 56 layers 50.8 %, on the training images too), "
        "residual networks do not (96.6 and 96.0 %); LeNet-5 with four widths, 95.4 to 96.7 %, is within the "
        "spread over seeds."
    ),
    exercise=(
        "Count the parameters of the 20-layer network at twice the width by hand. Then predict, before training "
        "it, whether width or depth does more for these images."
    ),
    config={
        **COMMON,
        "dataset": {"name": "digits"},
        "model": {"name": "lenet5", "activation": "relu", "pooling": "max"},
        "optimizer": {"learning_rate": 0.02, "weight_decay": 1e-4},
    },
    axes={
        **{name: {"model.widths": widths} for name, widths in WIDTHS.items()},
        **{
            f"{kind}, {layers} layers, 16x16": {
                "model.name": f"resnet{layers}",
                "model.features": 4,
                "model.shortcut": shortcut,
                "dataset.resize": (16, 16),
            }
            for layers in (20, 56)
            for kind, shortcut in SHORTCUTS.items()
        },
    },
    scales={
        "smoke": Scale(
            "digits, 4 per class",
            {
                "dataset.examples_per_class": 4,
                "dataset.test_split": "test[:50]",
                "train.batch_size": 20,
                "train.epochs": 1,
            },
            1,
        ),
        "small": Scale(
            "digits, 50 per class",
            {
                "dataset.examples_per_class": 50,
                "train.batch_size": 25,
                "train.epochs": 40,
                "evaluate.every": 40,
            },
            3,
        ),
        "full": Scale(
            "Fashion-MNIST", {"dataset.name": "fashion_mnist", "dataset.pad": (32, 32), "train.epochs": 30}, 5
        ),
    },
    published={
        "residual, 20 layers, 16x16": "91.25 % (CIFAR-10, 4 times as wide, He et al., 2016)",
        "residual, 56 layers, 16x16": "93.03 % (the same)",
    },
    findings="""
Depth alone makes accuracy worse: without shortcuts, 20 layers reach 92.2 % and 56 layers 50.8 %. This is not overfitting, because the
training accuracy falls too, from 98.3 to 54.7 %: the deep network is not trained, as He et al. found. With shortcuts, 20 and 56 layers
reach 96.6 and 96.0 %, and both fit their training images. The shortcuts have no parameters (option A), so that the plain and residual
networks have the same size. 20 residual layers with 17,254 parameters reach about the accuracy of LeNet-5 with 61,706.

Width matters little on 500 digits: from half to four times the width, 15,738 to 972,554 parameters, the accuracy of LeNet-5 rises from
95.4 to 96.7 %. Every network fits its training images, and the intervals of all three differences contain zero. An ensemble of three
gains most where single networks are worst: 27 points for the plain 56 layers, 2.2 for the residual 20 layers, and nothing for the
widest LeNet-5.
""",
    parts=by_parameters,
)

if __name__ == "__main__":
    main(STUDY)
