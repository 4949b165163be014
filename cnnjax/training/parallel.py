"""Data parallelism: the one place that knows `pmap`.

Every device holds the whole state and a part of the batch. The functions given here reduce over the axis `devices`
whatever they return, so results are the same on all devices and come back as one.
"""

import collections
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnjax.core import runtime
from cnnjax.core.randomness import AXIS
from cnnjax.data.batches import Batch, gather
from cnnjax.ops import choice
from cnnjax.training import processes
from cnnjax.training.state import State
from cnnjax.training.step import Metrics

# XLA's CPU collectives deadlock when many steps are in flight and the thread pool is small (see `runtime.split_cpu`).
# Waiting for a step some way back costs nothing there and makes it impossible.
CPU_STEPS_IN_FLIGHT = 8

# Bytes of temporary memory from which a step's memory is bounded (`memory_bound`).
LARGE_STEP = 2**28


def choose_devices(count: int | None) -> list[jax.Device]:
    """This process's share of `count` devices, its first ones, or all it has.

    Splits the CPU into that many virtual devices where it is the only kind and JAX has not started.

    Raises:
      ValueError: there are fewer.
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
            f"start anew, or call cnnjax.configure_runtime(cpu_devices={count}) before the first JAX computation"
            if present[0].platform == "cpu"
            else f"config: devices={count}: there are {len(present)} ({present[0].device_kind})"
        )
    return present[:count]


def unused_gpu(devices: Sequence[jax.Device]) -> str | None:
    """One line if the machine has an NVIDIA GPU and training is on the CPU; None otherwise."""
    if devices[0].platform != "cpu" or not any(Path("/dev").glob("nvidia[0-9]*")):
        return None
    chosen = os.environ.get("JAX_PLATFORMS", "")
    why = f"JAX_PLATFORMS={chosen} says so" if chosen else "this JAX cannot use it: pip install 'cnnjax[cuda]'"
    return f"there is an NVIDIA GPU, and training is on the CPU ({why})"


def over_devices(
    function: Callable[[Any, Batch], Any], devices: Sequence[jax.Device], donate: bool = False
) -> Callable[[Any, Mapping[str, Any], Batch], Any]:
    """Compiles `function(state, batch)` to run on every device at once, as `compiled(state, arrays, batch)`.

    Args:
      function: all it returns must be reduced over the axis `devices`.
      devices: of this process.
      donate: let the new state take the old one's memory; the old one cannot be used again.

    Returns:
      A function of the state (any pytree, the same for all devices), the resident arrays that the batch is gathered
      from ({} where the batch has its images), and the batch with a leading axis of devices.
    """
    return _mapped(_gathered(function), (None, None, 0), devices, donate)


def _gathered(function: Callable[[Any, Batch], Any]) -> Callable[[Any, Mapping[str, Any], Batch], Any]:
    return lambda state, arrays, batch: function(state, gather(arrays, batch))


def steps_over_devices(
    step: Callable[[State, Batch], tuple[State, Metrics]], devices: Sequence[jax.Device]
) -> Callable[[State, Mapping[str, Any], Batch, Any], tuple[State, Metrics]]:
    """Compiles a training step to run several times in one call, as `compiled(state, arrays, batches, count)`.

    An accelerator may take a small network's step in less time than Python needs to ask for it. One program runs any number
    of steps, so that the same steps give the same bits however they are divided into calls.

    Args:
      step: as in `over_devices`; the old state is donated.
      devices: of this process.

    Returns:
      A function of the state, the resident arrays, the batches with leading axes of devices and of steps, and how many of
      these steps are taken. Its metrics have an axis of steps; those beyond the count are zeros.
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

    return _mapped(steps, (None, None, 0, None), devices, donate=True)


def _mapped(
    function: Callable[..., Any], in_axes: Sequence[int | None], devices: Sequence[jax.Device], donate: bool
) -> Any:
    # Every process takes as many of its own.
    everywhere = [
        device for process in range(jax.process_count()) for device in jax.local_devices(process)[: len(devices)]
    ]
    return jax.pmap(
        function,
        axis_name=AXIS,
        in_axes=tuple(in_axes),
        out_axes=None,
        devices=everywhere if jax.process_count() > 1 else devices,
        donate_argnums=(0,) if donate else (),
    )


def over_trials(
    function: Callable[[Any, Batch], Any], devices: Sequence[jax.Device], donate: bool = False
) -> Callable[[Any, Mapping[str, Any], Batch], Any]:
    """Compiles `function(state, batch)` to run for another trial on each device, as `compiled(states, arrays, batches)`.

    What the function reduces over the axis `devices` is reduced over one device alone.

    Args:
      function: as in `over_devices`.
      devices: of this process, one a trial.
      donate: as in `over_devices`.

    Returns:
      A function of the states and the batches, both with a leading axis of trials, and of the resident arrays, which are
      the same for all. What it returns has that axis too.
    """

    alone = jax.vmap(_gathered(function), in_axes=None, out_axes=None, axis_name=AXIS, axis_size=1)
    return jax.pmap(
        alone, axis_name="trials", in_axes=(0, None, 0), devices=devices, donate_argnums=(0,) if donate else ()
    )


