"""cnnjax as `cnnjax train` and a run's `predict` run it: the model, the step and `pmap` over the devices.

The worker calls `cnnjax.configure_runtime()` before this is imported, as the command line does.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import cnnjax
from cnnjax.core.randomness import AXIS
from cnnjax.data.batches import Batch, split_over_devices
from cnnjax.ops import choice
from cnnjax.tasks import Classification, Task
from cnnjax.training.optimizers import make_optimizer, sgd
from cnnjax.training.parallel import (
    RunAhead,
    choose_devices,
    compiled_ahead,
    over_devices,
    program_over_devices,
    replicate,
)
from cnnjax.training.schedules import constant
from cnnjax.training.state import initial_state
from cnnjax.training.step import plain_inputs, prediction_step, train_step
from experiments.benchmarks.networks import Network, network_of
from experiments.benchmarks.subject import (
    LEARNING_RATE,
    MOMENTUM,
    Precision,
    Subject,
    check_finite,
    peak_of_jax_device,
    random_batch,
)

TASK = Classification()


def subject(network: str, purpose: str, precision: Precision, devices: int = 1) -> Subject:
    """A network of ours.

    Args:
      network: of `NETWORKS`.
      purpose: of `PURPOSES`.
      precision: of the computation.
      devices: that share each batch; of a CPU, virtual ones.
    """
    chosen = choose_devices(devices)
    build = {"train": _training, "predict": _prediction}[purpose]
    return build(network_of(network), jnp.dtype(precision), chosen)


def several_seeds(network: str, seeds: int, strategy: Literal["serial", "vmap"]) -> Subject:
    """One network's training from several seeds: one step of each, one after the other or all in one program."""
    chosen, (model, optimizer, step) = choose_devices(1), _parts(network_of(network), jnp.dtype("float32"))
    batch = _on_devices(_batch(network_of(network), network_of(network).batch_size), chosen)
    states = [initial_state(model, optimizer, network_of(network).image_shape, seed) for seed in range(seeds)]
    parameters = _count(states[0].params)
    if strategy == "vmap":
        compiled = _compiled(jax.vmap(step, (0, None)), chosen)
        states = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)]
    else:
        compiled = _compiled(step, chosen)
    states = [replicate(state, chosen) for state in states]

    def train(times: int) -> None:
        run_ahead, metrics = RunAhead(chosen), None
        for _ in range(times):
            for index, state in enumerate(states):
                states[index], metrics = compiled(state, {}, batch)
                run_ahead(metrics)
        jax.block_until_ready(states)
        check_finite(float(np.sum(jax.device_get(metrics)["loss"])))

    return Subject({"train": train}, parameters, chosen[0].device_kind, peak_of_jax_device)


def model_of(network: Network, dtype: Any = jnp.float32) -> Any:
    """Our model of that network."""
    return cnnjax.create_model(network.model, network.num_classes, dtype, **network.options)


def _parts(network: Network, dtype: Any) -> tuple[Any, optax.GradientTransformation, Callable[..., Any]]:
    """Model, optimiser and step, as `training.loop` puts them together from a config."""
    model = model_of(network, dtype)
    optimizer = make_optimizer(sgd, constant(LEARNING_RATE, 1, 1), momentum=MOMENTUM)
    # Every framework is given images as floats: here nothing is left to normalise.
    inputs = plain_inputs(TASK, lambda images: images, {"num_classes": network.num_classes})
    return model, optimizer, train_step(model, optimizer, TASK, inputs, seed=0)


def _batch(network: Network, size: int) -> Batch:
    images, labels = random_batch(network, size)
    index = np.arange(len(images), dtype=np.int32)
    return {"image": images, "label": labels, "mask": np.ones(len(images), np.float32), "index": index}


def _on_devices(batch: Batch, devices: list[jax.Device]) -> Batch:
    sharding = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS))
    return jax.device_put(split_over_devices(batch, len(devices)), sharding)


def _compiled(step: Callable[..., Any], devices: list[jax.Device]) -> Callable[..., Any]:
    """A training step as `cnnjax train` compiles it."""
    return compiled_ahead(over_devices(step, devices, donate=True), choice.compiler_options("fast"), devices)


def _count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _training(network: Network, dtype: Any, devices: list[jax.Device]) -> Subject:
    model, optimizer, step = _parts(network, dtype)
    compiled = _compiled(step, devices)
    batch = _on_devices(_batch(network, network.batch_size), devices)
    state = replicate(initial_state(model, optimizer, network.image_shape, seed=0), devices)
    parameters = _count(state.params)

    def train(times: int) -> None:
        nonlocal state
        run_ahead, metrics = RunAhead(devices), None
        for _ in range(times):
            state, metrics = compiled(state, {}, batch)
            run_ahead(metrics)
        jax.block_until_ready(state)
        check_finite(float(metrics["loss"]))

    return Subject({"train": train}, parameters, devices[0].device_kind, peak_of_jax_device)


def _prediction(network: Network, dtype: Any, devices: list[jax.Device]) -> Subject:
    model, optimizer, _ = _parts(network, dtype)
    state = initial_state(model, optimizer, network.image_shape, seed=0)
    variables, parameters = replicate(state.variables, devices), _count(state.params)
    # Logits, since that is where every framework stops.
    step = prediction_step(model, Task(), [plain_inputs(Task(), lambda images: images, {})])
    compiled = program_over_devices(step, "fast", devices)
    one, many = (_on_devices(_batch(network, size), devices) for size in (len(devices), network.batch_size))

    def latency(times: int) -> None:
        for _ in range(times):
            jax.block_until_ready(compiled(variables, {}, one))

    def throughput(times: int) -> None:
        run_ahead, logits = RunAhead(devices), None
        for _ in range(times):
            logits = compiled(variables, {}, many)
            run_ahead(logits)
        jax.block_until_ready(logits)

    return Subject(
        {"latency": latency, "throughput": throughput}, parameters, devices[0].device_kind, peak_of_jax_device
    )
