"""A small study: 2 x 2 variants, 2 seeds, each trial a second at most."""

import pytest

import cnnjax

AXES = {"optimizer.learning_rate": [0.01, 0.05], "train.batch_size": [16, 32]}


@pytest.fixture(scope="session")
def small_config():
    """A network of 16 units on 8 images a class: 2 epochs of 5 steps."""
    return {
        "dataset": {"name": "digits", "examples_per_class": 8},
        "devices": 1,
        "log": {"progress": "off", "tensorboard": False},
        "model": {"name": "mlp", "features": (16,)},
        "train": {"batch_size": 16, "epochs": 2},
        "evaluate": {"batch_size": 72},  # one program for both splits
    }


@pytest.fixture(scope="session")
def study(small_config, tmp_path_factory):
    """(table, folder) of the undisturbed study."""
    folder = tmp_path_factory.mktemp("studies") / "undisturbed"
    return cnnjax.ablate(small_config, AXES, seeds=2, workdir=folder), folder


def timeless(table):
    """All that must be the same when a study is run again."""
    records = [
        {name: value for name, value in record.items() if not name.startswith("time/")} for record in table.trials
    ]
    return records, table.ensembles, table.markdown(times=False)
