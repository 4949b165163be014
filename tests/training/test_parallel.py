import jax

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
