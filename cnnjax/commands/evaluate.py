"""`cnnjax evaluate`: measures a run, or several runs as an ensemble, on a split."""

import argparse

from cnnjax.commands.arguments import add_workdir
from cnnjax.core.terminal import print_table, say

HELP = "loss and accuracy of a run, or of several as an ensemble"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `evaluate` takes."""
    add_workdir(parser, "one or more run directories", nargs="+", required=True)
    parser.add_argument("--split", default="test", choices=["train", "valid", "test"])
    parser.add_argument("--details", action="store_true", help="also top-5, calibration, and figures of each class")


def run(options: argparse.Namespace) -> None:
    """Prints the metrics, and the details where they are asked for."""
    from cnnjax import runs
    from cnnjax.tasks import classification_metrics as classification

    loaded = [runs.load_run(workdir) for workdir in options.workdir]
    result, probabilities, labels = runs.judge_split(loaded, options.split)
    what = str(options.workdir[0]) if len(options.workdir) == 1 else f"ensemble of {len(options.workdir)}"
    if loaded[0].task.monitor != "accuracy":
        say(f"{what}: {options.split} " + ", ".join(f"{name} {value:.4f}" for name, value in result.items()))
        return
    loss = f"loss {result['loss']:.4f}, " if "loss" in result else ""
    say(f"{what}: {options.split} accuracy {result['accuracy']:.4f}, {loss}negative log-likelihood {result['nll']:.4f}")
    if not options.details:
        return
    hits = int((probabilities.argmax(-1) == labels).sum())
    low, high = classification.wilson_interval(hits, len(labels))
    say(f"right {hits:,} of {len(labels):,}, 95 % interval of the accuracy {low:.4f} to {high:.4f} (Wilson)")
    if "top5_accuracy" in result:
        say(f"top-5 accuracy {result['top5_accuracy']:.4f}")
    say(f"calibration error {result['calibration_error']:.4f}")
    names = loaded[0].label_names
    confusion = classification.confusion_matrix(probabilities, labels)
    scores = classification.class_scores(confusion, names)
    columns = ("class", "examples", "precision", "recall", "F1", "most often taken for")
    figures = [(s.name, s.examples, f"{s.precision:.4f}", f"{s.recall:.4f}", f"{s.f1:.4f}") for s in scores]
    print_table(
        columns, [(*row, classification.taken_for(confusion[label], label, names)) for label, row in enumerate(figures)]
    )
