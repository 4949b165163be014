"""What is to be measured when a GPU can be had, within minutes: one JSON file and one page.

    python -m experiments.benchmarks.gpu [--minutes 8] [--json FILE] [--markdown FILE]
    python -m experiments.benchmarks.gpu --predict      beforehand, without a GPU: bounds of the training steps (needs [aot-cuda])

Training steps in bfloat16 against channels-last `torch.compile`, one of them also with deterministic operations; whole epochs of LeNet-5
on Fashion-MNIST; several seeds by `vmap`. The parts begin in the order of their worth. A part that would not end in time is skipped, and
the page says so; `--parts` names those for the next run. Beside each step stands its lower bound from published peak figures
(`cnnjax.compile_for`), which was stored before any GPU was seen.
"""

import importlib.metadata
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import cnnjax
from cnnjax.ahead import bounds
from cnnjax.ahead.chips import CHIPS
from cnnjax.ahead.targets import Target
from cnnjax.core import files
from experiments.benchmarks import epoch, report, seeds, train_step
from experiments.benchmarks.measurement import Measured, ProcessError
from experiments.benchmarks.networks import network_of

PREDICTIONS = Path(__file__).parent / "results" / "gpu_predictions.json"
PREDICTED_FOR, PRECISION, SEEDS = "cuda:h100", "bfloat16", 8
MODES, DETERMINISTIC = ("cnnjax", "torch-channels-last-compile"), "cnnjax-deterministic"


class Part(NamedTuple):
    """A part of the run.

    Attributes:
      kind: a training step, whole epochs, or several seeds.
      name: the network with the images of its batch, as `network_of` takes it; of epochs, the data set.
      seconds: the time that the part takes on an H100, at most; most of it is compiling. Estimated from one network, ResNet-18, whose
        first step took 42 s in cnnjax and 9 s in PyTorch without `torch.compile`.
    """

    kind: Literal["step", "epoch", "seeds"]
    name: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


# In the order of their worth. Batches fill the GPU; those of networks for small images are their recipes'.
PARTS = (
    Part("step", "resnet50@256", 120),
    Part("epoch", "fashion_mnist", 60),
    Part("step", "lenet5@128", 60),
    Part("seeds", "lenet5@128", 60),
    Part("step", "resnet18@128", 120),
    Part("step", "vgg16@128", 100),
    Part("step", "resnet18_224@256", 100),
    Part("step", "googlenet@256", 120),
    Part("step", "alexnet@512", 80),
    Part("step", "mlp@128", 40),
    Part("step", "mnist_cnn@128", 60),
    Part("step", "resnet20@128", 100),
    Part("step", "vgg16_bn_32@128", 100),
    Part("step", "resnet20_wide@128", 100),
    Part("step", "resnet56@128", 140),
    Part("step", "resnet20_96@128", 100),
    Part("step", "googlenet_96@256", 120),
    Part("step", "mobilenet_v2@256", 120),
    Part("step", "efficientnet_b0@256", 140),
    Part("step", "convnext_tiny@128", 140),
    Part("step", "densenet121@128", 160),
    Part("step", "resnext50_32x4d@128", 120),
    Part("step", "regnet_y_400mf@256", 120),
    Part("step", "mnasnet1_0@256", 120),
    Part("step", "squeezenet1_1@256", 100),
    Part("step", "wide_resnet50_2@128", 140),
    Part("step", "mobilenet_v3_large@256", 120),
    Part("step", "shufflenet_v2_x1_0@256", 120),
    Part("step", "efficientnet_v2_s@128", 160),
    Part("step", "inception_v3@128", 140),
    Part("step", "xception@64", 140),
    Part("step", "nin@128", 80),
)
# The network whose step is also timed with deterministic operations.
DETERMINISTIC_OF = "resnet18@128"


class Found(NamedTuple):
    """What was measured: training steps; epochs with their data set and number of steps; seeds with their network and number."""

    steps: list[train_step.Result]
    epochs: list[tuple[str, dict[str, Measured], int]]
    seeds: list[tuple[str, dict[str, Measured], int]]


