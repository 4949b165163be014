"""The classifiers of the MNIST table compared with networks, on digits and clothes.

    python -m experiments.classic_classifiers            two minutes on 2 cores: writes experiments/results/classic_classifiers.md
    python -m experiments.classic_classifiers --page     writes the page from what is stored

LeCun, Bottou, Bengio and Haffner compared classifiers on MNIST ("Gradient-based learning applied to document recognition", Proceedings of
the IEEE 86(11), 1998, section III and figure 9); the data set's web page continued the table. Here the classic classifiers are those of
scikit-learn (Pedregosa et al., JMLR 12, 2011), on pixels from 0 to 1, and the networks are trained by cnnjax on the same images.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

import cnnjax
from cnnjax.core import files
from cnnjax.data.datasets import Dataset
from experiments.drawings import panels, save_svg, styled
from experiments.study import RESULTS, hardware, markdown

Features = Float[np.ndarray, "example pixel"]
Labels = Int[np.ndarray, "example"]


class Classifier(NamedTuple):
    """A row of the table.

    Attributes:
      make: makes a scikit-learn classifier, or the config fields of a network.
      published: the test error on MNIST in the table, with its source.
    """

    make: Callable[[], Any] | Mapping[str, Any]
    published: str


def _discriminant() -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    # The least squares solution with shrinkage: pixels that are always black would make the covariance singular.
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")


def _neighbours() -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(3)


def _stumps() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_depth=1, max_iter=200, early_stopping=False, random_state=0)


def _quadratic() -> Any:
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    return make_pipeline(PCA(40, random_state=0), QuadraticDiscriminantAnalysis(reg_param=0.01))


def _support_vectors() -> Any:
    from sklearn.svm import SVC

    return SVC(C=10, gamma="scale")


_TABLE = "LeCun et al., 1998"
_NETWORK = {"schedule.name": "cosine", "optimizer.learning_rate": 0.05, "train.batch_size": 50}
CLASSIFIERS: Mapping[str, Classifier] = {
    "linear discriminant": Classifier(_discriminant, f"12.0 % (a linear classifier; {_TABLE})"),
    "3 nearest neighbours, Euclidean": Classifier(_neighbours, f"5.0 % ({_TABLE})"),
    "boosted stumps": Classifier(_stumps, "7.7 % (Kégl et al., 2009)"),
    "40 principal components, quadratic": Classifier(_quadratic, f"3.3 % ({_TABLE})"),
    "support vectors, Gaussian kernel": Classifier(_support_vectors, "1.4 % (the data set's page)"),
    "perceptron 784-300-10": Classifier(
        {**_NETWORK, "model.name": "mlp", "model.features": (300,)}, f"4.7 % ({_TABLE})"
    ),
    "LeNet-5, ReLU and max pooling": Classifier(
        {
            **_NETWORK,
            "model.name": "lenet5",
            "model.activation": "relu",
            "model.pooling": "max",
            "dataset.pad": (32, 32),
        },
        f"0.95 % (LeNet-5 as published then; {_TABLE})",
    ),
}


class Scale(NamedTuple):
    """The data of a scale: the config fields of each data set, and the epochs of the networks."""

    sets: Mapping[str, Mapping[str, Any]]
    epochs: int


SCALES = {
    "smoke": Scale({"digits": {"dataset.examples_per_class": 45, "dataset.test_split": "test[:60]"}}, 2),
    "small": Scale(
        {
            "digits": {},
            "fashion_mnist": {"dataset.examples_per_class": 500},
        },
        20,
    ),
}
# The digits have 8x8 pixels as published, and are enlarged to Fashion-MNIST's size: perceptrons have 784 inputs.
SIZES = {"digits": {"dataset.resize": (28, 28)}, "fashion_mnist": {}}
TITLES = {"digits": "digits", "fashion_mnist": "Fashion-MNIST"}


def pixels(dataset: Dataset, split: str) -> tuple[Features, Labels]:
    """The images of a split as rows of pixels from 0 to 1, and their labels."""
    images = np.asarray(dataset.splits[split].images[:])
    return images.reshape(len(images), -1).astype(np.float32) / 255, np.asarray(dataset.splits[split].labels)


def test_error(classifier: Classifier, fields: Mapping[str, Any], epochs: int, folder: Path) -> float:
    """The share of test images that a classifier errs on.

    Args:
      classifier: the row of the table.
      fields: the config fields of the data.
      epochs: the number of epochs of a network.
      folder: the folder of the runs.
    """
    if callable(classifier.make):
        dataset = cnnjax.load_dataset(cnnjax.load_config({}, fields).dataset)
        model = classifier.make().fit(*pixels(dataset, "train"))
        images, labels = pixels(dataset, "test")
        return float((model.predict(images) != labels).mean())
    quiet = {"log.progress": "off", "log.tensorboard": False, "evaluate.checkpoint": "last", "devices": 1}
    config = cnnjax.load_config({}, {**fields, **classifier.make, **quiet, "train.epochs": epochs})
    return 1 - cnnjax.train(config, tempfile.mkdtemp(dir=folder)).metrics["test/accuracy"]


def measured(scale: str, folder: Path) -> dict[str, Any]:
    """What the page is made of."""
    chosen, found = SCALES[scale], {}
    for name, fields in chosen.sets.items():
        fields = {"dataset.name": name, **SIZES[name], **fields}
        splits = cnnjax.load_dataset(cnnjax.load_config({}, fields).dataset).splits
        rows = {}
        for title, classifier in CLASSIFIERS.items():
            rows[title] = test_error(classifier, fields, chosen.epochs, folder)
            print(f"{name}: {title}: {rows[title]:.2%}", flush=True)
        found[name] = {"train": len(splits["train"]), "test": len(splits["test"]), "rows": rows}
    return {"scale": scale, "where": hardware(), "epochs": chosen.epochs, "sets": found}


FINDINGS = """
With few training images the best of them are not behind. On 1,298 digits all but the
linear discriminant (4.5 % test error) are within two points of each other: a quadratic classifier of 40 principal components misclassifies 5 of
355 images, LeNet-5 10. On 5,000 clothes LeNet-5 (14.2 %), support vectors (14.5 %) and the perceptron (14.9 %) are the best; boosted stumps
have an error of 17.1 %, the nearest neighbours and the linear and quadratic discriminants of 19.9 to 21.6 %. In the published table, with
60,000 images, LeNet-5 leads clearly; with so few images it does not.
"""


def page(stored: Mapping[str, Any]) -> str:
    """The page of the study."""
    sets = stored["sets"]
    head = [
        "test error",
        *(f"{TITLES[name]}, {found['train']:,} images" for name, found in sets.items()),
        "published, MNIST",
    ]
    rows = [
        [title, *(f"{100 * found['rows'][title]:.1f} %" for found in sets.values()), classifier.published]
        for title, classifier in CLASSIFIERS.items()
    ]
    tested = " and ".join(f"{found['test']:,} of {TITLES[name]}" for name, found in sets.items())
    return f"""# The classifiers of the MNIST table

