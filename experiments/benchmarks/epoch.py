"""A whole epoch of `cnnjax train` against the bare time of its steps.

    python -m experiments.benchmarks.epoch

LeNet-5 on Fashion-MNIST from disk, shifted and mirrored, evaluated and saved after every epoch; beside it the same
network's training step of `train_step`, on one batch that is on the device. The two take turns: the training is stopped
after each epoch.
"""

import contextlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from experiments.benchmarks import report
from experiments.benchmarks.measurement import (
    ATTEMPTS,
    TURN_SECONDS,
    Measured,
    ProcessError,
    Worker,
    in_turns,
    steps_for,
)
from experiments.benchmarks.networks import NETWORKS
from experiments.benchmarks.train_step import job
from experiments.benchmarks.training_run import TrainingRun

# Whole epoch over bare steps: the loop, its data, augmentation, evaluation and checkpoints cost at most a tenth.
TARGET = 1.10
PADDING = {"fashion_mnist": {"pad": (32, 32)}, "mnist": {"pad": (32, 32)}, "digits": {}}
# The first epoch compiles, the second saves for the first time.
EPOCHS_BEFORE = 2


def config(dataset: str, epochs: int) -> dict[str, Any]:
    """The training, of the network and batch that `train_step` times."""
    return {
        "dataset": {"name": dataset, **PADDING[dataset]},
        "augment": {"pad": 2, "flip_horizontal": True},
        "model": {"name": NETWORKS["lenet5"].model},
        "train": {"batch_size": NETWORKS["lenet5"].batch_size, "epochs": epochs},
        "devices": 1,
    }


def compare(dataset: str, rounds: int) -> tuple[dict[str, Measured], int]:
    """Times epochs and bare steps in turns; returns both, and how many steps an epoch has.

    Raises:
      ProcessError: one of them failed.
    """
    epochs = EPOCHS_BEFORE + rounds * ATTEMPTS
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        report.progress("the training starts")
        training = stack.enter_context(TrainingRun("cnnjax train", config(dataset, epochs), folder / "training"))
        for _ in range(EPOCHS_BEFORE):
            training.epoch()
        first_line = (training.run_directory / "metrics.jsonl").read_text(encoding="utf-8").partition("\n")[0]
        steps_per_epoch = json.loads(first_line)["step"]
        report.progress("the bare step starts")
        bare = stack.enter_context(Worker("bare step", job("cnnjax", "lenet5", "train", "float32", folder / "caches")))
        steps = steps_for(partial(bare.run, "train"), TURN_SECONDS)
        turns = {"epoch": training.epoch, "step": partial(bare.run, "train", steps)}
        taken, failures = in_turns(turns, rounds, report.progress)
    if failures:
        raise ProcessError("; ".join(failures.values()))
    return {name: Measured(of_one, steps if name == "step" else 1) for name, of_one in taken.items()}, steps_per_epoch


def table(measured: Mapping[str, Measured], dataset: str, steps_per_epoch: int) -> report.Table:
    """Epoch, step, and how much longer an epoch is than its steps."""
    ratio = measured["epoch"].median / (steps_per_epoch * measured["step"].median)
    row = [
        dataset,
        str(steps_per_epoch),
        report.cell(measured["epoch"], 1.0),
        report.cell(measured["step"], 1e-3),
        f"{ratio:.2f}",
        f"{TARGET:.2f}",
    ]
    columns = ["data", "steps", "whole epoch, s", "bare step, ms", "epoch / its bare steps", "at most"]
    return report.Table("An epoch of LeNet-5", columns, [row], [report.foreign_note(measured.values())])


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the comparison and shows its table."""
    parser = report.parser(__doc__.splitlines()[0], rounds=5)
    parser.add_argument("--dataset", choices=list(PADDING), default="fashion_mnist", help="default: fashion_mnist")
    options = report.parse(parser, arguments)
    try:
        measured, steps = compare(options.dataset, options.rounds)
    except ProcessError as error:
        parser.exit(1, f"{error}\n")
    found = {name: of_one.as_dict() for name, of_one in measured.items()}
    result = {"dataset": options.dataset, "steps_per_epoch": steps, **found}
    report.finish(options, "A whole epoch", [table(measured, options.dataset, steps)], [result], [])


if __name__ == "__main__":
    main()
