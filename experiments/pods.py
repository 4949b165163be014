"""What a pod would do: training steps of classic networks, compiled for TPUs and GPUs that are not here.

    python -m experiments.pods            compile what is not stored yet, and write the page; about half an hour on 2 cores
    python -m experiments.pods --page     write the page from what is stored

Compiling needs the extras `[aot-tpu]` and `[aot-cuda]`, and neither a device nor data. Each result is stored when it is known, so that
an interrupted run resumes.
"""

import argparse
import datetime
import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

import cnnjax
from cnnjax.ahead import targets
from cnnjax.core import files
from experiments.drawings import panels, save_svg, styled
from experiments.study import RESULTS, markdown

STORED = RESULTS / "pods.json"
PRECISION = "bfloat16"


class Network(NamedTuple):
    """A network that is compiled.

    Attributes:
      title: the name in tables.
      model: the name for `cnnjax.create_model`.
      input_shape: the shape of an image.
      classes: the number of classes.
      images: the number of images of each device.
    """

    title: str
    model: str
    input_shape: tuple[int, int, int]
    classes: int
    images: int


# Compiled for every target, the cheapest first.
SCALED = (
    Network("LeNet-5", "lenet5", (32, 32, 1), 10, 128),
    Network("ResNet-18", "resnet18", (224, 224, 3), 1000, 128),
    Network("ResNet-50", "resnet50", (224, 224, 3), 1000, 128),
)
TARGETS = ("cuda:h100:1", "cuda:h100:8", *(f"tpu:v5e:{chips}" for chips in targets.SCALE))
# The networks whose compiled texts are counted, as `tests/ahead/test_compiled.py` does, and for which devices.
COUNTED = tuple(
    Network(title, model, shape, 10, 16)
    for title, model, shape in (
        ("LeNet-5", "lenet5", (32, 32, 1)),
        ("AlexNet", "alexnet", (224, 224, 3)),
        ("VGG16", "vgg16", (224, 224, 3)),
        ("GoogLeNet", "googlenet", (224, 224, 3)),
        ("ResNet-18", "resnet18", (224, 224, 3)),
        ("ResNet-50", "resnet50", (224, 224, 3)),
    )
)
COUNTED_FOR = ("cuda:h100:8", "tpu:v5e:8")
COMPILERS = ("jax", "libtpu", "jax-cuda13-pjrt")


def key(network: Network, target: str) -> str:
    """The key of a result."""
    return f"{network.model}, {network.images} images a device of {network.classes} classes, {target}"


def wanted() -> Iterator[tuple[Network, str]]:
    """All networks and targets, the cheapest first: GPUs before TPUs, whose compiler takes minutes for a large network."""
    scaled = [(network, target) for network in SCALED for target in sorted(TARGETS, key=_least_and_most_first)]
    counted = [(network, target) for target in COUNTED_FOR for network in COUNTED]
    yield from (pair for pair in [*counted, *scaled] if pair[1].startswith("cuda"))
    yield from (pair for pair in [*scaled, *counted] if pair[1].startswith("tpu"))


def _least_and_most_first(target: str) -> int:
    return (
        -abs(2 * targets.SCALE.index(count) - len(targets.SCALE) + 1)
        if (count := targets.parse(target).count) in targets.SCALE
        else 0
    )


def compiled(network: Network, target: str) -> dict[str, Any]:
    """The figures of a network's training step on a target."""
    size = network.images * targets.parse(target).count
    fields = {"model.name": network.model, "train.batch_size": size, "train.precision": PRECISION}
    config = cnnjax.load_config("quickstart", fields)
    return cnnjax.compile_for(config, target, network.input_shape, network.classes, predict=False).as_dict()


