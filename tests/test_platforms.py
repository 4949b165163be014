"""Where Unix ends: cnnjax without what Windows, other C libraries and bare containers lack."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Before anything else is imported. What JAX and TFDS themselves need of it is theirs to do without.
BARE = """
import ctypes, os, sys, warnings
import psutil  # which has an implementation for each system

for name in ("resource", "fcntl"):
    sys.modules[name] = None

class NoLibrary(ctypes.CDLL):
    def __init__(self, name, *settings, **named):
        if name is None:
            raise TypeError("LoadLibrary() argument 1 must be str, not None")
        super().__init__(name, *settings, **named)

ctypes.CDLL = NoLibrary

def no_proc(event, arguments):
    if event == "open" and str(arguments[0]).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])

sys.addaudithook(no_proc)
exists = os.stat
os.stat = lambda path, *a, **k: exists("/nowhere" if str(path).startswith("/proc") else path, *a, **k)
warnings.filterwarnings("error", category=EncodingWarning, module="cnnjax")
"""

IMPORT_ALL_AND_TRAIN = """
import importlib, pkgutil, cnnjax
for module in pkgutil.walk_packages(cnnjax.__path__, "cnnjax."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("imported")

del os.sysconf
psutil.virtual_memory = lambda: type("Memory", (), {"total": 2**32})
from cnnjax import cli
from cnnjax.core import runtime
assert not next(setting for setting in runtime.configure_runtime() if setting.name == "malloc").applied
cli.main(["train", "--config", "quickstart", "--config.model.name=mlp", "--config.dataset.examples_per_class=8",
          "--config.train.epochs=1", "--config.devices=2", "--workdir", sys.argv[1]])
"""


def without_unix(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", BARE + code, *map(str, arguments)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_everything_imports_and_a_run_trains_without_resource_fcntl_the_c_library_sysconf_and_proc(tmp_path):
    printed = without_unix(IMPORT_ALL_AND_TRAIN, tmp_path / "run")
    assert printed[0] == "imported"
    assert any(line.startswith("test accuracy 0.") for line in printed), printed
    assert (tmp_path / "run" / "DONE").exists()
    assert (tmp_path / "run" / ".lock").read_text() == ""  # held by heartbeat, and given back


def test_what_is_printed_need_not_be_in_the_encoding_of_the_pipe(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "cnnjax", "animate", "convolution", "--input=3", "--kernel=2", "--out", "größe.gif"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "animation: gr\\xf6\\xdfe.gif\n"), done.stderr
    assert (tmp_path / "größe.gif").exists()


def text_without_encoding(tree):
    """Lines of calls that read or write text in the encoding that the machine happens to have."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        modes = [
            value.value for value in call.args[:2] if isinstance(value, ast.Constant) and isinstance(value.value, str)
        ]
        opens = name in ("open", "fdopen") and any(set(mode) <= set("rwax+t") for mode in modes)
        if (name in ("read_text", "write_text") or opens) and "encoding" not in {word.arg for word in call.keywords}:
            yield call.lineno


@pytest.mark.parametrize("folder", ["cnnjax", "configs", "experiments"])
def test_text_is_read_and_written_as_utf8(folder):
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in (ROOT / folder).rglob("*.py")
        for line in text_without_encoding(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not found
