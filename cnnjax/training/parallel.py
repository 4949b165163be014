"""Data parallelism with `pmap`, or its successor `shard_map`, which no other file uses.

Every device holds the whole state and a part of the batch. Mapped functions must reduce everything they return over the axis
`devices`, so that results are the same on all devices and are returned once.
"""

import collections
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnjax.core import runtime
from cnnjax.core.randomness import AXIS
from cnnjax.data.batches import Batch, gather
from cnnjax.ops import choice
from cnnjax.training import processes
from cnnjax.training.state import State
from cnnjax.training.step import Metrics

Parallel = Literal["pmap", "shard_map"]

# XLA's CPU collectives deadlock if many steps are in flight and the thread pool is small (see `runtime.split_cpu`). Waiting
# for an earlier step prevents this and costs nothing on a CPU.
CPU_STEPS_IN_FLIGHT = 8

# The memory of steps with at least this many bytes of temporary memory is bounded (`memory_bound`).
LARGE_STEP = 2**28


def choose_devices(count: int | None) -> list[jax.Device]:
    """This process's first devices as its share of `count`, or all its devices.

    Splits the CPU into virtual devices if there are no other devices and JAX has not started.

    Raises:
      ValueError: there are fewer devices.
    """
    if count is not None:
        total, together = count, processes.count()
        if total % together:
            raise ValueError(f"config: devices={total} cannot be shared equally by {together} processes")
        count = total // together
        runtime.split_cpu(count)
    present = jax.local_devices()
    if count is not None and count > len(present):
        raise ValueError(
            f"config: devices={count}: there are {len(present)} ({present[0].platform}), and JAX has already started: "
            f"restart Python, or call cnnjax.configure_runtime(cpu_devices={count}) before the first JAX computation"
            if present[0].platform == "cpu"
            else f"config: devices={count}: there are {len(present)} ({present[0].device_kind})"
        )
    return present[:count]


def unused_gpu(devices: Sequence[jax.Device]) -> str | None:
    """A message if the machine has an NVIDIA GPU but training runs on the CPU; None otherwise."""
    if devices[0].platform != "cpu" or not any(Path("/dev").glob("nvidia[0-9]*")):
        return None
    chosen = os.environ.get("JAX_PLATFORMS", "")
    why = f"because of JAX_PLATFORMS={chosen}" if chosen else "this JAX cannot use it: pip install 'cnnjax[cuda]'"
    return f"the machine has an NVIDIA GPU, but training runs on the CPU ({why})"


def over_devices(
    function: Callable[[Any, Batch], Any],
    devices: Sequence[jax.Device],
    donate: bool = False,
    parallel: Parallel = "pmap",
) -> Callable[[Any, Mapping[str, Any], Batch], Any]:
    """Compiles `function(state, batch)` to run on all devices in parallel, as `compiled(state, arrays, batch)`.

    Args:
      function: the function, which must reduce all its results over the axis `devices`.
      devices: the devices of this process.
      donate: whether the new state may reuse the memory of the old one, which can then no longer be used.
      parallel: the JAX function that maps over the devices.

    Returns:
      A function of the state (any pytree, the same for all devices), the resident arrays from which the batch is gathered
      ({} if the batch contains its images), and the batch with a leading device axis.
    """
    return _mapped(_gathered(function), (None, None, 0), None, AXIS, devices, donate, parallel)


def _gathered(function: Callable[[Any, Batch], Any]) -> Callable[[Any, Mapping[str, Any], Batch], Any]:
    return lambda state, arrays, batch: function(state, gather(arrays, batch))