def add_results(stored: dict[str, Any], path: Path) -> None:
    """Compiles what is not stored yet, and stores each result when it is known."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in COMPILERS]
    stored["where"] = f"{', '.join(versions)}; {datetime.date.today().isoformat()}"
    for network, target in wanted():
        if key(network, target) not in stored["results"]:
            print(f"{network.title} for {target} ...", flush=True)
            stored["results"][key(network, target)] = compiled(network, target)
            files.write_json(path, stored)


def scaling_rows(network: Network, results: Mapping[str, Any]) -> Iterator[list[str]]:
    """The rows of a network, one for each target whose result is known."""
    alone: dict[str, float] = {}
    for target in TARGETS:
        if (found := results.get(key(network, target))) is None:
            continue
        program, count = found["train"], targets.parse(target).count
        bound, sent = program["bound"], program["collectives"].get("all-reduce", {"number": 0, "bytes": 0})
        each = bound["images_per_second"] / count
        alone.setdefault(targets.parse(target).name, each)
        longest = max(("compute", "memory", "collective"), key=lambda part: bound[f"{part}_seconds"])
        yield [
            f"{network.title}, {target}",
            f"{program['batch_size']:,}",
            f"{program['memory']['peak'] / 2**30:.2f}",
            str(sent["number"]),
            f"{sent['bytes'] / 2**20:,.1f}",
            *(f"{1e3 * bound[f'{part}_seconds']:,.3f}" for part in ("compute", "memory", "collective")),
            {"compute": "operations", "memory": "memory", "collective": "links"}[longest],
            f"{bound['images_per_second']:,.0f}",
            f"{100 * each / alone[targets.parse(target).name]:.1f} %",
        ]


SCALING_COLUMNS = (
    "network, target", "images a step", "peak, GiB", "all-reduces", "MiB", "operations, ms", "memory, ms", "links, ms", "bound by",
    "images/s at the bound", "each chip, of one alone",
)  # fmt: skip


def counted_rows(target: str, stored: Mapping[str, Any]) -> Iterator[list[str]]:
    """What each network's compiled step consists of on a target, now, and before where that is known."""
    for network in COUNTED:
        now = stored["results"].get(key(network, target))
        if now is None:
            continue
        earlier = stored["before"]["results"].get(key(network, target), now)
        yield [network.title, *map(_change, _counts(earlier["train"]), _counts(now["train"]))]


def _counts(program: Mapping[str, Any]) -> list[str]:
    """The figures of a row of `counted_rows`."""
    sent = program["collectives"].get("all-reduce", {"number": 0, "bytes": 0})
    found = program["instructions"]
    return [
        str(sent["number"]),
        f"{sent['bytes'] / 2**20:,.2f}",
        *(str(found[name]) for name in ("float32_convolutions", "map_transposes", "scatters", "loops")),
        f"{found['aliased']} of {found['state_arrays']}",
    ]


def _change(before: str, now: str) -> str:
    """A figure before and now; one if they are equal."""
    return now if before == now else f"{before} → {now}"


COUNTED_COLUMNS = (
    "network", "all-reduces", "MiB", "float32 convolutions", "transposes of maps", "scatters", "loops", "state in place",
)  # fmt: skip


def has_figure(results: Mapping[str, Any]) -> bool:
    """Whether a network is compiled for one chip of TPU v5e, with which larger slices are compared."""
    return any(key(network, "tpu:v5e:1") in results for network in SCALED)


@styled()
def figure(results: Mapping[str, Any]) -> Figure:
    """The bound of each chip's images a second over that of one chip alone, by the number of chips of a TPU v5e slice."""
    drawn, [axis] = panels(1)
    for network in SCALED:
        known = {
            count: results[name]["train"]["bound"]["images_per_second"] / count
            for count in targets.SCALE
            if (name := key(network, f"tpu:v5e:{count}")) in results
        }
        if 1 in known:
            axis.plot([*known], [100 * each / known[1] for each in known.values()], marker="o", label=network.title)
    axis.set_xscale("log", base=2)
    axis.set_xticks(targets.SCALE, [str(count) for count in targets.SCALE])
    axis.minorticks_off()
    axis.set_ylim(0, 105)
    axis.set_xlabel("chips of a TPU v5e slice")
    axis.set_ylabel("bound of each chip (% of one alone)")
    axis.legend()
    return drawn


