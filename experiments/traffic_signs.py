"""Traffic signs, the whole case study: the data, colours, balance, augmentation, width, and what is confused.

python -m experiments.traffic_signs [--scale smoke|small|full]

`full` is on the German traffic signs (GTSRB, 410 MiB to download). The other scales need no network: they are on signs that
`cnnjax.data.builders.drawn_signs` draws, which stand in for photographs and are easier.
"""

from collections.abc import Iterable

import numpy as np

import cnnjax
from cnnjax.analysis import pictures
from cnnjax.data.datasets import DatasetOptions
from cnnjax.runs import predict_split
from cnnjax.tasks import classification_metrics as classification
from experiments.measures import test_images
from experiments.study import Part, Results, Scale, Study, main, markdown

YCBCR = {"dataset.color_space": "ycbcr", "dataset.normalize": "channel"}
AUGMENTED = {
    "augment.rotation": 15.0,
    "augment.shift": 3.0,
    "augment.stretch": 0.2,
    "augment.brightness": 0.5,
    "augment.fill": "edge",
}
PLAIN, ALL = "LeNet on RGB", "all of these together"


def data(results: Results) -> Part:
    """Some test images of each kind, and how many there are to train on."""
    run = results.runs(PLAIN)[0]
    split = test_images(run)
    counts = cnnjax.load_dataset(DatasetOptions(**run.config.dataset)).class_counts
    names = [f"{name}, {count} to train on" for name, count in zip(run.label_names, counts, strict=True)][:12]
    rows = [list(split.images[np.flatnonzero(split.labels == label)[:8]]) for label in range(len(names))]
    return Part(
        "data",
        "Test images of the first kinds, and how many of each there are to train on:",
        pictures.plot_images(rows, names),
    )


def mistakes(results: Results) -> Part:
    """Precision and recall by class of the ensemble of one variant's runs, and test images that it takes for others."""
    runs = results.runs(ALL)
    probabilities, labels = predict_split(runs)
    names = runs[0].label_names
    confusion = classification.confusion_matrix(probabilities, labels)
    rows = [
        [
            score.name,
            score.examples,
            f"{score.precision:.3f}",
            f"{score.recall:.3f}",
            taken_for(row, label, names),
            results.scale.data,
        ]
        for label, (score, row) in enumerate(zip(classification.class_scores(confusion, names), confusion, strict=True))
    ]
    wrong = np.flatnonzero(probabilities.argmax(-1) != labels)
    surest = wrong[np.argsort(probabilities[wrong, labels[wrong]])][:10]
    images = test_images(results.runs(PLAIN)[0]).images
    titles = [f"{names[labels[index]]}\nas {names[probabilities[index].argmax()]}" for index in surest]
    figure = pictures.plot_images([list(images[surest])], (), titles) if len(surest) else None
    head = ["kind", "test images", "precision", "recall", "mostly taken for", "data"]
    text = (
        f'By the mean probabilities of all seeds of "{ALL}", {len(wrong)} of {len(labels)} test images are taken for another kind; the '
        f"picture has those that were given the least probability of what they are.\n\n{markdown(head, rows)}"
    )
    return Part("mistakes", text, figure)


def taken_for(row: np.ndarray, label: int, names: tuple[str, ...]) -> str:
    """The class that a label is most often taken for wrongly, and how often.

    >>> taken_for(np.array([5, 2, 1]), 0, ("a", "b", "c"))
    'b, 2 times'
    """
    others = np.where(np.arange(len(row)) == label, 0, row)
    return f"{names[others.argmax()]}, {others.max()} times" if others.any() else ""


def parts(results: Results) -> Iterable[Part]:
    """Data and mistakes."""
    yield data(results)
    yield mistakes(results)


STUDY = Study(
    name="traffic_signs",
    title="Traffic signs: a case study",
    config={
        "dataset": {"name": "drawn_signs"},
        "model": {"name": "lenet_signs"},
        "optimizer": {"name": "adam", "learning_rate": 0.001},
        "evaluate": {"checkpoint": "last"},
        "log": {"tensorboard": False},
    },
    axes={
        PLAIN: {},
        "on grey": {"dataset.color_space": "grey"},
        "on YCbCr, each image normalised": YCBCR,
        "balanced": {"dataset.balanced": True},
        "augmented": AUGMENTED,
        "twice as wide": {"model.name": "lenet_signs_double"},
        ALL: {**YCBCR, **AUGMENTED, "dataset.balanced": True, "model.name": "lenet_signs_double"},
    },
    scales={
        "smoke": Scale(
            "drawn signs, 4 a kind",
            {"dataset.examples_per_class": 4, "train.batch_size": 12, "train.epochs": 1},
            1,
        ),
        "small": Scale(
            "drawn signs, 248 in all, standing in for GTSRB",
            {"train.batch_size": 30, "train.epochs": 40, "evaluate.every": 40},
            3,
        ),
        "full": Scale(
            "GTSRB",
            {
                "dataset.name": "gtsrb",
                "dataset.resize": (32, 32),
                "dataset.resize_mode": "stretch",
                "train.epochs": 30,
            },
            5,
        ),
    },
    published={
        PLAIN: "98.31 % (GTSRB, one multi-scale CNN, Sermanet and LeCun; Stallkamp et al., 2012)",
        ALL: "99.46 % (GTSRB, a committee of 25 CNNs, Cireşan et al., 2012); people 98.84 %",
    },
    findings="""
Augmentation is what helps: 11.7 points [6.1, 17.2], and its training accuracy of 76 % says that the 60,000-parameter LeNet still
fits. Colour carries some of it: grey costs 3.7 points [3.2, 4.2]. Balancing the classes, twice the width and YCbCr with each image
normalised have intervals that hold zero; nor does all of it together do more than augmentation alone, but for its ensemble
(78.5 against 77.0 %).

What is left is where people would look twice too: the three speed limits are taken for one another, and "stop" for "no entry" in 20
of 60 images, both red with a white bar in the middle at 32x32. These are drawn signs, 248 to train on; GTSRB has 39,209 photographs of
43 kinds, on which the published figures stand. Offline this study says nothing about those.
""",
    parts=parts,
)

if __name__ == "__main__":
    main(STUDY)
