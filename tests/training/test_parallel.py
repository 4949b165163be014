import jax
import numpy as np

from cnnjax.ops import choice
from cnnjax.training import parallel


def test_a_gpu_that_is_not_used_is_named(monkeypatch):
    cpu = jax.devices("cpu")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(parallel.Path, "glob", lambda self, pattern: iter([self / "nvidia0"]))
    assert "this JAX cannot use it: pip install 'cnnjax[cuda]'" in parallel.unused_gpu(cpu)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert "JAX_PLATFORMS=cpu says so" in parallel.unused_gpu(cpu)
    monkeypatch.setattr(parallel.Path, "glob", lambda self, pattern: iter([]))
    assert parallel.unused_gpu(cpu) is None


def test_an_option_that_this_xla_does_not_know_is_done_without():
    unknown = {"xla_no_such_option": "1"}
    assert parallel.knows({}) and not parallel.knows(unknown)
    devices = jax.devices("cpu")[:1]
    double = parallel.compiled_ahead(parallel.over_devices(lambda x, batch: 2 * x, devices), unknown, devices)
    assert float(double(1.5, {}, {"image": np.ones((1, 3))})) == 3.0


def test_what_the_user_says_of_convolutions_stands(monkeypatch):
    [name] = choice.compiler_options("fast")
    monkeypatch.setenv("XLA_FLAGS", f"--{name}=LIBRARY_FUSION_TYPE_REDUCE")
    assert not choice.compiler_options("fast")
