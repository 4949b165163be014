"""Transfer learning with few images: LeNet-5 from scratch, and started from a network trained on other data.

    python -m experiments.transfer [--workdir runs/transfer] [--out experiments/transfer.md]

Digits to Fashion-MNIST and back: the convolutions and hidden layers of a network trained on one are where training on 10,
30 or 100 images a class of the other begins; the last layer is drawn anew. Five seeds each, which draw the images too; a
pair of runs shares seed and images, so that their difference is the start's alone.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import cnnjax
from cnnjax import files

SIZES, SEEDS = (10, 30, 100), range(5)
EPOCHS = {10: 100, 30: 60, 100: 30}
SOURCES = {"digits": "quickstart", "fashion_mnist": "fashion_mnist_lenet5"}
NETWORK = {"name": "lenet5", "activation": "tanh", "pooling": "average"}
STUDENT_T = 2.776  # 97.5th percentile with 4 degrees of freedom


def target_config(name: str, images: int, seed: int, source: Path | None) -> dict[str, Any]:
    """Training on so many images a class, from a run or from scratch."""
    shape = {"pad": (32, 32)} if name == "fashion_mnist" else {}
    return {
        "seed": seed,
        "dataset": {"name": name, "examples_per_class": images, "split_seed": seed, **shape},
        "model": NETWORK,
        "initial": {"run": str(source), "head": "new"} if source else {},
        "optimizer": {"learning_rate": 0.05, "weight_decay": 5e-4},
        "schedule": {"name": "cosine"},
        "train": {"batch_size": 50, "epochs": EPOCHS[images]},
        "evaluate": {"every": EPOCHS[images], "checkpoint": "last"},
        "log": {"progress": "off", "tensorboard": False},
    }


def row(target: str, images: int, scratch: Sequence[float], transferred: Sequence[float]) -> dict[str, Any]:
    """Means, standard deviations, and the paired difference with its 95 % interval, in per cent of the test images."""
    scratch, transferred = 100 * np.array(scratch), 100 * np.array(transferred)
    difference = transferred - scratch
    half = STUDENT_T * difference.std(ddof=1) / math.sqrt(len(difference))
    return {
        "trained on": target,
        "images a class": images,
        "from scratch": f"{scratch.mean():.2f} ± {scratch.std(ddof=1):.2f}",
        "transferred": f"{transferred.mean():.2f} ± {transferred.std(ddof=1):.2f}",
        "difference": f"{difference.mean():+.2f} [{difference.mean() - half:+.2f}, {difference.mean() + half:+.2f}]",
    }


def study(workdir: Path) -> list[Mapping[str, Any]]:
    """Trains what is not trained yet and returns the table's rows."""
    bases = {}
    for name, config in SOURCES.items():
        bases[name] = workdir / f"source-{name}"
        same = {f"model.{key}": value for key, value in NETWORK.items()}
        quiet = {"log.progress": "off", "log.tensorboard": False}
        cnnjax.train(cnnjax.load_config(config, same | quiet), bases[name])
    rows = []
    for target, source in (("fashion_mnist", bases["digits"]), ("digits", bases["fashion_mnist"])):
        for images in SIZES:
            accuracies: dict[str, list[float]] = {"scratch": [], "transferred": []}
            for seed in SEEDS:
                for kind, start in (("scratch", None), ("transferred", source)):
                    config = target_config(target, images, seed, start)
                    run = cnnjax.train(config, workdir / f"{target}-{images}-{kind}-{seed}")
                    accuracies[kind].append(run.metrics["test/accuracy"])
            rows.append(row(target, images, accuracies["scratch"], accuracies["transferred"]))
            print(rows[-1], flush=True)
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(cell) for cell in row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Runs the study and writes its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--out", type=Path, default=Path("experiments/transfer.md"))
    options = parser.parse_args()
    cnnjax.configure_runtime()
    table = markdown(study(options.workdir))
    title = "# Transfer learning with few images: test accuracy of LeNet-5 in per cent, five seeds"
    command = (
        "`python -m experiments.transfer`; mean ± standard deviation; paired differences with their 95 % interval."
    )
    files.write_atomically(options.out, f"{title}\n\n{command}\n\n{table}\n")
    print(table)


if __name__ == "__main__":
    main()
