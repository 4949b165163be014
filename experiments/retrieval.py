"""Does training help to find similar images? Precision@10 on Fashion-MNIST's test images for several kinds of features.

    python -m experiments.retrieval

Each test image in turn is the query, and the 9,999 others are searched; a result is right if it has the class of the query. The
features are the input of the last layer of a small CNN, trained and untrained, and the raw pixels.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

import cnnjax
from cnnjax.analysis import precision_at_k
from cnnjax.data.datasets import Split
from cnnjax.runs import Run, load_split
from experiments.measures import drawn_state

METRICS = ("cosine", "euclidean")


def config(epochs: int) -> ConfigDict:
    """The tutorials' small CNN on Fashion-MNIST."""
    return cnnjax.load_config("fashion_mnist_cnn", {"train.epochs": epochs, "log.tensorboard": False})


def as_drawn(run: Run) -> Run:
    """The run with its initial weights."""
    return dataclasses.replace(run, selected=drawn_state(run))


def precisions(run: Run, split: Split, k: int = 10) -> dict[str, dict[str, float]]:
    """The precision@k: features -> metric -> value."""
    features = {
        "trained": run.vectors(split.images),
        "untrained": as_drawn(run).vectors(split.images),
        "raw pixels": np.reshape(split.images, (len(split), -1)) / np.float32(255),
    }
    return {
        name: {metric: precision_at_k(vectors, split.labels, k, metric) for metric in METRICS}
        for name, vectors in features.items()
    }


def markdown(found: dict[str, dict[str, float]]) -> str:
    """The table in Markdown."""
    rows = [
        f"| {name} | {' | '.join(f'{values[metric]:.3f}' for metric in METRICS)} |" for name, values in found.items()
    ]
    return "\n".join([f"| features | {' | '.join(METRICS)} |", "|---|--:|--:|", *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the network if needed, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.retrieval", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workdir", type=Path, default=Path("runs/retrieval"), help="the directory of the training run"
    )
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args(arguments)
    cnnjax.configure_runtime()
    run = cnnjax.train(config(options.epochs), options.workdir)
    print(f"test accuracy {run.metrics['test/accuracy']:.4f}\n{markdown(precisions(run, load_split(run, 'test')))}")


if __name__ == "__main__":
    main()
