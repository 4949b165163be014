"""The command line: subcommands -> functions a notebook can call. Only argparse is imported before one is chosen."""

import argparse
import io
import json
import logging
import os
import shlex
import shutil
import signal
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from cnnjax import __version__
from cnnjax.core import runtime
from cnnjax.core.terminal import print_table, printable, say


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 when it did what was asked, 1 with one line on what was wrong, 2 for usage."""
    parser = _parser()
    options, rest = parser.parse_known_args(_spelled(sys.argv[1:] if arguments is None else arguments))
    if "run" not in options:
        if rest:
            parser.error(f"unrecognized argument: {rest[0]}")
        parser.print_help()
        sys.exit(0)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # of an encoding that lacks some letters, as a pipe's on Windows
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if not options.debug:
        # Orbax and TFDS log what they raise, tracebacks and all; after a failed write asyncio and TensorStore complain too.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        sys.unraisablehook = lambda _: None
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")  # it compiles, then
    # Outside the training loop, which has its own way, SIGTERM ends a command as SIGINT does: tidily.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        options.overrides = _overrides(rest, parser, hasattr(options, "config"))
        runtime.configure_runtime()
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt as stop:
        if options.debug:
            raise
        _fail(str(stop) or "interrupted", 128 + getattr(stop, "number", signal.SIGINT))
    except Exception as error:
        if options.debug:
            raise
        _fail(_one_line(error), 1)
    sys.exit(0)


def _spelled(arguments: Sequence[str]) -> list[str]:
    """Flags in one spelling: hyphens, but in the names of config fields, which are Python's. Either is accepted in both.

    >>> _spelled(["--skip_unreadable", "--config.train.batch-size=8", "--vary=a_b", "my-run", "--", "--a_b"])
    ['--skip-unreadable', '--config.train.batch_size=8', '--vary=a_b', 'my-run', '--', '--a_b']
    """
    words = list(arguments)
    flags = words.index("--") if "--" in words else len(words)
    for place, word in enumerate(words[:flags]):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_") if name.startswith("config.") else name.replace("_", "-")
            words[place] = f"--{name}{equals}{value}"
    return words


def _terminate(number: int, frame: Any) -> NoReturn:
    stop = KeyboardInterrupt("terminated")
    stop.number = number
    raise stop


def _fail(message: str, code: int) -> NoReturn:
    say(f"cnnjax: {message}", error=True)
    sys.exit(code)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    expected = ValueError, TypeError, OSError, RuntimeError, FloatingPointError
    if isinstance(error, expected) and type(error).__module__ in (
        "builtins",
        "cnnjax.core.files",
        "cnnjax.training.checkpoints",
    ):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text[:400]} (--debug shows where)"


# The groups of commands, as `cnnjax` lists them.
TRAIN, COMPARE, INSIDE, BEFORE, REFERENCE = (
    "train and use", "compare", "look inside", "before training", "what there is"
)  # fmt: skip


def _listed(groups: Mapping[str, Mapping[str, str]]) -> str:
    """The commands with what they do, by group."""
    import textwrap

    blocks = []
    for title, commands in groups.items():
        lines = [
            textwrap.fill(text, 80, initial_indent=f"  {name:<16}", subsequent_indent=" " * 18)
            for name, text in commands.items()
        ]
        blocks.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join([*blocks, "`cnnjax COMMAND --help` has what each can be told."])


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(
        prog="cnnjax",
        usage="cnnjax [-h] [--version] COMMAND ...",
        description="Convolutional image models in JAX and Flax: train, compare, predict.\n"
        "The first to try: cnnjax train --config quickstart",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cnnjax {__version__}")
    commands = parser.add_subparsers(prog="cnnjax", metavar="COMMAND", help=argparse.SUPPRESS)
    groups: dict[str, dict[str, str]] = {title: {} for title in (TRAIN, COMPARE, INSIDE, BEFORE, REFERENCE)}

    def command(group: str, name: str, function: Any, help: str, **settings: Any) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, parents=[common], description=help, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter, **settings,
        )  # fmt: skip
        added.set_defaults(run=function)
        groups[group][name] = help
        return added

    train = command(
        TRAIN, "train", _train, "train a config, or resume a run that was stopped",
        epilog="Any field of the config can be set: --config.optimizer.learning_rate=0.05. `cnnjax fields` lists them.",
    )  # fmt: skip
    train.add_argument(
        "--config", metavar="FILE", help="a config file (FILE:ARGUMENT), or the name of one of cnnjax's own"
    )
    train.add_argument("--workdir", type=Path, metavar="DIR", help="the run directory (default: runs/<config name>)")
    train.add_argument("--overwrite", action="store_true", help="delete the run that is in the directory")
    train.add_argument(
        "--check-replicas", action="store_true", help="compare the devices' states after each epoch (debugging)"
    )

    several = train.add_argument_group("several processes", "under SLURM and on TPU pods these are found out")
    several.add_argument("--coordinator", metavar="HOST:PORT", help="of the first process")
    several.add_argument("--processes", type=int, metavar="N", help="how many there are")
    several.add_argument("--process-id", type=int, metavar="I", help="which this is, from 0")
    several.add_argument("--wait", type=float, metavar="SECONDS", help="how long to wait for the others (default: 30)")

    evaluate = command(TRAIN, "evaluate", _evaluate, "loss and accuracy of a run, or of several as an ensemble")
    evaluate.add_argument(
        "--workdir", type=Path, nargs="+", required=True, metavar="DIR", help="one or more run directories"
    )
    evaluate.add_argument("--split", default="test", choices=["train", "valid", "test"])
    evaluate.add_argument("--details", action="store_true", help="also top-5, calibration, and figures of each class")

    diagnosed = command(INSIDE, "diagnose", _diagnose, "what is wrong with a training, in words, and what to try")
    diagnosed.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories, of failed runs too")

    predict = command(TRAIN, "predict", _predict, "classify image files, or all images in folders")
    predict.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="image files and folders")
    predict.add_argument("--workdir", type=Path, required=True, metavar="DIR", help="the run directory")
    predict.add_argument("--topk", type=int, default=1, metavar="K", help="how many classes to show for each image")
    predict.add_argument(
        "--resize", default="auto", choices=["auto", "refuse"],
        help="images of another size than the training's: by the shorter side and the central crop, or refused",
    )  # fmt: skip
    predict.add_argument("--csv", type=Path, metavar="FILE", help="write the predictions there instead")
    predict.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be read")

    summary = command(
        INSIDE, "summary", _summary, "a network's layers: shapes, parameters, MACs, receptive fields",
        epilog="The model's options can be set: --config.model.towers=1. `cnnjax models MODEL` lists them.",
    )  # fmt: skip
    summary.add_argument("model", metavar="MODEL|RUN", help="one of `cnnjax models`, or a run directory")
    summary.add_argument(
        "--input", type=_shape, metavar="H,W,C", help="height, width, channels (default: as published, or the run's)"
    )
    summary.add_argument("--classes", type=int, metavar="N", help="how many classes (default: as published)")
    summary.add_argument("--depth", type=int, metavar="N", help="a row for each block of so many levels (default: all)")
    summary.add_argument("--format", choices=["table", "markdown", "json"], default="table")
    summary.set_defaults(config=None)

    ablate = command(
        COMPARE, "ablate", _ablate, "train variants of a config with several seeds: a table",
        epilog="Give the same command again to go on, or to see the table; start it several times with one --workdir and the\n"
        "processes share the trials. --vary may be given several times: every combination is trained. A config file's own\n"
        "get_hyper(hyper) or sweep(add) is run where --vary is not given.",
    )  # fmt: skip
    ablate.add_argument("--config", required=True, metavar="FILE", help="as for train")
    ablate.add_argument(
        "--vary", action="append", default=[], metavar="FIELD=VALUE,VALUE...", help="a field and its values"
    )
    ablate.add_argument(
        "--seed-fields", type=lambda text: tuple(text.split(",")), default=("seed",), metavar="FIELD,FIELD...",
        help="the fields that a seed is put into (default: seed)",
    )  # fmt: skip
    ablate.add_argument(
        "--baseline", metavar="VARIANT", help="the variant the others are compared with (default: the first)"
    )
    _add_study_arguments(ablate, "ablation", "test/accuracy")

    search = command(
        COMPARE, "search", _search, "try points of a space of configs; the best first",
        epilog="Methods: grid, random, halton, sobol, coarse_to_fine, halving, optuna. Give the same command again to go on; start\n"
        "it several times with one --workdir and the processes share the trials.",
    )  # fmt: skip
    search.add_argument("--config", required=True, metavar="FILE", help="as for train")
    search.add_argument(
        "--vary", action="append", required=True, metavar="FIELD=RANGE",
        help="a field and its values, or uniform(A,B), log_uniform(A,B), whole(A,B)",
    )  # fmt: skip
    search.add_argument("--method", default="random", metavar="NAME", help="how points are chosen (default: random)")
    search.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of the method, such as stages=4"
    )
    search.add_argument("--points", type=int, default=20, metavar="N", help="how many are tried (default: 20)")
    search.add_argument("--seed", type=int, default=0, help="of the points drawn (default: 0)")
    _add_study_arguments(search, "search", "valid/accuracy")

    finder = command(
        BEFORE, "find-lr", _find_lr, "learning-rate range test: where the loss falls and diverges",
    )  # fmt: skip
    finder.add_argument("--config", required=True, metavar="FILE", help="as for train")
    finder.add_argument("--lowest", type=float, default=1e-6, help="rate of the first step (default: 1e-6)")
    finder.add_argument("--highest", type=float, default=10.0, help="rate of the last step (default: 10)")
    finder.add_argument("--steps", type=int, default=100, help="how many (default: 100)")
    finder.add_argument(
        "--out", type=Path, metavar="FILE", help="the plot (default: exploration/<config name>/find-lr.png)"
    )

    preview = command(BEFORE, "preview", _preview, "draw training images as the network sees them")
    preview.add_argument("--config", required=True, metavar="FILE", help="as for train")
    preview.add_argument(
        "--out", type=Path, metavar="FILE", help="the picture (default: exploration/<config name>/preview.png)"
    )

    explore = command(
        BEFORE, "explore", _explore, "a data set's balance, statistics, examples, duplicates: a page",
        epilog="Fields of the config can be set, such as --config.dataset.resize='(64, 64)' for images of differing sizes.",
    )  # fmt: skip
    explore.add_argument(
        "config", metavar="DATASET|FOLDER|CONFIG", help="one of `cnnjax datasets`, a folder of images, or a config"
    )
    explore.add_argument("--out", type=Path, metavar="DIR", help="folder of the page (default: exploration/<name>)")

    index = command(
        INSIDE, "index", _index, "a layer's features of every image, to find similar ones",
        epilog="Then: cnnjax similar INDEX IMAGE",
    )  # fmt: skip
    index.add_argument("workdir", type=Path, metavar="RUN", help="the run directory")
    index.add_argument(
        "source", metavar="FOLDER|SPLIT", help="a folder of images; or train, valid or test of the run's data"
    )
    index.add_argument("--layer", metavar="PATH", help="whose output is taken (default: the input of the last layer)")
    index.add_argument("--metric", default="cosine", choices=["cosine", "euclidean"])
    index.add_argument(
        "--approximate",
        action="store_true",
        help="for millions of images: find most of the nearest, fast (needs faiss)",
    )
    index.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be read")
    index.add_argument(
        "--out", type=Path, default=Path("index.npz"), metavar="FILE", help="the index (default: index.npz)"
    )

    similar = command(INSIDE, "similar", _similar, "the images of an index that are most similar to one")
    similar.add_argument("index", type=Path, metavar="INDEX", help="what `cnnjax index` wrote")
    similar.add_argument("image", type=Path, metavar="IMAGE", help="the query")
    similar.add_argument("--topk", type=int, metavar="K", help="how many to show (default: 10, or all)")
    similar.add_argument("--out", type=Path, metavar="FILE", help="also draw them there, .png")
    similar.add_argument("--workdir", type=Path, metavar="DIR", help="where the run is, if it was moved")
    similar.add_argument(
        "--trusted", action="store_true",
        help="read the run and the images wherever the index says; otherwise only in its own folder",
    )  # fmt: skip

    animate = command(INSIDE, "animate", None, "a GIF for teaching: a convolution, or a filter on a picture")
    animations = animate.add_subparsers(metavar="WHAT", required=True)
    convolution = animations.add_parser(
        "convolution", parents=[common], allow_abbrev=False,
        help="the window, the sum and the output, or how a transposed one adds up",
    )  # fmt: skip
    convolution.add_argument("--input", type=int, required=True, metavar="N", help="height and width of the input")
    convolution.add_argument("--kernel", type=int, required=True, metavar="N", help="height and width of the kernel")
    convolution.add_argument("--stride", type=int, default=1, metavar="N")
    convolution.add_argument("--padding", type=int, default=0, metavar="N", help="zeros on each side")
    convolution.add_argument("--dilation", type=int, default=1, metavar="N", help="between the kernel's elements")
    convolution.add_argument("--transposed", action="store_true", help="a transposed convolution")
    convolution.add_argument("--seed", type=int, default=0, help="of the numbers (default: 0)")
    filtered = animations.add_parser(
        "filter", parents=[common], allow_abbrev=False, help="a classic filter on a picture"
    )
    filtered.add_argument("name", metavar="NAME", help="such as sobel_horizontal; an unknown one lists the nearest")
    filtered.add_argument("image", type=Path, metavar="IMAGE")
    for kind, function, name in (
        (convolution, _animate_convolution, "convolution"),
        (filtered, _animate_filter, "filter"),
    ):
        kind.set_defaults(run=function)
        kind.add_argument(
            "--out", type=Path, default=Path(f"{name}.gif"), metavar="FILE", help=f"the animation (default: {name}.gif)"
        )

    report = command(
        INSIDE, "report", _report, "a page on what one run or several learned and where they fail",
        epilog="One file without the network's help: curves, diagnosis, confusion matrix, calibration, mistakes, filters, feature\n"
        "maps, saliency, embedding, config. Its figures and report.md lie beside it.",
    )  # fmt: skip
    report.add_argument("workdir", nargs="+", type=Path, metavar="RUN", help="one or more run directories")
    report.add_argument(
        "--out", type=Path, metavar="FILE",
        help="the page, .html (default: RUN/report/index.html; of several runs, comparison/index.html)",
    )  # fmt: skip
    report.add_argument(
        "--examples", type=int, default=10_000, metavar="N", help="of the test split, its first (default: 10000)"
    )

    imported = command(
        TRAIN, "import-weights", _import_weights, "make a run of a torchvision network's weights",
        epilog="Other preprocessing than torchvision's first weights had: --config.dataset.resize='(232, 232)'.",
    )  # fmt: skip
    imported.add_argument(
        "file", type=Path, metavar="FILE", help="a state dict: .safetensors, .npz, or .pth with PyTorch"
    )
    imported.add_argument("--model", required=True, metavar="NAME", help="torchvision's name, such as resnet50")
    imported.add_argument("--workdir", type=Path, required=True, metavar="DIR", help="the run directory to make")
    imported.add_argument("--labels", type=Path, metavar="FILE", help="the classes' names, one a line, in order")
    imported.set_defaults(config=None)

    models = command(REFERENCE, "models", _models, "the models: sizes, whose weights load; or the options of one")
    models.add_argument("name", nargs="?", help="a model")
    command(BEFORE, "datasets", _datasets, "the data sets and what it takes to use each here")
    fields = command(REFERENCE, "fields", _fields, "the fields of a config: their defaults and meanings")
    fields.add_argument(
        "section",
        nargs="?",
        metavar="SECTION",
        help="of a section (optimizer), a component (optimizer.sgd), or one field",
    )
    command(REFERENCE, "doctor", _doctor, "versions, devices, settings, and what works offline")
    parser.epilog = _listed(groups)
    return parser


def _add_study_arguments(command: argparse.ArgumentParser, kind: str, metric: str) -> None:
    command.add_argument(
        "--seeds", type=_seeds, metavar="N or A,B,...", help="how many, from 0 on, or which (default: 1)"
    )
    command.add_argument(
        "--workdir", type=Path, metavar="DIR", help=f"the study's folder (default: runs/<config name>-{kind})"
    )
    command.add_argument("--metric", default=metric, metavar="NAME", help=f"what the table shows (default: {metric})")
    command.add_argument(
        "--strategy", default="auto", metavar="NAME",
        help="serial, vmap, devices (one trial each) or auto: how trials that differ only in numbers are run",
    )  # fmt: skip
    command.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there, in Markdown")
    command.add_argument("--latex", type=Path, metavar="FILE", help="... in LaTeX")
    command.add_argument("--csv", type=Path, metavar="FILE", help="... a row a trial, as comma-separated values")
    command.add_argument("--plot", type=Path, metavar="FILE", help="... as a picture, .png")


def _overrides(rest: Sequence[str], parser: argparse.ArgumentParser, allowed: bool) -> dict[str, Any]:
    """{"section.field": value} from what argparse did not know: --config.section.field=value."""
    overrides, words = {}, iter(rest)
    for word in words:
        if not (allowed and word.startswith("--config.")):
            parser.error(f"unrecognized argument: {word}")
        path, equals, text = word.removeprefix("--config.").partition("=")
        if not equals:
            text = next(words, None)
            if text is None:
                parser.error(f"{word} needs a value: {word}=VALUE")
        from cnnjax.config import parse_value

        overrides[path] = parse_value(text)
    return overrides


def _train(options: argparse.Namespace) -> None:
    from cnnjax import runs
    from cnnjax.config import config_name, load_config
    from cnnjax.training import processes
    from cnnjax.training.interruption import Interrupted
    from cnnjax.training.run_directory import CONFIG, is_run

    source = options.config
    if source is None:
        if options.workdir is None or not is_run(options.workdir):
            raise ValueError(
                "no config: give --config FILE (`--config quickstart` is the first to try), or --workdir of a run to go on with"
            )
        source = str(options.workdir / CONFIG)
    config = load_config(source, options.overrides)
    processes.start(options.coordinator, options.processes, options.process_id, options.wait)
    workdir = options.workdir or runs.free_directory(config_name(source), config)
    if processes.is_first():
        say(f"run directory: {workdir}")
    try:
        run = runs.train(config, workdir, check_replicas=options.check_replicas, overwrite=options.overwrite)
    except Interrupted as stop:
        stop.args = (f"{stop}; go on with: {_program()} train --workdir {shlex.quote(str(workdir))}",)
        raise
    if not processes.is_first():
        return
    say(
        f"test accuracy {run.metrics['test/accuracy']:.4f}, loss {run.metrics['test/loss']:.4f} "
        f"(checkpoint of step {run.metrics['checkpoint']} of {run.metrics['step']})\n"
        f"next: {_program()} evaluate --workdir {shlex.quote(str(workdir))}\n"
        f"      {_program()} predict --workdir {shlex.quote(str(workdir))} {_sample(config.dataset.name)}"
    )


def _program() -> str:
    """How this shell starts cnnjax again: by its name where that is on the PATH, else as it was started now."""
    started, here = Path(sys.argv[0]), shutil.which("cnnjax")
    if here and Path(here).parent.samefile(Path(sys.executable).parent):
        return "cnnjax"
    if started.parts[-2:] == ("cnnjax", "__main__.py"):  # python -m cnnjax
        return f"{shlex.quote(sys.executable)} -m cnnjax"
    return shlex.quote(str(started)) if started.stem == "cnnjax" else "cnnjax"


def _sample(name: str) -> str:
    """An image to try predictions of a data set's classes with; a word for the user's own where none comes with the set."""
    from cnnjax.data.datasets import sample_image

    path = sample_image(name)
    if path is None:
        return "IMAGE...  # files or folders of your own"
    near = path.is_relative_to(Path.cwd())
    return shlex.quote(str(path.relative_to(Path.cwd()) if near else path))


def _evaluate(options: argparse.Namespace) -> None:
    from cnnjax import runs
    from cnnjax.analysis import classification

    loaded = [runs.load_run(workdir) for workdir in options.workdir]
    result, probabilities, labels = runs.judge_split(loaded, options.split)
    what = str(options.workdir[0]) if len(options.workdir) == 1 else f"ensemble of {len(options.workdir)}"
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


def _diagnose(options: argparse.Namespace) -> None:
    from cnnjax.report import diagnosis

    for number, workdir in enumerate(options.runs):
        logged = diagnosis.read_logs(workdir)
        findings, unseen = diagnosis.diagnose_history(*logged), diagnosis.cannot_see_history(*logged)
        blank = "\n" if number else ""
        say(f"{blank}{workdir}: {', '.join(finding.name for finding in findings) or diagnosis.NONE_FOUND}")
        for finding in findings:
            say(f"\n{finding.name}: {finding.words}\n  evidence: {finding.evidence}\n  advice: {finding.advice}")
        if unseen:
            say("\ncannot see " + "\ncannot see ".join(unseen))


def _predict(options: argparse.Namespace) -> None:
    import numpy as np

    from cnnjax import runs
    from cnnjax.core import files
    from cnnjax.data.fitting import summarize
    from cnnjax.data.folders import check_utf8, find_images
    from cnnjax.data.transforms import read_image

    run = runs.load_run(options.workdir)
    if not 1 <= options.topk <= len(run.label_names):
        raise ValueError(
            f"--topk {options.topk}: the run has {len(run.label_names)} classes: choose 1 to {len(run.label_names)}"
        )
    found = find_images(options.paths)
    if options.csv:
        if not options.csv.parent.is_dir():
            raise FileNotFoundError(f"--csv {options.csv}: there is no folder {options.csv.parent}")
        if options.csv.is_dir():
            raise IsADirectoryError(f"--csv {options.csv} is a folder: expected a file")
        for path in found:
            check_utf8(path)
    paths, fitted, bad = [], [], []
    for path in found:
        try:
            fitted.append(run.fit(read_image(path), str(path), options.resize))
            paths.append(path)
        except (ValueError, OSError) as error:
            bad.append(str(error))
    summary = f"{len(bad)} of {len(bad) + len(paths)} files cannot be classified: {files.listed(bad)}"
    if bad and not options.skip_unreadable:
        raise ValueError(f"{summary} (--skip-unreadable leaves them out)")
    for line in summarize([(str(path), one.remarks) for path, one in zip(paths, fitted, strict=True)]):
        say(f"cnnjax: {line}", error=True)
    pixels = [one.pixels for one in fitted]
    probabilities = run.predict_prepared(np.stack(pixels)) if pixels else np.zeros((0, len(run.label_names)))
    ranked = [
        [(run.label_names[index], float(row[index])) for index in np.argsort(-row, kind="stable")[: options.topk]]
        for row in probabilities
    ]
    if options.csv:
        columns = (f"{column}_{rank}" for rank in range(1, options.topk + 1) for column in ("label", "probability"))
        rows = [
            [str(path), *(value for name, probability in classes for value in (name, f"{probability:.6f}"))]
            for path, classes in zip(paths, ranked, strict=True)
        ]
        files.write_atomically(options.csv, files.as_csv([["path", *columns], *rows]))
        say(f"{len(paths)} predictions in {options.csv}")
    else:
        for path, classes in zip(paths, ranked, strict=True):
            say(
                f"{printable(path)}  "
                + "  ".join(f"{printable(name)} {probability:.4f}" for name, probability in classes)
            )
    if bad:
        say(f"cnnjax: {summary}", error=True)


def _shape(text: str) -> tuple[int, int, int]:
    sides = tuple(int(side) for side in text.split(",")) if text.replace(",", "").isdigit() else ()
    if len(sides) != 3 or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected height,width,channels, such as 224,224,3")
    return sides


def _summary(options: argparse.Namespace) -> None:
    from cnnjax.analysis.summary import summarize
    from cnnjax.models import MODELS

    others = [path for path in options.overrides if not path.startswith("model.")]
    if others:
        raise ValueError(f"--config.{others[0]}: expected an option of the model, --config.model.NAME=VALUE")
    chosen = {path.removeprefix("model."): value for path, value in options.overrides.items()}
    if options.model not in MODELS and Path(options.model).is_dir():
        if chosen or options.classes:
            raise ValueError(
                f"summary of the run {options.model}: its config says the model: leave out --config and --classes"
            )
        summary = _summarize_run(Path(options.model), options.input)
    else:
        summary = summarize(options.model, options.input, options.classes, **chosen)
    if options.depth is not None:
        summary = summary.folded(options.depth)
    if options.format == "json":
        say(json.dumps(summary.as_dict(), indent=2))
    elif options.format == "markdown":
        say(summary.markdown())
    else:
        print_table(*summary.table(), least=("height", "memory", "receptive field"))


def _summarize_run(workdir: Path, input_shape: tuple[int, int, int] | None) -> Any:
    import dataclasses

    from cnnjax import runs
    from cnnjax.analysis.summary import summarize
    from cnnjax.report.diagnosis import read_logs
    from cnnjax.training.loop import build

    _, config, described = read_logs(workdir)
    model = build(config, described["class_counts"]).model
    summary = summarize(model, input_shape or runs.network_shape(config, described["image_shape"]))
    return dataclasses.replace(summary, model=config.model.name)


def _seeds(text: str) -> int | list[int]:
    if not text.replace(",", "").isdigit() or text.startswith(",") or text.endswith(","):
        raise argparse.ArgumentTypeError(f"{text!r}: expected how many, such as 5, or which, such as 0,3,7")
    return [int(seed) for seed in text.split(",")] if "," in text else int(text)


def _ablate(options: argparse.Namespace) -> None:
    from cnnjax.ablation import study, sweeps
    from cnnjax.ablation.spaces import parse_axis
    from cnnjax.config import load_config

    config = load_config(options.config, options.overrides)
    axes, seeds = _once("--vary", map(parse_axis, options.vary)), None
    if not axes and (variants := sweeps.read_sweep(options.config)):
        axes, seeds = sweeps.split_seeds(variants)
    _finish_study(
        options, "ablation", study.ablate, config, axes, _first_given(options.seeds, seeds, 1),
        baseline=options.baseline, seed_fields=options.seed_fields,
    )  # fmt: skip


def _search(options: argparse.Namespace) -> None:
    from cnnjax.ablation.search import search
    from cnnjax.ablation.spaces import parse_range
    from cnnjax.config import load_config, parse_value

    config = load_config(options.config, options.overrides)
    pairs = [text.partition("=") for text in options.option]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ValueError(f"--option {wrong[0]}: expected NAME=VALUE, such as stages=4")
    space = _once("--vary", map(parse_range, options.vary))
    settings = _once("--option", ((name, parse_value(text)) for name, _, text in pairs))
    _finish_study(
        options, "search", search, config, space, seeds=_first_given(options.seeds, 1),
        method=options.method, points=options.points, seed=options.seed, **settings,
    )  # fmt: skip


def _first_given(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _once(flag: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    if len(dict(pairs)) < len(pairs):
        twice = next(name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1)
        raise ValueError(f"{flag}: {twice} is given twice: give it once")
    return dict(pairs)


def _finish_study(options: argparse.Namespace, kind: str, run: Any, *arguments: Any, **settings: Any) -> None:
    """Runs a study, then prints its table and writes it where that is asked for."""
    from cnnjax.ablation.table import LEAST
    from cnnjax.analysis import pictures
    from cnnjax.config import config_name
    from cnnjax.core import files

    for path in (options.markdown, options.latex, options.csv, options.plot):
        if path and not path.parent.is_dir():
            raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    workdir = options.workdir or Path("runs") / f"{config_name(options.config)}-{kind}"
    try:
        table = run(*arguments, workdir=workdir, metric=options.metric, strategy=options.strategy, **settings)
    except KeyboardInterrupt as stop:
        stop.args = (f"{str(stop) or 'interrupted'}; go on with the same command",)
        raise
    if sys.stdout.isatty():
        columns, rows = table.brief()
        print_table(columns, rows, least=LEAST)
    else:
        columns, *rows = table.cells()
        print_table(columns, rows)
    for path, content in ((options.markdown, table.markdown), (options.latex, table.latex), (options.csv, table.csv)):
        if path:
            files.write_atomically(path, content().rstrip("\n") + "\n")
    if options.plot:
        pictures.save(table.plot(), options.plot)
    for record in table.trials:
        if record["status"] == "failed":
            say(f"failed: {record['variant']}, seed {record['seed']}: {record['error']}", error=True)


def _exploration(source: str) -> Path:
    """Where what is seen before training goes unless told: a folder for each config, data set or folder of images."""
    path = Path(source.split(":")[0]).expanduser()
    if path.suffix in (".py", ".json"):
        name = path.resolve().parent.name if path.name == "config.json" else path.stem
    else:
        name = path.resolve().name if path.is_dir() else source.replace("/", "_")
    return Path("exploration") / name


def _find_lr(options: argparse.Namespace) -> None:
    from cnnjax import runs
    from cnnjax.analysis import pictures
    from cnnjax.config import load_config
    from cnnjax.core import files

    config = load_config(options.config, options.overrides)
    if options.out:
        files.check_writable(options.out, ".png")
    out = options.out or _exploration(options.config) / "find-lr.png"
    test = runs.find_learning_rate(config, options.lowest, options.highest, options.steps)
    out.parent.mkdir(parents=True, exist_ok=True)
    pictures.save(pictures.plot_rate_test(test), out)
    say(
        f"loss {test.smoothed[0]:.4f} at {test.rates[0]:.2g}, least {min(test.smoothed):.4f}, "
        f"{test.smoothed[-1]:.4f} at {test.rates[-1]:.2g} ({len(test.rates)} steps)\n"
        f"steepest fall at {test.steepest:.2g}; a tenth of the rate of the least loss: {test.suggestion:.2g}\n"
        f"plot: {out}"
    )


def _preview(options: argparse.Namespace) -> None:
    from cnnjax import runs
    from cnnjax.analysis import pictures
    from cnnjax.config import load_config
    from cnnjax.core import files

    config = load_config(options.config, options.overrides)
    if options.out:
        files.check_writable(options.out, ".png")
    out = options.out or _exploration(options.config) / "preview.png"
    figure = runs.preview(config)
    out.parent.mkdir(parents=True, exist_ok=True)
    pictures.save(figure, out)
    say(f"picture: {out}")


def _explore(options: argparse.Namespace) -> None:
    from cnnjax.core import files
    from cnnjax.report import exploration

    if options.out and options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out {options.out} is a file: expected a folder")
    found = exploration.explore_source(options.config, options.overrides)
    for title, columns, rows in exploration.tables(found):
        say(f"{title}:" if sys.stdout.isatty() else f"# {title}")
        print_table(columns, rows)
        say()
    out = options.out or _exploration(options.config)
    out.mkdir(parents=True, exist_ok=True)
    files.write_atomically(out / "index.html", exploration.as_page(found))
    say(f"page: {out / 'index.html'}")


def _index(options: argparse.Namespace) -> None:
    from cnnjax.analysis import retrieval
    from cnnjax.core import files

    files.check_writable(options.out, ".npz")
    index = retrieval.build_index(
        options.workdir, options.source, options.layer, options.metric, options.approximate, options.skip_unreadable
    )
    retrieval.save_index(index, options.out)
    if index.skipped:
        say(f"cnnjax: {retrieval.skipped_line(index.skipped, len(index) + len(index.skipped))}", error=True)
    say(
        f"{len(index)} images, {index.features.shape[1]} features of each: {options.out}\n"
        f"next: {_program()} similar {shlex.quote(str(options.out))} IMAGE"
    )


def _similar(options: argparse.Namespace) -> None:
    from cnnjax import runs
    from cnnjax.analysis import pictures, retrieval
    from cnnjax.core import files

    if options.out:
        files.check_writable(options.out, ".png")
    index = retrieval.load_index(options.index, options.trusted)
    run = runs.load_run(options.workdir) if options.workdir else retrieval.index_run(index)
    found = retrieval.similar(index, options.image, options.topk, run)
    rows = [(rank, f"{item.distance:z.4f}", item.label, item.name) for rank, item in enumerate(found, start=1)]
    print_table(("", f"{index.metric} distance", "class", "image"), rows)
    if options.out:
        pictures.save(retrieval.plot_similar(index, options.image, found, run), options.out)
        say(f"picture: {options.out}")


def _animate_convolution(options: argparse.Namespace) -> None:
    from cnnjax.analysis import animations
    from cnnjax.core import files

    files.check_writable(options.out, ".gif")
    numbers = options.input, options.kernel, options.stride, options.padding
    if options.transposed:
        if options.dilation != 1:
            raise ValueError("--dilation: the transposed convolution has none: leave it out")
        frames = animations.animate_transposed_convolution(*numbers, seed=options.seed)
    else:
        frames = animations.animate_convolution(*numbers, options.dilation, seed=options.seed)
    animations.save_gif(frames, options.out)
    say(f"animation: {options.out}")


def _animate_filter(options: argparse.Namespace) -> None:
    from cnnjax.analysis import animations
    from cnnjax.core import files
    from cnnjax.data.transforms import read_image

    files.check_writable(options.out, ".gif")
    if not options.image.is_file():
        raise FileNotFoundError(f"{options.image} does not exist")
    animations.save_gif(animations.animate_filter(read_image(options.image), options.name), options.out, seconds=0.12)
    say(f"animation: {options.out}")


def _report(options: argparse.Namespace) -> None:
    from cnnjax.report.report import write_report

    written = write_report(options.workdir, options.out, options.examples)
    for sentence in written.missing:
        say(f"missing: {sentence}")
    say(f"report: {written.page}\nMarkdown and figures: {written.folder}")


def _import_weights(options: argparse.Namespace) -> None:
    from cnnjax import runs

    names = options.labels.read_text(encoding="utf-8").splitlines() if options.labels else None
    run = runs.import_weights(options.file, options.model, options.workdir, names, options.overrides)
    say(
        f"{options.model}: {len(run.label_names)} classes, images of {'x'.join(map(str, run.described['image_shape']))}\n"
        f"next: {_program()} predict --workdir {shlex.quote(str(options.workdir))} {_sample(run.config.dataset.name)}"
    )


def _models(options: argparse.Namespace) -> None:
    from cnnjax.core.options import declared, describe
    from cnnjax.models import MODELS, find_model, list_models
    from cnnjax.models.counts import COUNTS
    from cnnjax.transfer.torchvision import NETWORKS

    if options.name is None:
        weights = {ours: theirs for theirs, ours in NETWORKS.items()}
        rows = [
            (name, *(f"{count:,}" for count in COUNTS[name]), "x".join(map(str, MODELS[name].image_shape)),
             weights.get(name, "-"), MODELS[name].source)
            for name in list_models()
        ]  # fmt: skip
        columns = "model", "parameters", "MACs", "image", "torchvision's weights", "source"
        print_table(columns, rows, least=("source", "image"))
        return
    known = declared(find_model(options.name).build).values()
    rows = [(field.name, repr(field.default), field.meaning or describe(field.type)) for field in known]
    print_table(("option", "default", "meaning"), rows)


def _datasets(options: argparse.Namespace) -> None:
    from cnnjax.data.datasets import KNOWN, state

    print_table(
        ("data set", "train", "test", "classes", "image", "here", "note"),
        [
            (name, f"{known.train:,}", f"{known.test:,}" if known.test else "-", known.classes,
             "x".join(map(str, known.shape)) if known.shape else "varying", state(name), known.note)
            for name, known in KNOWN.items()
        ],
        least=("note", "image"),
    )  # fmt: skip
    say("Also: any TFDS image classification set by its name, a folder by its path.")


def _fields(options: argparse.Namespace) -> None:
    from cnnjax.config import describe_options

    rows = [(path, repr(default), meaning) for path, default, meaning in describe_options(options.section)]
    print_table(("field", "default", "meaning"), rows)


def _doctor(options: argparse.Namespace) -> None:
    from cnnjax import doctor

    for title, rows in doctor.examine():
        print_table((title, ""), rows)