def steps_over_devices(
    step: Callable[[State, Batch], tuple[State, Metrics]], devices: Sequence[jax.Device], parallel: Parallel = "pmap"
) -> Callable[[State, Mapping[str, Any], Batch, Any], tuple[State, Metrics]]:
    """Compiles a training step to run several times in one call, as `compiled(state, arrays, batches, count)`.

    An accelerator may execute the step of a small network faster than Python can dispatch it. The same program runs any
    number of steps, so that results have the same bits however the steps are divided into calls.

    Args:
      step: the function, as in `over_devices`; the old state is donated.
      devices: the devices of this process.
      parallel: the JAX function that maps over the devices.

    Returns:
      A function of the state, the resident arrays, the batches with leading axes for devices and steps, and the number of
      steps to take. Its metrics have a step axis, with zeros beyond that number.
    """

    def steps(state: State, arrays: Mapping[str, Any], batches: Batch, count: Any) -> tuple[State, Metrics]:
        def one(index: Any, carried: tuple[State, Metrics]) -> tuple[State, Metrics]:
            state, metrics = carried
            state, new = step(state, gather(arrays, {name: array[index] for name, array in batches.items()}))
            return state, jax.tree.map(lambda all, value: all.at[index].set(value), metrics, new)

        most = len(next(iter(batches.values())))
        shapes = jax.eval_shape(lambda: step(state, gather(arrays, {name: b[0] for name, b in batches.items()}))[1])
        none = jax.tree.map(lambda shape: jnp.zeros((most, *shape.shape), shape.dtype), shapes)
        return jax.lax.fori_loop(0, count, one, (state, none))

    return _mapped(steps, (None, None, 0, None), None, AXIS, devices, True, parallel)


def _mapped(
    function: Callable[..., Any],
    in_axes: tuple[int | None, ...],
    out_axes: int | None,
    axis_name: str,
    devices: Sequence[jax.Device],
    donate: bool,
    parallel: Parallel,
) -> Any:
    """Compiles a function to run on all devices in parallel.

    Args:
      function: the function that every device runs.
      in_axes: for each argument 0 if it has a leading device axis, None if it is the same for all devices.
      out_axes: 0 if results get a leading device axis, None if they are the same on all devices.
      axis_name: the name of the device axis.
      devices: the devices of this process.
      donate: whether results may reuse the memory of the first argument.
      parallel: the JAX function that maps over the devices.
    """
    function = choice.traced_for(devices[0].platform, function)
    if jax.process_count() > 1:  # every process contributes the same number of its own devices
        devices = [
            device for process in range(jax.process_count()) for device in jax.local_devices(process)[: len(devices)]
        ]
    donated = (0,) if donate else ()
    if parallel == "shard_map":
        return _shard_mapped(function, in_axes, out_axes, Mesh(np.array(devices), (axis_name,)), donated)
    return jax.pmap(function, axis_name, in_axes=in_axes, out_axes=out_axes, devices=devices, donate_argnums=donated)


