"""A network of one's own, of Flax's own layers, through the whole of the framework: what holds for ours holds for it."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import cnnjax

NET = """
import flax.linen as nn
from collections.abc import Callable
from typing import Any


class Net(nn.Module):
    num_classes: int
    width: int = 4
    dropout_rate: float = 0.3
    asks: bool = False
    act: Callable = nn.relu
    conv: Any = nn.Conv

    @nn.compact
    def __call__(self, x, *, training: bool = True):
        for name in ("first", "second"):
            x = self.conv(self.width, (3, 3), use_bias=False, name=f"{name}_conv")(x)
            x = self.act(nn.BatchNorm(use_running_average=not training, momentum=0.9, name=name)(x))
            x = nn.avg_pool(x, (4, 4), (4, 4))
        if not self.asks or self.dropout_rate > 0:
            x = nn.Dropout(self.dropout_rate, deterministic=not training)(x)
        return nn.Dense(self.num_classes, name="head")(x.mean((1, 2)))


def build(num_classes, *, width: int = 4):
    return nn.Sequential([nn.Conv(width, (3, 3)), nn.BatchNorm(), nn.relu, lambda x: x.mean((1, 2)), nn.Dense(num_classes)])


def nnx_network(num_classes, *, width: int = 4):
    from flax import nnx

    class Inner(nnx.Module):
        def __init__(self, num_classes, width, rngs):
            self.conv = nnx.Conv(1, width, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(width, rngs=rngs)
            self.drop = nnx.Dropout(0.1, rngs=rngs)
            self.output = nnx.Linear(width, num_classes, rngs=rngs)

        def __call__(self, x):
            return self.output(self.drop(nnx.relu(self.norm(self.conv(x))).mean((1, 2))))

    return nnx.bridge.to_linen(Inner, num_classes, width)
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_net.py").write_text(NET)
    return {
        "dataset": {"name": "digits", "examples_per_class": 20},
        "devices": 1,
        "log": {"progress": "off", "tensorboard": False},
        "model": {"name": f"{folder}/own_net.py:Net"},
        "optimizer": {"learning_rate": 0.1},
        "train": {"batch_size": 16, "epochs": 1},
        "evaluate": {"batch_size": 72},
    }


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return cnnjax.train(config, tmp_path_factory.mktemp("run") / "run")


def test_it_is_trained_loaded_and_evaluated(run):
    assert "act" not in run.config.model and "conv" not in run.config.model and run.config.model.dropout_rate == 0.3
    again = cnnjax.load_run(run.workdir)
    assert cnnjax.evaluate([again])["accuracy"] == run.metrics["test/accuracy"]
    means = run.state.batch_stats["first"]["mean"]
    assert np.abs(means).max() > 0


@pytest.mark.parametrize("devices", [2, 4])
def test_any_number_of_devices_trains_it_alike(config, run, devices, tmp_path):
    several = cnnjax.train({**config, "devices": devices}, tmp_path / "several")
    for part in ("params", "batch_stats"):
        pairs = (jax.device_get(getattr(one.state, part)) for one in (run, several))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *pairs)


def test_frozen_layers_keep_their_statistics(config, run, tmp_path):
    changes = {"initial": {"run": str(run.workdir), "frozen": ("first*",)}}
    tuned = cnnjax.train({**config, **changes}, tmp_path / "tuned")
    start, end = (jax.device_get(one.state) for one in (run, tuned))
    for tree in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, getattr(start, tree)["first"], getattr(end, tree)["first"])
    assert not np.array_equal(start.batch_stats["second"]["mean"], end.batch_stats["second"]["mean"])


@pytest.mark.slow
def test_dropout_rates_are_varied_within_one_program(config, tmp_path):
    space = {"model.dropout_rate": [0.1, 0.5]}
    alone, together = (
        cnnjax.ablate(config, space, workdir=tmp_path / strategy, strategy=strategy) for strategy in ("serial", "vmap")
    )
    losses = [[record["test/loss"] for record in table.trials] for table in (alone, together)]
    assert losses[0][0] != losses[0][1] and losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_a_rate_that_python_asks_for_is_one_clear_line(config, tmp_path):
    asking = {**config, "model": {**config["model"], "asks": True}}
    table = cnnjax.ablate(asking, {"model.dropout_rate": [0.1, 0.5]}, workdir=tmp_path, strategy="vmap")
    for record in table.trials:
        assert record["status"] == "failed" and "(model.dropout_rate): use strategy serial" in record["error"]
        assert "own_net.py" in record["error"]  # and the line


@pytest.mark.parametrize("name", ["build", "nnx_network"])
def test_functions_that_return_modules_are_models(config, name, tmp_path):
    model = {"name": config["model"]["name"].replace(":Net", f":{name}"), "width": 6}
    run = cnnjax.train({**config, "model": model}, tmp_path / name)
    assert cnnjax.load_run(run.workdir).config.model.width == 6 and np.isfinite(run.metrics["test/loss"])
    assert [leaf.shape for leaf in jax.tree.leaves(run.state.params) if leaf.ndim == 4] == [(3, 3, 1, 6)]
    # its head is found too: drawn anew for the few classes, the rest is taken over
    few = {**config["dataset"], "classes": ("0", "1", "2")}
    start = {"run": str(run.workdir), "frozen": ("layers_0",) if name == "build" else ("conv",)}
    tuned = cnnjax.train({**config, "model": model, "dataset": few, "initial": start}, tmp_path / "few")
    old, new = (sorted(leaf.shape for leaf in jax.tree.leaves(one.state.params)) for one in (run, tuned))
    assert (6, 10) in old and (6, 3) in new and len(old) == len(new)


def test_an_object_without_classes_may_start_from_a_run_too(config, tmp_path):
    named = {**config, "model": {"name": config["model"]["name"].replace(":Net", ":build")}}
    first = cnnjax.train(named, tmp_path / "first")
    layers = [nn.Conv(4, (3, 3)), nn.BatchNorm(), nn.relu, lambda x: x.mean((1, 2)), nn.Dense(10)]
    start = {"run": str(first.workdir), "frozen": ("layers_0",)}
    second = cnnjax.train({**config, "initial": start}, tmp_path / "second", model=nn.Sequential(layers))
    kernels = [one.state.params["layers_0"]["kernel"] for one in (first, second)]
    np.testing.assert_array_equal(*kernels)
