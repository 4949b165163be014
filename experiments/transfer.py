"""Transfer learning against training from scratch, by images per class: LeNet-5 on four kinds of clothes, with three starts.

python -m experiments.transfer [--scale smoke|small|laptop|full]

The starts are networks trained on digits and on the other six kinds of clothes. All layers but the last are taken from them, and
the last is drawn anew. Then either all layers are trained, or all but the convolutions.
"""

from collections.abc import Iterable

from experiments.few_images import CLASSES
from experiments.starts import SCRATCH, starts_by_size
from experiments.study import COMMON, Part, Results, Scale, Study, main

OTHERS = ("Trouser", "Dress", "Sandal", "Sneaker", "Bag", "Ankle boot")
SIZES = (10, 30, 100)  # images per class
STARTS = {
    SCRATCH: {},
    "digits": {"initial.run": "digits", "initial.head": "new"},
    "other clothes": {"initial.run": "clothes", "initial.head": "new"},
    "other clothes, convolutions fixed": {
        "initial.run": "clothes",
        "initial.head": "new",
        "initial.frozen": ("c1", "c3"),
    },
}


def variant(start: str, size: int) -> str:
    """The name of the variant with a given start and number of images per class."""
    return f"{start}, {size} a class"


def sizes(results: Results) -> Iterable[Part]:
    """The test accuracy by images per class, with one line for each start."""
    yield starts_by_size(results, tuple(STARTS), SIZES, variant, "test accuracy", "training images per class")


STUDY = Study(
    name="transfer",
    title="Transfer against training from scratch, by images per class",
    question="Transfer or from scratch, by images per class?",
    answer=(
        "From scratch: for four kinds of clothes neither digits nor the other six kinds are a better start (-0.2 "
        "to -4.4 points); only for digits with 10 images per class does the interval exclude zero."
    ),
    exercise=(
        "Freeze the first convolution (`initial.frozen_up_to`) of the network that starts from digits. With how "
        "many images per class does that help, if at all?"
    ),
    config={
        **COMMON,
        "dataset": {"name": "fashion_mnist", "classes": CLASSES, "pad": (32, 32)},
        "model": {"name": "lenet5", "activation": "relu", "pooling": "max"},
        "optimizer": {"learning_rate": 0.02},
    },
    axes={
        variant(start, size): {"dataset.examples_per_class": size, **fields}
        for size in SIZES
        for start, fields in STARTS.items()
    },
    scales={
        "smoke": Scale(
            "Fashion-MNIST, 4 classes, test of 200",
            {
                "dataset.examples_per_class": 20,
                "dataset.test_split": "test[:200]",
                "train.batch_size": 20,
                "train.epochs": 1,
            },
            1,
        ),
        "small": Scale(
            f"Fashion-MNIST, {', '.join(CLASSES)}",
            {
                "dataset.examples_per_class": 1000,
                "train.batch_size": 10,
                "train.epochs": 40,
                "evaluate.every": 40,
            },
            3,
        ),
        "laptop": Scale(
            f"Fashion-MNIST, {', '.join(CLASSES)}",
            {
                "dataset.examples_per_class": 1000,
                "train.batch_size": 10,
                "train.epochs": 40,
                "evaluate.every": 40,
            },
            10,
        ),
        "full": Scale(f"Fashion-MNIST, {', '.join(CLASSES)}", {"train.batch_size": 10, "train.epochs": 100}, 20),
    },
    smallest=0.02,
    published={},
    findings="""
None of these pretrained networks helps. For all nine pairs of start and size the mean difference from training from scratch is
negative, -0.2 to -4.4 points. Only for digits with 10 images per class does the interval exclude zero (-3.6 points, -7.1 to -0.2). With
three seeds, each of which draws other images, the others are not distinguishable from no effect; they do exclude a gain of more than 1.3
points from digits with 30 or 100 images. The number of images matters more than the start: training from scratch reaches 56.0, 62.1 and
69.2 % with 10, 30 and 100 images per class.

Other clothes are not a better start than digits: photographs of the same kind are not enough. A possible reason, which was not tested,
is that trousers, dresses, shoes and bags differ in their outlines, while a T-shirt, a pullover, a coat and a shirt do not. With frozen
convolutions the network fits 88 % of 400 training images, from scratch all of them. Each start is a single network, whose variation is
not part of the intervals, and four similar kinds of clothes are a hard case for transfer.
""",
    parts=sizes,
    seed_fields=("seed", "dataset.split_seed"),
    sources={
        "digits": {
            "dataset.name": "digits",
            "dataset.classes": None,
            "dataset.examples_per_class": None,
            "dataset.pad": None,
            "dataset.test_split": None,
            "train.batch_size": 100,
        },
        "clothes": {"dataset.classes": OTHERS, "train.batch_size": 100},
    },
)

if __name__ == "__main__":
    main(STUDY)
