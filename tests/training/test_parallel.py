import jax
import numpy as np

from cnnjax.core.randomness import AXIS
from cnnjax.ops import choice
from cnnjax.training import parallel


def test_a_gpu_that_is_not_used_is_named(monkeypatch):
    cpu = jax.devices("cpu")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(parallel.Path, "glob", lambda self, pattern: iter([self / "nvidia0"]))
    assert "this JAX cannot use it: pip install 'cnnjax[cuda]'" in parallel.unused_gpu(cpu)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert "because of JAX_PLATFORMS=cpu" in parallel.unused_gpu(cpu)
    monkeypatch.setattr(parallel.Path, "glob", lambda self, pattern: iter([]))
    assert parallel.unused_gpu(cpu) is None


def test_an_option_that_this_xla_does_not_know_is_done_without():
    unknown = {"xla_no_such_option": "1"}
    assert parallel.known(unknown) == {}
    assert parallel.known(choice.compiler_options("fast")) == choice.compiler_options("fast")
    devices = jax.devices("cpu")[:1]
    double = parallel.compiled_ahead(parallel.over_devices(lambda x, batch: 2 * x, devices), unknown, devices)
    assert float(double(1.5, {}, {"image": np.ones((1, 3))})) == 3.0


def test_what_the_user_says_of_convolutions_stands(monkeypatch):
    [name] = choice.compiler_options("fast")
    monkeypatch.setenv("XLA_FLAGS", f"--{name}=LIBRARY_FUSION_TYPE_REDUCE")
    assert not choice.compiler_options("fast")


def test_a_large_step_s_memory_is_bounded_by_twice_what_it_needs(monkeypatch):
    devices, limits = jax.devices("cpu")[:1], []
    monkeypatch.setattr(parallel.runtime, "resident_memory", lambda: 10_000)
    monkeypatch.setattr(parallel.runtime, "keeps_freed_memory", lambda: True)
    monkeypatch.setattr(parallel.runtime, "give_back_memory", lambda above: limits.append(above))

    def outer(x, batch):  # (1000, 1000) of float32 is temporary memory: 4 MB
        return jax.lax.psum(jax.numpy.sin(batch["image"][:, None] * batch["image"]) @ batch["image"] * x, AXIS)

    batch = {"image": np.linspace(0, 1, 1000, dtype=np.float32)[None]}
    program = parallel.program_over_devices(outer, "fast", devices)
    expected = np.asarray(program(2.0, {}, batch))
    assert not limits  # as small as this it is left alone
    monkeypatch.setattr(parallel, "LARGE_STEP", 2**20)
    program = parallel.program_over_devices(outer, "fast", devices)
    for _ in range(2):
        np.testing.assert_array_equal(program(2.0, {}, batch), expected)
    assert limits[0] == 0 and limits[1] == limits[2]  # once after compiling, then after each step
    assert 2 * (10_000 + 4_000_000) <= limits[1] < 2 * (10_000 + 4_200_000)
    monkeypatch.setattr(parallel, "device_memory", lambda device: 9_000_000)  # no room for twice as much
    parallel.program_over_devices(outer, "fast", devices)(2.0, {}, batch)
    assert 9_000_000 - 4_200_000 < limits.pop() <= 9_000_000 - 4_000_000 and limits.pop() == 0
    monkeypatch.setattr(parallel.runtime, "keeps_freed_memory", lambda: False)
    program = parallel.program_over_devices(outer, "fast", devices)
    np.testing.assert_array_equal(program(2.0, {}, batch), expected)
    assert len(limits) == 3


def test_a_program_is_compiled_once_for_each_shape_of_a_batch():
    traced, devices = [], jax.devices("cpu")[:1]

    def double(x, batch):
        traced.append(batch["image"].shape)
        return jax.lax.psum(x * batch["image"].sum(), AXIS)

    program = parallel.program_over_devices(double, "fast", devices)
    for size in (3, 3, 5, 3, 5):
        assert float(program(2.0, {}, {"image": np.ones((1, size), np.float32)})) == 2 * size
    assert traced == [(3,), (5,)]
