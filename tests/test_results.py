"""What the README and the configs promise, from the command line: slow, so CI runs it and `make test` does not."""

import json
import os
import subprocess
import sys
import time
import zipfile

import pytest

import cnnjax
from cnnjax.data import downloads
from cnnjax.training import run_directory

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("default_compiler")]
COMMAND = [sys.executable, "-m", "cnnjax"]
needs_fashion_mnist = pytest.mark.skipif(
    downloads.debian_fashion_mnist() is None, reason="Debian's dataset-fashion-mnist is not installed"
)


def train(workdir, *flags, **options):
    command = [*COMMAND, "train", *flags, "--workdir", str(workdir)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)
    return run_directory.read_history(workdir)


@pytest.mark.alone
def test_quickstart_reaches_98_percent_in_half_a_minute_from_nothing(tmp_path):
    """18 to 22 s on two quiet cores of an AMD EPYC; the fastest of three, since other work on the machine adds to a time."""
    for attempt in range(3):
        environment = {**os.environ, "CNNJAX_CACHE_DIR": str(tmp_path / f"cache{attempt}")}
        start = time.perf_counter()
        history = train(tmp_path / f"run{attempt}", "--config", "quickstart", env=environment)
        seconds = time.perf_counter() - start
        assert history[-1]["test/accuracy"] >= 0.98
        if seconds < 30:
            return
    pytest.fail(f"the last of three took {seconds:.1f} s")


# Beside another process its threads wait for those of the other: it took 968 s so.
@pytest.mark.alone
@needs_fashion_mnist
def test_lenet5_reaches_91_percent_on_fashion_mnist(tmp_path):
    history = train(tmp_path / "run", "--config", "fashion_mnist_lenet5")
    described = json.loads((tmp_path / "run" / "dataset.json").read_text())
    assert described["examples"] == {"train": 54_000, "valid": 6_000, "test": 10_000}
    assert history[-1]["test/accuracy"] >= 0.91


@pytest.mark.alone  # for the same reason: 711 s beside another process
@needs_fashion_mnist
def test_the_small_cnn_is_past_90_percent_after_three_epochs_on_fashion_mnist(tmp_path):
    """The config's twelve take a quarter of an hour; its docstring has their result. Three gave 0.9029."""
    history = train(tmp_path / "run", "--config", "fashion_mnist_cnn", "--config.train.epochs=3")
    assert history[-1]["test/accuracy"] >= 0.90


@pytest.mark.alone
@needs_fashion_mnist
def test_the_second_start_reaches_its_first_step_within_six_seconds(tmp_path):
    code = """
import sys, time
start = time.perf_counter()
from cnnjax.core import runtime
runtime.configure_runtime()
import cnnjax
from cnnjax.training import loop
class Done(Exception): pass
def compiled(self, step): raise Done
loop.Display.compiled = compiled
try:
    cnnjax.train(cnnjax.load_config("fashion_mnist_lenet5", {"log.progress": "off"}), sys.argv[1])
except Done:
    print(time.perf_counter() - start)
"""
    seconds = []
    for number in range(3):
        command = [sys.executable, "-c", code, str(tmp_path / str(number))]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds.append(float(done.stdout))
    assert min(seconds[1:]) < 6, seconds


def test_the_wheel_works_outside_the_checkout(tmp_path):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), root], check=True)
    [wheel] = tmp_path.glob("cnnjax-*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-c", "import cnnjax; print(cnnjax.__file__)"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert where.stdout.strip() == str(installed / "cnnjax" / "__init__.py")
    environment["CNNJAX_CACHE_DIR"] = str(tmp_path / "cache")  # the embedded digits come out of the wheel
    history = train(
        tmp_path / "run", "--config", "quickstart", "--config.train.epochs=1", cwd=tmp_path, env=environment
    )
    assert history[-1]["test/accuracy"] > 0.8
    assert cnnjax.load_run(tmp_path / "run").config.model.name == "lenet5"
