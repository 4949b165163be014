"""Training steps and predictions of the classic networks: cnnjax, plain Flax, PyTorch and Keras.

    python -m experiments.benchmarks.train_step [--networks lenet5,resnet18] [--modes cnnjax,torch] [--what train]

A training step is forward, backward and an update by SGD with momentum, on a batch that is on the device as the framework's
own floats. Latency is that of one image; throughput has a training batch's images. On a GPU float32 and bfloat16 are both
measured. The first call's time (its compilation, from empty caches) and the peak memory stand apart.
"""

import contextlib
import dataclasses
import importlib.util
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments.benchmarks import report
from experiments.benchmarks.measurement import Job, Measured, started, timed
from experiments.benchmarks.networks import NETWORKS, network_of
from experiments.benchmarks.subject import PURPOSES


@dataclasses.dataclass(frozen=True)
class Mode:
    """A way to run a network.

    Attributes:
      package: that it needs.
      factory: "module:function", which makes the subject of a network, purpose and precision.
      arguments: its others.
      before: "module:function", called before JAX is imported.
      environment: changes to it.
    """

    package: str
    factory: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    before: str | None = None
    environment: Mapping[str, str | None] = dataclasses.field(default_factory=dict)


def _torch(channels_last: bool, compiled: bool) -> Mode:
    return Mode(
        "torch",
        "experiments.benchmarks.pytorch:subject",
        {"channels_last": channels_last, "compiled": compiled},
    )


_OURS = Mode(
    "cnnjax",
    "experiments.benchmarks.ours:subject",
    before="cnnjax:configure_runtime",
    environment={"CNNJAX_RUNTIME": "1"},
)
# As `train.deterministic` sets it (`cnnjax.core.runtime`).
_DETERMINISTIC = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()

MODES: Mapping[str, Mode] = {
    "cnnjax": _OURS,
    "flax": Mode("flax", "experiments.benchmarks.plain_flax:subject", environment={"CNNJAX_RUNTIME": "0"}),
    "torch": _torch(False, False),
    "torch-channels-last": _torch(True, False),
    "torch-compile": _torch(False, True),
    "torch-channels-last-compile": _torch(True, True),
    "keras": Mode("keras", "experiments.benchmarks.keras_jax:subject", environment={"KERAS_BACKEND": "jax"}),
    "cnnjax-deterministic": dataclasses.replace(_OURS, environment={**_OURS.environment, "XLA_FLAGS": _DETERMINISTIC}),
}
# What people use on each; any can be asked for.
USUAL_MODES = {
    "cpu": ("cnnjax", "flax", "torch", "torch-channels-last", "torch-compile", "keras"),
    "gpu": ("cnnjax", "flax", "torch-channels-last", "torch-channels-last-compile", "keras"),
}
USUAL_PRECISIONS = {"cpu": ("float32",), "gpu": ("float32", "bfloat16")}
WHAT = tuple(itertools.chain.from_iterable(PURPOSES.values()))


