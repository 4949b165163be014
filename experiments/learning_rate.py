"""Learning rates that are too low, right and too high; plateau and cosine schedules; early stopping.

python -m experiments.learning_rate [--scale smoke|laptop|full]
"""

from collections.abc import Iterable

from experiments.drawings import draw_legend_below, draw_lines, panels, set_logarithmic
from experiments.study import Part, Results, Scale, Study, main, markdown


def curves(results: Results) -> Iterable[Part]:
    """The training loss and validation accuracy by epoch, and the number of epochs trained."""
    figure, axes = panels(2)
    losses, accuracies, rows = {}, {}, []
    for variant in results.table.variants:
        histories = results.histories(variant)
        losses[variant] = [([line["epoch"] for line in of], [line["train/loss"] for line in of]) for of in histories]
        accuracies[variant] = [
            ([line["epoch"] for line in of], [100 * line["valid/accuracy"] for line in of]) for of in histories
        ]
        epochs = [of[-1]["epoch"] for of in histories]
        rates = [f"{of[-1]['learning_rate']:.2g}" for of in histories]
        rows.append([variant, ", ".join(map(str, epochs)), ", ".join(rates), results.scale.data])
    for axis, name, lines in zip(axes, ("training loss", "validation accuracy (%)"), (losses, accuracies), strict=True):
        draw_lines(axis, lines)
        axis.set_xlabel("epochs")
        axis.set_ylabel(name)
    set_logarithmic(axes[0].yaxis)
    draw_legend_below(figure, 2)
    head = ["variant", "epochs trained, by seed", "last learning rate, by seed", "data"]
    yield Part("curves", markdown(head, rows), figure)


STUDY = Study(
    name="learning_rate",
    title="Learning rates of LeNet-5, plateau and early stopping",
    question="What do learning rates too low and too high look like?",
    answer=(
        "After ten epochs 0.0005 is 9.6 points worse than 0.05 and still learning; 0.5 stays at 58 %. Falling as a cosine gains "
        "0.6 points over a constant 0.05 [0.3, 1.0]; early stopping is within half a point of it, and what the plateau schedule "
        "gains is not told by five seeds."
    ),
    exercise=(
        "Run `cnnjax find-lr` on this config. Where does its suggestion lie among the three rates, and how many "
        "points does it lose to the best of them?"
    ),
    config={
        "dataset": {"name": "digits"},
        "model": {"name": "lenet5"},
        "evaluate": {"checkpoint": "last"},
        "log": {"tensorboard": False},
    },
    axes={
        "right, 0.05": {"optimizer.learning_rate": 0.05},
        "too low, 0.0005": {"optimizer.learning_rate": 0.0005},
        "too high, 0.5": {"optimizer.learning_rate": 0.5},
        "0.05, a tenth of it on each plateau": {
            "optimizer.learning_rate": 0.05,
            "schedule.name": "plateau",
            "schedule.patience": 1,
        },
        "0.05 falling as a cosine": {"optimizer.learning_rate": 0.05, "schedule.name": "cosine"},
        "0.05, stopped early, the best kept": {
            "optimizer.learning_rate": 0.05,
            "train.early_stopping": 2,
            "evaluate.checkpoint": "best",
        },
    },
    scales={
        "smoke": Scale("digits, 16 per class", {"dataset.examples_per_class": 16, "train.epochs": 2}, 1),
        "laptop": Scale(
            "Fashion-MNIST", {"dataset.name": "fashion_mnist", "dataset.pad": (32, 32), "train.epochs": 10}, 5
        ),
        "full": Scale(
            "Fashion-MNIST", {"dataset.name": "fashion_mnist", "dataset.pad": (32, 32), "train.epochs": 40}, 5
        ),
    },
    smallest=0.005,
    published={},
    findings="""
With too low a rate the network learns too slowly: at 0.0005 the validation accuracy still rises after ten epochs, and the test accuracy is
9.6 points lower than at 0.05 (9.1 to 10.1). With too high a rate it does not settle: at 0.5 the validation accuracy goes up and down
between 42 and 65 %, and the test accuracy ends 32.0 points lower (27.6 to 36.4). The loss never becomes infinite: only the curve shows
that the rate is wrong. A rate that falls as a cosine ends 0.6 points higher (0.3 to 1.0, p 0.019 after Holm's correction) than a constant
0.05, at 90.5 %, and with the smallest spread over seeds (0.05 points of standard deviation instead of 0.28).

A plateau schedule that waits for one epoch, and early stopping that waits for two, react in few of the seeds, since ten epochs on all of
Fashion-MNIST do not end the learning: in two seeds of five the rate is lowered once, and two stop after seven and eight epochs. Early
stopping costs less than half a point (-0.5 to +0.2); the plateau schedule is 0.4 points ahead (-0.3 to +1.1), and twelve seeds would tell
half a point. They were to wait for two and four epochs before, with which none of the ten runs reacted.
""",
    parts=curves,
)

if __name__ == "__main__":
    main(STUDY)