def page(stored: Mapping[str, Any]) -> str:
    """The page in Markdown."""
    results = stored["results"]
    rows = [row for network in SCALED for row in scaling_rows(network, results)]
    left = sum(key(*pair) not in results for pair in wanted())
    more = (
        f"\n\nOf {len([*wanted()])} programs {left} are not compiled yet; the same command continues." if left else ""
    )
    counts = []
    for target in COUNTED_FOR:
        if found := [*counted_rows(target, stored)]:
            counts += [f"On `{target}`:", markdown(COUNTED_COLUMNS, found)]
    caption = "The bound of each chip's images a second, of that of one chip alone, on slices of TPU v5e"
    return (
        "\n\n".join(
            [
                "# What a pod would do",
                f"**How fast can training steps of classic networks be on slices of TPU v5e and on H100s, at the most?** {ANSWER.strip()}",
                *(
                    [f"![{caption}](pods.svg)", f"*{caption}: 128 images a chip, {PRECISION}.*"]
                    if has_figure(results)
                    else []
                ),
                "None of this was measured on a device. XLA's compilers for TPUs and NVIDIA GPUs compiled the training steps on a "
                f"machine without either, and what follows was read from their programs ({stored['where']}). To repeat it, with "
                "the extras `[aot-tpu]` and `[aot-cuda]`:",
                f"```sh\npython -m experiments.pods\n```{more}",
                "**Exercise.** The gradient of ResNet-50 has 25.6 million numbers of 4 bytes. How long does its all-reduce over eight H100s "
                "take at least, if each of them sends 450 GB/s? Compare this with the bound of a step in the table.",
                "## Assumptions",
                ASSUMPTIONS.strip(),
                "## Scaling",
                "All figures are of one device and its share of the batch, except the images; 128 images a device. The bound is "
                "the longest of the three times.",
                markdown(SCALING_COLUMNS, rows),
                "## What the compilers made of the steps",
                f"The compiled texts of {PRECISION} steps with 16 images a device, before → now (before: {stored['before']['commit']}), or "
                f"one figure where both are equal or only the present one is known. {COUNTS.strip()}",
                *counts,
            ]
        )
        + "\n"
    )


ASSUMPTIONS = """
- **A bound, not a prediction.** A step takes at least the longest of three times: its operations at the chip's peak rate, its memory
  traffic at the memory's bandwidth, its collectives at the bandwidth of all links together. The peak figures are the published ones
  (`cnnjax/ahead/chips.py` has their sources). No kernel reaches the peak; real steps take longer.
- **No latency.** An all-reduce over 256 chips takes many hops, and forty small ones cost more than one large one of the same bytes.
  The bound counts bytes alone: the more chips and the smaller the arrays, the further it is from the truth.
- **Everything overlaps.** Collectives, traffic and operations run at the same time in the model. Where collectives wait for the last
  gradient, they do not.
- **The batch of each device is fixed**, so that the batch of a step grows with the slice (weak scaling). Whether so large a batch still
  trains to the same accuracy is another question.
- **Memory traffic is that of the compiled kernels**: operands and results of each, without what stays in a TPU's on-chip memory. Of an
  operand that a kernel reads in part, all of it is counted.
- **Not in the model**: reading and decoding images and sending them to the devices, the start of each program on the host, evaluation
  and checkpoints, other traffic on the links, failures.
- On `cuda` cuDNN's algorithms are its defaults, since none can be timed without a device.
"""
ANSWER = """
Of what is compiled so far, H100s alone, memory bounds every step, not the links: ResNet-18 takes at most 34,550 images a second on one
H100 and 228,486 on eight, where the all-reduces need 4 % of the time of the memory traffic; ResNet-50 at most 8,289 on one. Slices of TPU
v5e are still to be compiled.
"""
COUNTS = """
A batch norm sent its mean and its mean square apart in both directions, and now sends one array: ResNet-18 needs 37 all-reduces on H100s
instead of 77, ResNet-50 131 instead of 236. On TPU v5e ResNet-18 needed 70, and now 36 (compiled for images of 96x96). Max-pooling's
gradient was a scatter for each pooling of a GPU's program, and is none now. The state is updated in place, and no map is transposed,
before and now.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Compiles what is not stored yet, and writes the page and its figure."""
    parser = argparse.ArgumentParser(prog="python -m experiments.pods", description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="compile nothing: write the page from what is stored")
    parser.add_argument("--again", action="store_true", help="compile everything again")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="the folder of the page (default: experiments/results)"
    )
    options = parser.parse_args(arguments)
    path = options.out / STORED.name
    source = path if path.exists() else STORED
    stored = json.loads(source.read_text(encoding="utf-8"))
    if options.again:
        stored["results"] = {}
    if not options.page:
        for target in dict.fromkeys(target for _, target in wanted()):
            targets.check_compiler(targets.parse(target))
        add_results(stored, path)
    if has_figure(stored["results"]):
        save_svg(figure(stored["results"]), options.out / "pods.svg")
    files.write_atomically(options.out / "pods.md", page(stored))


if __name__ == "__main__":
    main()
