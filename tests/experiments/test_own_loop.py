"""A loop of one's own, of the public parts, trains to the same bits as the framework's."""

import inspect

import jax
import numpy as np
import pytest

import cnnjax
from experiments import own_loop
from tests.test_runs import measured

QUIET = {
    "devices": 2,
    "evaluate.batch_size": 72,
    "log.progress": "off",
    "log.tensorboard": False,
    "model.name": "mlp",  # traced in less time than LeNet-5, and it draws
    "model.features": (16,),
    "model.dropout_rate": 0.2,
}
FIELDS = QUIET | {"dataset.examples_per_class": 40, "train.epochs": 3}  # of 25 steps


def assert_same(a, b):
    assert measured(a.history) == measured(b.history) and a.config == b.config
    for name in ("state", "selected"):
        one, other = (jax.device_get(getattr(run, name)) for run in (a, b))
        jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return cnnjax.train(cnnjax.load_config("quickstart", FIELDS), tmp_path_factory.mktemp("ours") / "run")


def test_it_trains_quickstart_to_the_same_bits(run, tmp_path):
    assert_same(own_loop.train(cnnjax.load_config("quickstart", FIELDS), tmp_path / "run"), run)


def test_it_is_stopped_and_resumed_to_the_same_bits_by_either_loop(run, tmp_path):
    config = cnnjax.load_config("quickstart", FIELDS)

    def stop(event):
        if event.kind == "epoch" or (event.kind == "saved" and event.step == 30):
            raise LookupError

    within = cnnjax.load_config(config, {"checkpoint.every_steps": 30})
    for name, first, second in (("own", own_loop.train, cnnjax.train), ("ours", cnnjax.train, own_loop.train)):
        for fields in (config, within):
            with pytest.raises(LookupError):
                first(fields, tmp_path / name, callbacks=[stop])
            assert not (tmp_path / name / "DONE").exists()
        resumed = second(config, tmp_path / name)
        assert resumed.history[0]["step"] == 25
        assert_same(resumed, run)


def test_steps_that_an_accelerator_takes_together_are_taken_one_by_one(run, tmp_path, monkeypatch):
    monkeypatch.setattr("cnnjax.training.program.steps_together", lambda devices, resident: 50)
    one = own_loop.train(cnnjax.load_config("quickstart", QUIET | {"train.epochs": 1}), tmp_path / "run")
    assert one.history[0]["train/loss"] > 0 and one.history[-1]["test/accuracy"] > 0.5


def test_the_loop_is_40_lines():
    code = [inspect.getsource(function).splitlines() for function in (own_loop.train, own_loop.take_epochs)]
    assert sum(len(lines) for lines in code) <= 40
