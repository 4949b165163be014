"""What all tests share: eight virtual devices, and a cache that keeps what was compiled and prepared."""

import gc
import os
import sys
from importlib.metadata import version

# No optimisation by LLVM, and the emitters of fusions that compile faster (JAX 0.12 has them no more), here and in child processes. With
# an empty cache, the initialisations, outputs and gradients of LeNet-5, the small CNN and ResNet-20 take 4.7 s of processor time, 6.9 s
# with the default emitters, 10.3 s with LLVM's first level too, 24.5 s with its third, which is the default; twenty gradients of each take
# 2.3 s, 2.0 s with the default emitters and 0.8 s with LLVM's third level, but few tests train for long. Set before JAX reads it; the
# environment's own flags come last and win.
FLAGS = ["--xla_backend_optimization_level=0"]
if version("jaxlib").startswith("0.10."):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
OWN_FLAGS = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join([*FLAGS, OWN_FLAGS]).strip()

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

import cnnjax  # noqa: E402

cnnjax.configure_runtime(cpu_devices=8)

# How long an example takes says something of the machine and its other work, and nothing of the code. Each run of the tests draws
# other examples.
hypothesis.settings.register_profile("cnnjax", deadline=None, max_examples=30)
hypothesis.settings.load_profile("cnnjax")

# PyTorch is imported by those alone who compare with it, the examples by name; pytest imports every file for its docstrings' examples.
collect_ignore = ["transfer/pytorch_networks.py", "examples"]


# The files that take longest, of the slow tests and of the fast ones. They are begun first, so that none is left for one process at the
# end: pytest-xdist would begin with the files of most tests, but for `--no-loadscope-reorder`.
LONG = (
    "tests/test_recipes.py",
    "tests/test_tutorials.py",
    "tests/models/test_each_trains.py",
    "tests/test_kills.py",
    "tests/test_results.py",
    "tests/test_readme.py",
    "tests/models/test_models.py",
    "tests/test_features.py",
    "tests/test_examples.py",
    "tests/analysis/test_summary.py",
    "tests/test_runs.py",
    "tests/ablation/test_strategies.py",
    "tests/test_own_components.py",
    "tests/ablation/test_own_components.py",
    "tests/test_processes.py",
    "tests/transfer/test_import_weights.py",
)


def pytest_collection_modifyitems(items):
    """Begins with the longest files, in the order above."""
    place = {path: number for number, path in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(LONG)))


@pytest.fixture
def default_compiler(monkeypatch):
    """Child processes compile as a user's do: for tests that time them or compare what they print with what is stored."""
    monkeypatch.setenv("XLA_FLAGS", OWN_FLAGS)


def pytest_collection_finish():
    """What is imported by now stays to the end: the garbage collector need not look at it again and again.

    Tracing makes millions of objects, few of which are garbage: looking for it after each 700, Python's default, takes an eighth of
    the time of tests that trace, after each 20,000 a thirtieth.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="module", autouse=True)
def _programs_let_go():
    """Lets go of compiled programs between files: each keeps memory mappings, of which a process has 65,530 at most."""
    yield
    if memory_mappings() > 10_000:
        jax.clear_caches()


def pytest_sessionfinish():
    """What is left ends with the process: pytest, which looks for garbage five times before that, need not go through it."""
    gc.freeze()


def memory_mappings():
    """The number of this process's memory mappings (Linux); elsewhere more than any limit."""
    try:
        with open("/proc/self/maps", "rb") as maps:
            return sum(1 for _ in maps)
    except OSError:
        return sys.maxsize


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
        "evaluate": {"batch_size": 72},  # one size, in which the parts of both splits fit: one program
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
