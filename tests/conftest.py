"""What all tests share: eight virtual devices, and a cache that keeps what was compiled and prepared."""

import hypothesis
import jax
import pytest

import cnnjax

cnnjax.configure_runtime(cpu_devices=8)

# How long an example takes says something of the machine and its other work, and nothing of the code.
hypothesis.settings.register_profile("cnnjax", deadline=None)
hypothesis.settings.load_profile("cnnjax")

# PyTorch is imported by those alone who compare with it, the examples by name; pytest imports every file for its docstrings' examples.
collect_ignore = ["transfer/pytorch_networks.py", "examples"]


@pytest.fixture(scope="module", autouse=True)
def _programs_let_go():
    """Lets go of a file's compiled programs: each keeps memory mappings, of which a process has 65,530 at most."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def digits_config():
    """A small, quick config on the embedded digits: 2 epochs of 10 steps on one device."""
    return {
        "dataset": {"name": "digits"},
        "devices": 1,
        "log": {"progress": "off", "tensorboard": False},
        "model": {"name": "mlp", "features": (32,), "dropout_rate": 0.2},
        "optimizer": {"learning_rate": 0.05, "weight_decay": 5e-4},
        "schedule": {"name": "cosine"},
        "train": {"batch_size": 128, "epochs": 2},
    }


@pytest.fixture(scope="session")
def finished_run(digits_config, tmp_path_factory):
    """That config, trained."""
    return cnnjax.train(digits_config, tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture
def eight_devices():
    """Eight CPU devices, as `configure_runtime` made them above."""
    devices = jax.devices("cpu")
    assert len(devices) == 8
    return devices