def job(mode: str, network: str, purpose: str, precision: str, caches: Path) -> Job:
    """A worker's job, with caches of compiled programs that start empty."""
    chosen = MODES[mode]
    environment = {
        "CNNJAX_CACHE_DIR": str(caches / "cnnjax"),
        "JAX_COMPILATION_CACHE_DIR": None,
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        # Several processes share a GPU, one at a time.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    arguments = {"network": network, "purpose": purpose, "precision": precision, **chosen.arguments}
    return Job(chosen.factory, arguments, chosen.before, {**environment, **chosen.environment})


def check_parameters(network: str, counts: Mapping[str, int]) -> None:
    """Refuses to compare networks that differ.

    Raises:
      ValueError: a mode's network has another number of trained parameters than the published one.
    """
    expected = network_of(network).parameters
    wrong = [f"{mode} has {count:,}" for mode, count in counts.items() if count != expected]
    if wrong:
        raise ValueError(
            f"{network}: expected {expected:,} parameters and {', '.join(wrong)}: these are other networks"
        )


@dataclasses.dataclass(frozen=True)
class Result:
    """One task of one network.

    Attributes:
      network: of `NETWORKS`.
      what: of `WHAT`.
      precision: of the computation.
      images: in each step.
      modes: what was measured, by mode.
      failures: why those that failed did, by mode.
    """

    network: str
    what: str
    precision: str
    images: int
    modes: Mapping[str, Measured]
    failures: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        modes = {mode: measured.as_dict() for mode, measured in self.modes.items()}
        parameters = network_of(self.network).parameters
        return {**vars(self), "parameters": parameters, "modes": modes, "failures": dict(self.failures)}

    def in_short(self) -> str:
        """The medians in a line, fastest first."""
        ranked = sorted(self.modes, key=lambda mode: self.modes[mode].median)
        medians = ", ".join(f"{mode} {report.digits(1e3 * self.modes[mode].median)}" for mode in ranked)
        return f"{self.network}, {self.what}, {self.precision}: {medians} ms"


def compare(
    network: str, purpose: str, what: Sequence[str], precision: str, modes: Sequence[str], rounds: int
) -> Iterator[Result]:
    """Times one network in every mode, each in a process of its own that ends with the comparison.

    Args:
      network: of `NETWORKS`.
      purpose: of `PURPOSES`.
      what: of the purpose's tasks.
      precision: of the computation.
      modes: of `MODES`.
      rounds: turns of each mode.

    Raises:
      ValueError: the modes' networks differ.
    """

    def say(line: str) -> None:
        report.progress(f"{network}, {purpose}, {precision}: {line}")

    with contextlib.ExitStack() as stack:
        caches = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        jobs = {mode: job(mode, network, purpose, precision, caches / mode) for mode in modes}
        workers, failures = started(stack, jobs, say)
        check_parameters(network, {mode: worker.facts["parameters"] for mode, worker in workers.items()})
        for task in what:
            alive = {mode: worker for mode, worker in workers.items() if mode not in failures}
            measured, failed = timed(alive, task, rounds, say)
            failures |= failed
            images = 1 if task == "latency" else network_of(network).batch_size
            yield Result(network, task, precision, images, measured, dict(failures))


TITLES = {
    "train": "A training step, ms",
    "latency": "Prediction of one image, ms",
    "throughput": "Prediction of a training batch, ms",
}


def tables(results: Sequence[Result]) -> Iterator[report.Table]:
    """For each task and precision a table of times, and one of first calls and memory."""
    for precision in dict.fromkeys(result.precision for result in results):
        for what in WHAT:
            group = [result for result in results if (result.what, result.precision) == (what, precision)]
            if group:
                yield from _tables(f"{TITLES[what]}; {precision}", group)


def _tables(title: str, results: Sequence[Result]) -> Iterator[report.Table]:
    modes = [mode for mode in MODES if any(mode in result.modes or mode in result.failures for result in results)]
    times, costs = [], []
    for result in results:
        name, found = f"{result.network}, {result.images}", [result.modes.get(mode) for mode in modes]
        ours, flax = result.modes.get("cnnjax"), result.modes.get("flax")
        torch = [measured for mode, measured in result.modes.items() if mode.startswith("torch")]
        ratios = [report.ratio(ours, torch), report.ratio(ours, [flax])]
        times.append([name, *(report.cell(measured, 1e-3) for measured in found), *ratios])
        costs.append([name, *map(_cost, found)])
    columns, ratios = ["network, images", *modes], ["cnnjax / fastest PyTorch", "cnnjax / flax"]
    everything = [measured for result in results for measured in result.modes.values()]
    note = report.foreign_note(everything)
    devices = sorted({measured.device for measured in everything} - {"cpu"})
    title = "; ".join([title, *devices])
    yield report.Table(title, [*columns, *ratios], times, [note])
    yield report.Table(f"{title.replace(', ms', '')}: the first call and peak memory", columns, costs)


def _cost(measured: Measured | None) -> str:
    if measured is None:
        return "failed"
    return f"{measured.first_call_seconds:.1f} s, {measured.peak_bytes / 2**20:,.0f} MiB"


def backend() -> str:
    """What JAX computes on here, "cpu" or "gpu", asked in another process so that this one leaves a GPU alone."""
    code = "import jax; print(jax.default_backend())"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise SystemExit(f"JAX does not start: {asked.stderr.strip().splitlines()[-1]}")
    return "gpu" if asked.stdout.split()[-1] in {"gpu", "cuda", "rocm"} else "cpu"


def installed(modes: Sequence[str]) -> list[str]:
    """The modes whose package is here; says which are left out."""
    present = [mode for mode in modes if importlib.util.find_spec(MODES[mode].package)]
    for mode in modes:
        if mode not in present:
            package = MODES[mode].package
            hint = "pip install 'cnnjax[bench]'" if package == "torch" else f"pip install {package}"
            report.note(f"left out: {mode} ({package} is not installed: {hint})")
    return present


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the comparison and shows its tables."""
    parser = report.parser(__doc__.splitlines()[0], rounds=11)
    report.add_networks(parser, tuple(NETWORKS))
    for name, valid, default in (
        ("modes", tuple(MODES), "the usual ones that are installed"),
        ("what", WHAT, "all"),
        ("precision", ("float32", "bfloat16"), "float32, on a GPU both"),
    ):
        parser.add_argument(
            f"--{name}",
            type=report.names_of(name.removesuffix("s"), valid),
            metavar="NAME,...",
            help=f"{', '.join(valid)} (default: {default})",
        )
    options = report.parse(parser, arguments)
    kind = backend() if not (options.modes and options.precision) else "cpu"
    modes = installed(options.modes or USUAL_MODES[kind])
    if not modes:
        parser.error("none of the modes can run")
    results, failures = [], []
    try:
        for precision, network, purpose in itertools.product(
            options.precision or USUAL_PRECISIONS[kind], options.networks, PURPOSES
        ):
            what = [task for task in PURPOSES[purpose] if task in (options.what or WHAT)]
            for result in compare(network, purpose, what, precision, modes, options.rounds) if what else ():
                report.note(result.in_short())
                results.append(result)
                lines = (f"{network}, {precision}: {failure}" for failure in result.failures.values())
                failures += [line for line in lines if line not in failures]
    except ValueError as error:
        failures.append(str(error))
    except report.Interrupted:
        failures.append("interrupted: these are not all")
    found = [result.as_dict() for result in results]
    report.finish(options, "Training steps and predictions", list(tables(results)), found, failures)


if __name__ == "__main__":
    main()
