import json
import os
import platform
import subprocess
import sys

import pytest

from cnnjax.core import runtime


def in_new_process(code, **environment):
    """What the code prints as JSON in a process of its own."""
    environment = {**{key: value for key, value in os.environ.items() if key not in {"NPROC"}}, **environment}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None) if "JAX_COMPILATION_CACHE_DIR" not in environment else None
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


SHOW = """
import json, os, sys
from cnnjax.core import runtime
settings = {s.name: s.applied for s in runtime.configure_runtime(%s)}
print(json.dumps([settings, "jax" in sys.modules, os.environ.get("NPROC"), os.environ.get("JAX_COMPILATION_CACHE_DIR")]))
"""


def test_settings_are_made_before_jax_is_imported(tmp_path):
    settings, imported, room, cache = in_new_process(SHOW % "", CNNJAX_CACHE_DIR=str(tmp_path))
    assert settings["JAX_COMPILATION_CACHE_DIR"] and not imported and room is None
    assert cache == str(tmp_path / "compiled")
    if sys.platform == "linux":
        assert settings["malloc"]


def test_virtual_devices_get_room_in_the_thread_pool():
    _, _, room, _ = in_new_process(SHOW % "cpu_devices=8")
    assert room == "32"
    _, _, room, _ = in_new_process(SHOW % "cpu_devices=4", NPROC="7")
    assert room == "7"  # the user's own stands


def test_one_variable_switches_everything_off():
    settings, _, room, cache = in_new_process(SHOW % "cpu_devices=4", CNNJAX_RUNTIME="0")
    assert settings == {"all": False} and room is None and cache is None


def test_a_cache_the_user_chose_stands(tmp_path):
    _, _, _, cache = in_new_process(SHOW % "", JAX_COMPILATION_CACHE_DIR=str(tmp_path))
    assert cache == str(tmp_path)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    settings, _, _, cache = in_new_process(SHOW % "", CNNJAX_CACHE_DIR=str(tmp_path / "file"))
    assert settings["JAX_COMPILATION_CACHE_DIR"] is False and cache is None


def test_more_devices_than_jax_started_with_are_refused(eight_devices):
    with pytest.raises(RuntimeError, match=r"already started with fewer than 9 CPU devices.*cpu_devices=9"):
        runtime.configure_runtime(cpu_devices=9)


def test_library_import_is_instant_and_starts_nothing():
    code = "import json, sys, cnnjax; print(json.dumps([m for m in ('jax', 'numpy', 'flax') if m in sys.modules]))"
    assert in_new_process(code) == []


DETERMINISTIC = """
import json, os, jax
from cnnjax.core import runtime
if %s:
    jax.devices()
    jax.default_backend = lambda: "gpu"  # there is none here: what a started GPU would say
try:
    runtime.make_deterministic()
    runtime.make_deterministic()  # a second time adds nothing
    said = None
except RuntimeError as error:
    said = str(error)
print(json.dumps([os.environ.get("XLA_FLAGS"), said, len(jax.devices())]))
"""


def test_a_gpu_is_made_deterministic_before_jax_starts_or_it_is_said_that_it_cannot():
    flag = "--xla_gpu_deterministic_ops=true"
    assert in_new_process(DETERMINISTIC % False, XLA_FLAGS="") == [flag, None, 1]
    own = "--xla_cpu_enable_fast_math=false"
    assert in_new_process(DETERMINISTIC % False, XLA_FLAGS=own) == [f"{own} {flag}", None, 1]
    flags, said, _ = in_new_process(DETERMINISTIC % True, XLA_FLAGS="")
    assert flags == "" and "JAX has already started on the GPU: set XLA_FLAGS" in said


GIVEN_BACK = """
import ctypes, json
from cnnjax.core import runtime
runtime.configure_runtime()
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes, library.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
before = runtime.resident_memory()
block = library.malloc(2**28)
above = library.malloc(2**10)  # so that the block is not at the end of the heap
ctypes.memset(block, 1, 2**28)
library.free(block)
kept = runtime.resident_memory()
runtime.give_back_memory(above=kept + 2**20)
still = runtime.resident_memory()
runtime.give_back_memory(above=kept - 2**20)
print(json.dumps([held - before for held in (kept, still, runtime.resident_memory())]))
"""


# Elsewhere nothing is kept, so nothing is to be given back.
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told to keep what is freed")
def test_freed_memory_is_kept_until_the_process_holds_too_much():
    kept, still, given_back = in_new_process(GIVEN_BACK)
    assert min(kept, still) > 0.99 * 2**28 and given_back < 2**25