def compiled_ahead(mapped: Any, options: Mapping[str, str], devices: Sequence[jax.Device]) -> Callable[..., Any]:
    """What `over_devices` returns, compiled with options of XLA's, once for each shape of a batch.

    Args:
      mapped: the function.
      options: by name; an XLA that does not know them does without, and so do several processes together: of them only
        `pmap` itself takes arrays that each has its own part of.
      devices: it runs on.

    Returns:
      A function of the same arguments: a state and arrays that are always of the same shapes, and a batch. It raises
      ValueError where a program does not fit into memory.
    """
    if jax.process_count() > 1:
        return mapped

    def compiled(*arguments: Any) -> tuple[Any, Any]:
        program = mapped.lower(*arguments).compile(compiler_options=known(options))
        return program, program

    return _once_a_shape(compiled, devices)


def program_over_devices(
    function: Callable[[Any, Batch], Any], ops: choice.Ops, devices: Sequence[jax.Device]
) -> Callable[[Any, Mapping[str, Any], Batch], Any]:
    """What `over_devices` returns, with these operations and what XLA is told for them: for evaluation and prediction."""
    traced, options = choice.traced_with(ops, function), choice.compiler_options(ops)
    if jax.process_count() > 1 or len(devices) > 1:
        return compiled_ahead(over_devices(traced, devices), options, devices)
    # An axis of one place. Of LeNet-5's 180 microseconds for an image, `jit` takes 20 to 40 less than `pmap` to call its
    # program, and 10 less than a call of the compiled program itself. It is compiled once: `jit` finds it again.
    alone = jax.vmap(_gathered(traced), (None, None, 0), None, axis_name=AXIS, axis_size=1)
    jitted = jax.jit(alone, compiler_options=known(options))
    return _once_a_shape(lambda *arguments: (jitted, jitted.lower(*arguments).compile()), devices)


def _once_a_shape(prepare: Callable[..., tuple[Any, Any]], devices: Sequence[jax.Device]) -> Callable[..., Any]:
    """Compiles for each shape of a batch at its first call, checks that it fits, and bounds what it leaves behind.

    Args:
      prepare: of the arguments; gives what to call with them, and the compiled program that this runs.
      devices: it runs on.
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
    """These options, or none where this XLA does not know them and their values."""
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
    """The resident bytes from which memory is given back after a step, or None where a step leaves little behind.

    It is twice what the process holds before the first step and that step needs, or less where another step's memory would not
    fit beside that. With `runtime`'s settings the allocator
    keeps what was freed, and a large block may miss the place it had: without a bound ResNet-18's training grew from 1.3 to
    4.5 GiB in some twenty steps, its predictions from 0.7 to 3.0 (2 cores of an AMD EPYC).
    """
    analysis = program.memory_analysis()
    if devices[0].platform != "cpu" or not runtime.keeps_freed_memory() or analysis is None:
        return None
    of_a_step = analysis.temp_size_in_bytes * len(devices)
    if of_a_step < LARGE_STEP:
        return None
    runtime.give_back_memory(above=0)  # what compiling left
    return min(2 * (runtime.resident_memory() + of_a_step), device_memory(devices[0]) - of_a_step)


def check_fits(program: Any, devices: Sequence[jax.Device]) -> None:
    """Refuses a compiled program that needs more memory than there is: a CPU's would wait for it, for ever.

    Raises:
      ValueError: with what it needs and what to change.
    """
    analysis = program.memory_analysis()
    if analysis is None:  # a backend that does not tell
        return
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    needed = held + analysis.temp_size_in_bytes
    together = len(devices) if devices[0].platform == "cpu" else 1  # virtual devices share the machine's memory
    if needed * together > device_memory(devices[0]):
        raise ValueError(
            f"a step needs {needed * together / 2**30:,.1f} GiB and there are {device_memory(devices[0]) / 2**30:,.1f}: lower "
            "train.batch_size (evaluate.batch_size for an evaluation), make the images or the model smaller, or set a "
            "ResNet's model.rematerialize"
        )


def device_memory(device: jax.Device) -> int:
    """Bytes of a device; of a CPU, what the machine and a limit set on the process allow."""
    memory = (device.memory_stats() or {}).get("bytes_limit")
    return runtime.allowed_memory() if memory is None else memory


class RunAhead:
    """Bounds how far the host runs ahead of a CPU's devices; on other devices it does nothing.

    Call it with each step's output.
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
    """Puts one copy of every array on each device, once, rather than with each call."""
    return jax.device_put(tree, NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec()))


def check_replicas(tree: Any) -> None:
    """Compares the devices' copies of every array, bit for bit.

    `pmap` labels a result as the same on all devices without looking: a value that was not reduced (a batch statistic,
    say) silently differs from device to device.

    Raises:
      AssertionError: copies differ; the message names the array.
    """
    for path, array in jax.tree_util.tree_leaves_with_path(tree):
        shards = [np.asarray(shard.data) for shard in array.addressable_shards]
        for device, shard in enumerate(shards[1:], start=1):
            if shard.tobytes() != shards[0].tobytes():
                raise AssertionError(
                    f"state{jax.tree_util.keystr(path)} on device {device} differs from device 0: it is not reduced over "
                    f"the axis {AXIS!r} in the step"
                )