def _shard_mapped(
    function: Callable[..., Any],
    in_axes: tuple[int | None, ...],
    out_axes: int | None,
    mesh: Mesh,
    donated: tuple[int, ...],
) -> Any:
    """The twin of `pmap`: `jit` of `shard_map`, whose parts of arrays keep a device axis of size 1, removed and added here."""
    spec = lambda axis: PartitionSpec() if axis is None else PartitionSpec(*mesh.axis_names)  # noqa: E731
    in_specs, out_specs = tuple(map(spec, in_axes)), spec(out_axes)

    def part(*arguments: Any) -> Any:
        own = [
            argument if axis is None else jax.tree.map(lambda array: jax.lax.squeeze(array, (0,)), argument)
            for argument, axis in zip(arguments, in_axes, strict=True)
        ]
        results = function(*own)
        return results if out_axes is None else jax.tree.map(lambda array: jax.lax.expand_dims(array, (0,)), results)

    # With `check_vma` JAX would insert sums over devices into gradients, which the step takes itself.
    mapped = jax.shard_map(part, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    compiled = jax.jit(
        mapped,
        in_shardings=tuple(NamedSharding(mesh, spec) for spec in in_specs),
        out_shardings=NamedSharding(mesh, out_specs),
        donate_argnums=donated,
    )
    if jax.process_count() == 1:
        return compiled

    def call(*arguments: Any) -> Any:  # `pmap` takes and returns each process's own part of an array
        everywhere = [
            multihost_utils.host_local_array_to_global_array(argument, mesh, spec)
            for argument, spec in zip(arguments, in_specs, strict=True)
        ]
        return multihost_utils.global_array_to_host_local_array(compiled(*everywhere), mesh, out_specs)

    return call


def over_trials(
    function: Callable[[Any, Batch], Any],
    devices: Sequence[jax.Device],
    donate: bool = False,
    parallel: Parallel = "pmap",
) -> Callable[[Any, Mapping[str, Any], Batch], Any]:
    """Compiles `function(state, batch)` to run one trial on each device, as `compiled(states, arrays, batches)`.

    Reductions over the axis `devices` within the function are over a single device.

    Args:
      function: the function, as in `over_devices`.
      devices: the devices of this process, one per trial.
      donate: whether memory is reused, as in `over_devices`.
      parallel: the JAX function that maps over the devices.

    Returns:
      A function of the states and the batches, both with a leading trial axis, and of the resident arrays, which are shared
      by all trials. Its results have the trial axis too.
    """

    alone = jax.vmap(_gathered(function), in_axes=None, out_axes=None, axis_name=AXIS, axis_size=1)
    return _mapped(alone, (0, None, 0), 0, "trials", devices, donate, parallel)


def compiled_ahead(mapped: Any, options: Mapping[str, str], devices: Sequence[jax.Device]) -> Callable[..., Any]:
    """Compiles the result of `over_devices` with XLA options, once per batch shape.

    Args:
      mapped: the function that `over_devices` returned.
      options: the XLA options by name. They are ignored by an XLA version that does not know them, and with several
        processes, because only `pmap` itself accepts arrays that are distributed over processes.
      devices: the devices that the function runs on.

    Returns:
      A function of the same arguments, in which the state and the arrays must always have the same shapes. It raises
      ValueError if a program does not fit into memory.
    """
    if jax.process_count() > 1:
        return mapped

    def compiled(*arguments: Any) -> tuple[Any, Any]:
        program = mapped.lower(*arguments).compile(compiler_options=known(options))
        return program, program

    return _once_a_shape(compiled, devices)


def program_over_devices(
    function: Callable[[Any, Batch], Any], ops: choice.Ops, devices: Sequence[jax.Device], parallel: Parallel = "pmap"
) -> Callable[[Any, Mapping[str, Any], Batch], Any]:
    """Compiles a function as `over_devices` does, with the chosen operations and their XLA options, for evaluation and prediction."""
    platform = devices[0].platform
    traced, options = choice.traced_with(ops, function), choice.compiler_options(ops, platform)
    if jax.process_count() > 1 or len(devices) > 1:
        return compiled_ahead(over_devices(traced, devices, parallel=parallel), options, devices)
    traced = choice.traced_for(platform, traced)
    # The device axis has one entry here. Of LeNet-5's 180 microseconds per image, a call through `jit` takes 20 to 40 less
    # than through `pmap`, and 10 less than a call of the compiled program itself. `jit` finds the compiled program again.
    alone = jax.vmap(_gathered(traced), (None, None, 0), None, axis_name=AXIS, axis_size=1)
    jitted = jax.jit(alone, compiler_options=known(options))
    return _once_a_shape(lambda *arguments: (jitted, jitted.lower(*arguments).compile()), devices)


def _once_a_shape(prepare: Callable[..., tuple[Any, Any]], devices: Sequence[jax.Device]) -> Callable[..., Any]:
    """Compiles at the first call with each batch shape, checks that the program fits into memory, and bounds freed memory.

    Args:
      prepare: a function of the arguments that returns the function to call and the compiled program that it runs.
      devices: the devices that the function runs on.
    """
    prepared: dict[Any, tuple[Any, int | None]] = {}

    def call(state: Any, arrays: Mapping[str, Any], batch: Batch, *count: Any) -> Any:
        shapes = tuple([array.shape for array in batch.values()])
        if shapes not in prepared:
            function, program = prepare(state, arrays, batch, *count)
            check_fits(program, devices)
            prepared[shapes] = function, memory_bound(program, devices)
        function, bound = prepared[shapes]
        results = function(state, arrays, batch, *count)
        if bound is not None:
            jax.block_until_ready(results)
            runtime.give_back_memory(above=bound)
        return results

    return call


def known(options: Mapping[str, str]) -> dict[str, str]:
    """The options, or {} if this XLA version does not know them or their values."""
    return dict(options) if _knows(tuple(sorted(options.items()))) else {}


@functools.cache
def _knows(options: tuple[tuple[str, str], ...]) -> bool:
    try:
        jax.jit(lambda x: x).lower(0.0).compile(compiler_options=dict(options))
    except jax.errors.JaxRuntimeError as error:
        if "compile option" not in str(error) and "enum value" not in str(error):
            raise
        return False
    return True


def memory_bound(program: Any, devices: Sequence[jax.Device]) -> int | None:
    """The number of resident bytes above which free memory is returned after a step; None if a step uses little memory.

    The bound is twice the memory that the process holds before the first step plus that of the step, or less if another step
    would then not fit into memory. With the settings of `runtime` the allocator keeps freed memory, and a large block may not
    fit into its former place: without a bound, ResNet-18's training grew from 1.3 to 4.5 GiB in some twenty steps, and its
    predictions from 0.7 to 3.0 GiB (2 cores of an AMD EPYC).
    """
    analysis = program.memory_analysis()
    if devices[0].platform != "cpu" or not runtime.keeps_freed_memory() or analysis is None:
        return None
    of_a_step = analysis.temp_size_in_bytes * len(devices)
    if of_a_step < LARGE_STEP:
        return None
    runtime.give_back_memory(above=0)  # left over from compilation
    return min(2 * (runtime.resident_memory() + of_a_step), device_memory(devices[0]) - of_a_step)


def needed_memory(program: Any) -> int | None:
    """Bytes that a compiled program needs on a device, for its arguments, results and all between; None if the backend does not tell."""
    analysis = program.memory_analysis()
    if analysis is None:
        return None
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return held + analysis.temp_size_in_bytes


def check_fits(program: Any, devices: Sequence[jax.Device]) -> None:
    """Checks that a compiled program fits into memory, because on a CPU it would hang instead of failing.

    Raises:
      ValueError: the program does not fit; the message has the memory it needs and what to change.
    """
    needed = needed_memory(program)
    if needed is None:
        return
    together = len(devices) if devices[0].platform == "cpu" else 1  # virtual devices share the machine's memory
    if needed * together > device_memory(devices[0]):
        raise ValueError(
            f"a step needs {needed * together / 2**30:,.1f} GiB and there are {device_memory(devices[0]) / 2**30:,.1f}: lower "
            "train.batch_size (evaluate.batch_size for an evaluation), make the images or the model smaller, or set a "
            "ResNet's model.rematerialize"
        )


def device_memory(device: jax.Device) -> int:
    """The memory of a device in bytes; for a CPU, that of the machine or the limit of the process."""
    memory = (device.memory_stats() or {}).get("bytes_limit")
    return runtime.allowed_memory() if memory is None else memory


class RunAhead:
    """Bounds how many steps the host runs ahead of CPU devices; on other devices it does nothing.

    Call it with the output of each step.
    """

    def __init__(self, devices: Sequence[jax.Device]):
        self._bounded = devices[0].platform == "cpu"
        self._in_flight: collections.deque[Any] = collections.deque()

    def __call__(self, output: Any) -> None:
        if self._bounded:
            self._in_flight.append(output)
            if len(self._in_flight) > CPU_STEPS_IN_FLIGHT:
                jax.block_until_ready(self._in_flight.popleft())


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Copies every array to each device in advance, instead of at each call."""
    return jax.device_put(tree, NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec()))


def check_replicas(tree: Any) -> None:
    """Compares the devices' copies of every array, bit for bit.

    `pmap` declares results as equal on all devices without checking: a value that was not reduced (a batch statistic, for
    example) silently differs between devices.

    Raises:
      AssertionError: the copies differ; the message names the array.
    """
    for path, array in jax.tree_util.tree_leaves_with_path(tree):
        shards = [np.asarray(shard.data) for shard in array.addressable_shards]
        for device, shard in enumerate(shards[1:], start=1):
            if shard.tobytes() != shards[0].tobytes():
                raise AssertionError(
                    f"state{jax.tree_util.keystr(path)} on device {device} differs from device 0: it is not reduced over "
                    f"the axis {AXIS!r} in the step"
                )