**How far behind are classifiers without convolutions?** {FINDINGS.strip()}

![Test errors by classifier and data set.](classic_classifiers.svg)

To repeat it: `python -m experiments.classic_classifiers` ({stored["where"]}; networks {stored["epochs"]} epochs, one seed). Test
images: {tested}. Published figures are for MNIST's 60,000 training images, which are not the data here.

**Exercise.** The quadratic classifier of 40 principal components is the best on digits and the worst on clothes. How many parameters has it
for each class (a mean and a symmetric covariance of 40 values), and how many training images of a class are there in both sets?

{markdown(head, rows)}

`experiments/classic_classifiers.py` has the settings. The linear discriminant shrinks its covariance, the quadratic one has a regularisation of
0.01, and 200 rounds of gradient boosting with trees of one split replace the published AdaBoost.
"""


@styled()
def figure(stored: Mapping[str, Any]) -> Figure:
    """The test errors of each data set."""
    drawn, axes = panels(len(stored["sets"]), height=2.6, sharey=True)
    for axis, (name, found) in zip(axes, stored["sets"].items(), strict=True):
        names = list(found["rows"])[::-1]
        axis.barh(names, [100 * found["rows"][title] for title in names])
        axis.set_xlabel(f"test error (%), {TITLES[name]}")
        axis.grid(False, axis="y")
        axis.grid(axis="x")
    return drawn


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, stores what the page is made of, and writes the page and its figure."""
    description = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m experiments.classic_classifiers", description=description)
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page from what is stored")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the page")
    options = parser.parse_args(arguments)
    path = options.out / "classic_classifiers.json"
    if not options.page:
        with tempfile.TemporaryDirectory() as folder:
            files.write_atomically(path, json.dumps(measured(options.scale, Path(folder)), indent=1) + "\n")
    stored = json.loads(path.read_text(encoding="utf-8"))
    save_svg(figure(stored), options.out / "classic_classifiers.svg")
    files.write_atomically(options.out / "classic_classifiers.md", page(stored))


if __name__ == "__main__":
    main()