def measure(part: Part, modes: Sequence[str], rounds: int, found: Found) -> list[str]:
    """Measures a part and adds it to what was found; returns what failed."""
    if part.kind == "epoch":
        try:
            measured, steps = epoch.compare(part.name, rounds)
        except ProcessError as error:
            return [str(error)]
        found.epochs.append((part.name, measured, steps))
        return []
    if part.kind == "seeds":
        measured, failures = seeds.compare(part.name, SEEDS, rounds)
        found.seeds.append((part.name, measured, SEEDS))
        return failures
    modes = [*modes, *[DETERMINISTIC] * (part.name == DETERMINISTIC_OF and "cnnjax" in modes)]
    (result,) = train_step.compare(part.name, "train", ["train"], PRECISION, modes, rounds)
    report.note(result.in_short())
    found.steps.append(result)
    return [f"{part.name}: {failure}" for failure in result.failures.values()]


class Skipped(NamedTuple):
    """A part that was not begun, and the seconds that were left then."""

    part: Part
    left: float


def begun(parts: Sequence[Part], deadline: float, clock: Callable[[], float]) -> Iterator[Part | Skipped]:
    """The parts in turn, each to be measured before the next is asked for; those that would not end in time as skipped."""
    for part in parts:
        left = deadline - clock()
        yield part if part.seconds <= left else Skipped(part, max(left, 0.0))


# --- predictions ----------------------------------------------------------------------------------------------------


def predict(path: Path) -> None:
    """Compiles the training steps that are not stored yet for a GPU that is not here, and stores the figures that bound their time."""
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"results": {}}
    stored["where"] = f"{PREDICTED_FOR}, jax-cuda13-pjrt {importlib.metadata.version('jax-cuda13-pjrt')}"
    for part in PARTS:
        if part.kind == "step" and part.name not in stored["results"]:
            report.note(f"{part.name} for {PREDICTED_FOR} ...")
            network = network_of(part.name)
            config = cnnjax.load_config(
                {
                    "dataset": {"name": "digits"},
                    "model": {"name": network.model, **network.options},
                    "train": {"batch_size": network.batch_size, "precision": PRECISION},
                }
            )
            program = cnnjax.compile_for(
                config, PREDICTED_FOR, network.image_shape, network.num_classes, predict=False
            ).train
            stored["results"][part.name] = {name: program[name] for name in ("flops", "bytes", "collectives", "memory")}
            files.write_json(path, stored)


def chip_of(device: str) -> str | None:
    """The name of a GPU among `CHIPS`, from what its driver calls it; None if it is not among them.

    >>> chip_of("NVIDIA H100 80GB HBM3"), chip_of("NVIDIA GeForce RTX 4090")
    ('h100', None)
    """
    known = [name for name, chip in CHIPS.items() if chip.platform == "cuda"]
    return next((name for name in known if name in device.lower()), None)


def bound_seconds(network: str, chip: str | None, predictions: Mapping[str, Any]) -> float | None:
    """The lower bound of a network's step on a chip; None if the chip or the network's figures are not known."""
    program = predictions["results"].get(network)
    if chip is None or program is None:
        return None
    return bounds.bound(program, Target(chip, "1"), PRECISION, network_of(network).batch_size)["seconds"]


# --- tables ---------------------------------------------------------------------------------------------------------


def tables(found: Found, skipped: Sequence[Skipped], chip: str | None) -> Iterator[report.Table]:
    """The tables of what was measured and of what was not."""
    predictions = json.loads(PREDICTIONS.read_text(encoding="utf-8")) if PREDICTIONS.exists() else {"results": {}}
    if found.steps:
        yield steps_table(found.steps, chip, predictions)
    for dataset, measured, steps in found.epochs:
        yield epoch.table(measured, dataset, steps)
    if found.seeds:
        yield seeds.table(found.seeds)
    if skipped:
        rows = [[str(one.part), f"{one.part.seconds:.0f}", f"{one.left:.0f}"] for one in skipped]
        names = ",".join(str(one.part) for one in skipped)
        yield report.Table(
            "Not begun", ["part", "takes up to, s", "left, s"], rows, [f"The next run: `--parts {names}`."]
        )


