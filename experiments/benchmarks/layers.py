"""A network's convolutions one by one, cnnjax's against PyTorch's: what bounds a training step that is slower than PyTorch's.

    python -m experiments.benchmarks.layers --networks resnet20

For each different convolution its output and both gradients (the first has none of its input), in turns in two processes, and the rate
of arithmetic that it reaches; the sums over the network; and the rate of a large matrix product, which no convolution exceeds but by
needing less arithmetic (Winograd's). PyTorch's arrays are channels-last.
"""

import collections
import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float

from experiments.benchmarks import report
from experiments.benchmarks.measurement import Measured, started, timed
from experiments.benchmarks.networks import (
    NETWORKS,
    AveragePool,
    Conv,
    GlobalAveragePool,
    Halved,
    Layers,
    MaxPool,
    Parallel,
    Part,
    Pointwise,
    Repeated,
    Residual,
    network_of,
)
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.train_step import job

PRODUCT, SIDE = "product", 2048


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution of a batch of square images, by its sizes.

    Attributes:
      batch: the number of images.
      side: of the images.
      channels: of the images.
      features: of the output.
      size: of the kernel.
      strides: of the windows.
      padding: zeros on each side.
      groups: of the channels; as many as there are channels in a depthwise convolution.
      first: whether it is the network's first layer, whose input needs no gradient.
    """

    batch: int
    side: int
    channels: int
    features: int
    size: int
    strides: int
    padding: int
    groups: int
    first: bool

    @property
    def positions(self) -> int:
        """The output's height."""
        return (self.side + 2 * self.padding - self.size) // self.strides + 1

    @property
    def operations(self) -> int:
        """Multiplications and additions of the output and its gradients."""
        products = self.batch * self.positions**2 * self.size**2 * self.channels // self.groups * self.features
        return 2 * products * (2 if self.first else 3)

    def __str__(self) -> str:
        stride = f"/{self.strides}" if self.strides > 1 else ""
        groups = f" in {self.groups} groups" if self.groups > 1 else ""
        return f"{self.size}x{self.size}{stride}{groups}, {self.channels} to {self.features}, {self.side}x{self.side}"


