"""Compiling in a process of its own: the compilers read their settings before JAX starts, and print."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Settings under which JAX runs on the CPU alone and its compilers look for no device: TPU metadata are not asked for, and CUDA's
# convolutions are not timed to choose the fastest. libtpu lets one process at a time use a TPU; where none is used, several may compile.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}
_FLAGS = "--xla_gpu_autotune_level=0"
_ERRORS = {
    "ValueError": ValueError,
    "TypeError": TypeError,
    "FileNotFoundError": FileNotFoundError,
    "RuntimeError": RuntimeError,
}


def figures_in_process(request: Mapping[str, Any]) -> dict[str, Any]:
    """What `programs.figures` returns, computed in a process of its own.

    Args:
      request: the config as JSON data and its `folder`, the `target` as text, and the other arguments of `programs.figures`.

    Raises:
      ValueError, TypeError, FileNotFoundError: as in that process.
      RuntimeError: the compiler failed or crashed; the message has its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "request.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps(request), encoding="utf-8")
        ended = subprocess.run(
            [sys.executable, "-m", "cnnjax.ahead.process", str(asked), str(answered)],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        answer = json.loads(answered.read_text(encoding="utf-8")) if answered.exists() else None
    if answer is None:
        last = ([line for line in ended.stdout.splitlines() if line.strip()] or ["it printed nothing"])[-1]
        how = f"by {signal.Signals(-ended.returncode).name}" if ended.returncode < 0 else f"with {ended.returncode}"
        raise RuntimeError(
            f"compiling for {request['target']}: the compiler's process ended {how}: {last.strip()[:300]}"
        )
    if "error" in answer:
        raise _ERRORS.get(answer["error"], RuntimeError)(answer["message"])
    return answer


def environment() -> dict[str, str]:
    """The environment of a process that compiles for absent devices."""
    flags = " ".join([os.environ.get("XLA_FLAGS", ""), _FLAGS]).strip()
    return os.environ | _ENVIRONMENT | {"XLA_FLAGS": flags}


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    import jax

    from cnnjax.ahead import programs, targets
    from cnnjax.config import load_config

    # Programs for absent devices cannot be read back from the cache of compiled programs.
    jax.config.update("jax_enable_compilation_cache", False)
    config = load_config({**request["config"], "folder": request["folder"]})
    shape = request["input_shape"] and tuple(request["input_shape"])
    target = targets.parse(request["target"])
    return programs.figures(config, target, shape, request["classes"], request["largest"], request["predict"])


def _main(asked: str, answered: str) -> None:
    try:
        answer = _answer(json.loads(Path(asked).read_text(encoding="utf-8")))
    except Exception as error:
        text = " ".join(str(error).split())
        kind = type(error).__name__
        answer = {"error": kind, "message": text if kind in _ERRORS else f"{kind}: {text[:400]}"}
    Path(answered).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