def steps_table(results: Sequence[train_step.Result], chip: str | None, predictions: Mapping[str, Any]) -> report.Table:
    """A row for each training step: measured beside its bound, beside PyTorch and beside deterministic operations."""
    rows, everything = [], [measured for result in results for measured in result.modes.values()]
    for result in results:
        ours, deterministic = result.modes.get("cnnjax"), result.modes.get(DETERMINISTIC)
        torch = [measured for mode, measured in result.modes.items() if mode.startswith("torch")]
        device = next((measured.device for measured in result.modes.values()), "") or ""
        least = bound_seconds(result.network, chip or chip_of(device), predictions)
        rows.append(
            [
                f"{result.network.partition('@')[0]}, {result.images}",
                report.cell(ours, 1e-3),
                report.cell(min(torch, key=lambda measured: measured.median), 1e-3) if torch else "not measured",
                report.ratio(ours, torch),
                f"{result.images / ours.median:,.0f}" if ours else "",
                report.digits(1e3 * least) if least else "unknown",
                f"{100 * least / ours.median:.0f} %" if least and ours else "",
                report.ratio(deterministic, [ours]),
            ]
        )
    columns = [
        "network, images", "cnnjax, ms", "PyTorch, ms", "cnnjax / PyTorch", "images/s", "bound, ms", "bound / cnnjax",
        "deterministic / cnnjax",
    ]  # fmt: skip
    devices = sorted({measured.device for measured in everything if measured.device})
    title = "; ".join(["A training step", PRECISION, *devices])
    bound = "The bound is that of a step at the chip's published peak figures: never a measurement."
    return report.Table(title, columns, rows, [bound, report.foreign_note(everything)])


def as_results(found: Found) -> list[dict[str, Any]]:
    """What was measured, for JSON."""
    measured = lambda modes: {name: one.as_dict() for name, one in modes.items()}  # noqa: E731
    return [
        *({"kind": "step", **result.as_dict()} for result in found.steps),
        *({"kind": "epoch", "dataset": name, "steps_per_epoch": n, **measured(of)} for name, of, n in found.epochs),
        *({"kind": "seeds", "network": name, "seeds": n, **measured(of)} for name, of, n in found.seeds),
    ]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Measures what the time allows, and leaves the JSON file and the page."""
    parser = report.parser(__doc__.splitlines()[0], rounds=3)
    parser.set_defaults(json=Path("runs/gpu.json"), markdown=Path("runs/gpu.md"))
    known = {str(part): part for part in PARTS}
    parser.add_argument("--minutes", type=float, default=8.0, metavar="M", help="minutes in all (default: 8)")
    parser.add_argument(
        "--parts", type=report.names_of("part", [*known]), default=[*known], metavar="NAME,...",
        help=f"{', '.join(known)} (default: all, in this order)",
    )  # fmt: skip
    parser.add_argument(
        "--modes", type=report.names_of("mode", [*train_step.MODES]), default=[*MODES], metavar="NAME,...",
        help=f"how steps are run (default: {','.join(MODES)})",
    )  # fmt: skip
    parser.add_argument("--chip", choices=[name for name, chip in CHIPS.items() if chip.platform == "cuda"],
                        help="the chip whose peak figures bound the time (default: by the device's name)")  # fmt: skip
    parser.add_argument(
        "--predict", action="store_true", help="measure nothing: store the bounds, compiled without a GPU"
    )
    options = report.parse(parser, arguments)
    if options.predict:
        predict(PREDICTIONS)
        raise SystemExit(0)
    deadline = time.monotonic() + 60 * options.minutes
    # What is being measured when the time has passed is given up: `Interrupted` is raised, as by Ctrl-C.
    signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, 60 * options.minutes)
    for path in (options.json, options.markdown):
        path.parent.mkdir(parents=True, exist_ok=True)
    modes, found = train_step.installed(options.modes), Found([], [], [])
    skipped: list[Skipped] = []
    failures: list[str] = []
    part = None
    try:
        for part in begun([known[name] for name in options.parts], deadline, time.monotonic):
            if isinstance(part, Skipped):
                skipped.append(part)
            else:
                report.note(f"{part} begins")
                failures += measure(part, modes, options.rounds, found)
    except report.Interrupted:
        failures.append(f"interrupted, or out of time, during {part}: what follows it was not begun")
    signal.setitimer(signal.ITIMER_REAL, 0)
    report.finish(options, "On a GPU", [*tables(found, skipped, options.chip)], as_results(found), failures)


if __name__ == "__main__":
    main()