def convolutions(layers: Layers, image_shape: tuple[int, int, int], batch: int) -> dict[Convolution, int]:
    """The different convolutions of a described network, and how many there are of each.

    Raises:
      ValueError: a kernel is not square.
    """
    found: dict[Convolution, int] = collections.Counter()

    def follow(layers: Layers, side: int, channels: int) -> tuple[int, int]:
        for layer in layers:
            match layer:
                case Conv(_, tuple()):
                    raise ValueError("a convolution's kernel is not square, which is not measured here")
                case Conv(features, size, strides, padding, _, groups):
                    conv = Convolution(batch, side, channels, features, size, strides, padding, groups, not found)
                    found[conv] += 1
                    side, channels = conv.positions, features
                case MaxPool(size, strides, padding):
                    side = (side + 2 * padding - size) // strides + 1
                case AveragePool(size, strides, padding):
                    side = (side + 2 * padding - size) // (strides or size) + 1
                case GlobalAveragePool():
                    side = 1
                case Repeated(times):
                    side *= times
                case Pointwise(features):
                    channels = features
                case Part():
                    channels //= 2
                case Halved(features):
                    side, channels = -(-side // 2), features
                case Parallel(branches):
                    ends = [follow(branch, side, channels) for branch in branches]
                    side, channels = ends[0][0], sum(features for _, features in ends)
                case Residual(body, shortcut):
                    follow(shortcut, side, channels)
                    side, channels = follow(body, side, channels)
        return side, channels

    follow(layers, image_shape[0], image_shape[2])
    return dict(found)


def _of(network: str) -> dict[Convolution, int]:
    row = network_of(network)
    return convolutions(row.describe(), row.image_shape, row.batch_size)


def _arrays(conv: Convolution) -> tuple[Float[np.ndarray, "..."], ...]:
    """Images, a kernel and the output's gradient."""
    generator = np.random.default_rng(0)
    shapes = (
        (conv.batch, conv.side, conv.side, conv.channels),
        (conv.size, conv.size, conv.channels // conv.groups, conv.features),
        (conv.batch, conv.positions, conv.positions, conv.features),
    )
    return tuple(generator.standard_normal(shape, dtype=np.float32) for shape in shapes)


def ours(network: str, **_: Any) -> Subject:
    """A network's convolutions in cnnjax, and the large product, each a task that is compiled when it is first run."""
    import jax
    import jax.numpy as jnp

    from cnnjax.ops import choice
    from cnnjax.ops.convolution import convolution as convolve

    def convolution(conv: Convolution) -> Callable[[int], None]:
        def both(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
            padding = ((conv.padding,) * 2,) * 2
            window = (conv.strides,) * 2, padding, (1, 1), conv.groups
            y, pullback = jax.vjp(lambda *given: convolve(*given, *window), x, kernel)
            return y, pullback(gradient)[conv.first :]

        return repeated(both, lambda: _arrays(conv))

    def repeated(function: Callable[..., Any], arrays: Callable[[], Any]) -> Callable[[int], None]:
        compiled, given = jax.jit(function, compiler_options=dict(choice.compiler_options("fast"))), []

        def task(times: int) -> None:
            given.extend([] if given else map(jnp.asarray, arrays()))
            for _ in range(times):
                jax.block_until_ready(compiled(*given))

        return task

    square = lambda: [np.ones((SIDE, SIDE), np.float32)]  # noqa: E731
    tasks = {str(conv): convolution(conv) for conv in _of(network)} | {PRODUCT: repeated(lambda a: a @ a, square)}
    return Subject(tasks, 0, jax.devices()[0].device_kind, lambda: None)


def pytorch(network: str, **_: Any) -> Subject:
    """The same in PyTorch."""
    import torch

    def convolution(conv: Convolution) -> Callable[[int], None]:
        given = []

        def task(times: int) -> None:
            if not given:
                x, kernel, gradient = map(torch.from_numpy, _arrays(conv))
                last = {"memory_format": torch.channels_last}
                given.append(x.permute(0, 3, 1, 2).contiguous(**last).requires_grad_(not conv.first))
                given.append(kernel.permute(3, 2, 0, 1).contiguous(**last).requires_grad_())
                given.append(gradient.permute(0, 3, 1, 2).contiguous(**last))
            x, kernel, gradient = given
            for _ in range(times):
                y = torch.nn.functional.conv2d(x, kernel, None, conv.strides, conv.padding, 1, conv.groups)
                torch.autograd.grad(y, [kernel] if conv.first else [x, kernel], gradient)

        return task

    square = torch.ones(SIDE, SIDE)

    def product(times: int) -> None:
        for _ in range(times):
            square @ square

    return Subject({str(conv): convolution(conv) for conv in _of(network)} | {PRODUCT: product}, 0, "cpu", lambda: None)


FACTORIES = {"cnnjax": ours, "torch": pytorch}


def compare(network: str, rounds: int) -> tuple[dict[str, Mapping[str, Measured]], list[str]]:
    """The times of each convolution, and of the large product, by library; and what failed."""
    found: dict[str, Mapping[str, Measured]] = {}
    failures: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        caches = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        jobs = {
            mode: dataclasses.replace(
                job(mode, network, "train", "float32", caches / mode),
                factory=f"experiments.benchmarks.layers:{function.__name__}",
            )
            for mode, function in FACTORIES.items()
        }
        say = lambda line: report.progress(f"{network}: {line}")  # noqa: E731
        workers, failures = started(stack, jobs, say)
        for task in (*map(str, _of(network)), PRODUCT):
            found[task], failed = timed(workers, task, rounds, lambda line, task=task: say(f"{task}: {line}"))
            failures |= failed
    return found, list(failures.values())


def table(network: str, found: Mapping[str, Mapping[str, Measured]]) -> report.Table:
    """A line for each different convolution, and one for their sum."""
    lines, sums = [], collections.Counter()
    for conv, number in _of(network).items():
        cells, medians = [], {mode: measured.median for mode, measured in found[str(conv)].items()}
        for mode in FACTORIES:
            sums[mode] += number * medians[mode]
            cells += [report.digits(1e3 * medians[mode]), f"{conv.operations / medians[mode] / 1e9:.0f}"]
        lines.append([str(conv), str(number), *cells, f"{medians['cnnjax'] / medians['torch']:.2f}"])
        sums["operations"] += number * conv.operations
    cells = [cell for mode in FACTORIES for cell in (report.digits(1e3 * sums[mode]), _rate(sums, mode))]
    lines.append(["all", str(sum(_of(network).values())), *cells, f"{sums['cnnjax'] / sums['torch']:.2f}"])
    products = ", ".join(f"{mode} {2 * SIDE**3 / one.median / 1e9:.0f}" for mode, one in found[PRODUCT].items())
    columns = ("convolution", "number", "cnnjax, ms", "GFLOP/s", "PyTorch, ms", "GFLOP/s", "cnnjax / PyTorch")
    title = f"{network}: convolutions with their gradients, {network_of(network).batch_size} images"
    return report.Table(title, columns, lines, [f"A product of {SIDE}x{SIDE} matrices, GFLOP/s: {products}."])


def _rate(sums: Mapping[str, float], mode: str) -> str:
    return f"{sums['operations'] / sums[mode] / 1e9:.0f}"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Measures the networks' convolutions and shows the tables."""
    parser = report.parser(__doc__.splitlines()[0], rounds=5)
    report.add_networks(parser, tuple(NETWORKS), ("resnet20",))
    options = report.parse(parser, arguments)
    tables, results, failures = [], [], []
    for network in options.networks:
        try:
            _of(network)
        except ValueError as error:
            failures.append(f"{network}: {error}")
            continue
        found, failed = compare(network, options.rounds)
        failures += failed
        if not failed:
            tables.append(table(network, found))
        modes = {task: {mode: one.as_dict() for mode, one in by.items()} for task, by in found.items()}
        results.append({"network": network, "tasks": modes})
    report.finish(options, "Convolutions one by one", tables, results, failures)


if __name__ == "__main__":
    main()
