"""The weights that torchvision publishes: their addresses and accuracies, and getting them once."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cnnjax.core import files, runtime
from cnnjax.core.options import unknown
from cnnjax.core.terminal import say
from cnnjax.models import PUBLISHED_WEIGHTS
from cnnjax.models.published import Weights

ADDRESS = "https://download.pytorch.org/models"
# In a config "torchvision" means the first weights of the model's network; "torchvision:IMAGENET1K_V2" names others.
PREFIX = "torchvision"
# The time limits in seconds for the connection to a host, and for the next bytes.
PATIENCE = (10, 60)


def address(weights: Weights) -> str:
    """The address from which a file of weights is downloaded."""
    return f"{ADDRESS}/{weights.file}"


def find(network: str, text: str) -> Weights | None:
    """The published weights that a text names for a network; None if it is the name of a file.

    Args:
      network: torchvision's name.
      text: "torchvision", "torchvision:IMAGENET1K_V2", or a file's name.

    Raises:
      ValueError: torchvision publishes no weights of that name for the network.
    """
    source, _, name = text.partition(":")
    if source != PREFIX:
        return None
    choices = {weights.name: weights for weights in PUBLISHED_WEIGHTS if weights.network == network}
    name = name or next(iter(choices))
    if name not in choices:
        raise ValueError(unknown(f"torchvision's weights of {network}", name, choices))
    return choices[name]


def meant(network: str, text: str) -> Weights | None:
    """The published weights that a text as in `find`, or a file of a published name, means for a network; None for others."""
    source, _, name = text.partition(":")
    for weights in PUBLISHED_WEIGHTS:
        asked = name in ("", weights.name) if source == PREFIX else Path(text).name == weights.file
        if weights.network == network and asked:
            return weights
    return None


def model_options(network: str, text: str) -> dict[str, Any]:
    """The fields of the model with which a network's published weights were trained; a text as in `meant`."""
    weights = meant(network, text)
    return dict(weights.options) if weights else {}


def folders() -> tuple[Path, ...]:
    """The folders that are searched for weight files: cnnjax's cache, into which they are downloaded, and PyTorch's (`torch.hub.get_dir`)."""
    hub = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return runtime.cache_directory() / "weights", Path(hub).expanduser() / "hub" / "checkpoints"


def fetch(weights: Weights) -> Path:
    """The path of a published weight file, which is downloaded if it is not on this machine.

    Raises:
      ConnectionError: it cannot be downloaded; the message says which file to put where.
      ValueError: the beginning of the file's SHA-256 is not that of the published file.
    """
    ours, others = folders()
    path = ours / weights.file
    with files.locked(ours / ".lock", "the folder of weights", wait=True):
        if not path.exists() and (others / weights.file).exists():
            path = others / weights.file
        if not path.exists():
            _download(weights, path)
        elif not _is_published(weights, digest := _digest(_read(path))):
            raise ValueError(_differs(weights, digest, f"{path}") + ": delete it, so that it is downloaded again")
    return path


def _download(weights: Weights, path: Path) -> None:
    """Downloads a file under a temporary name, and renames it when it is complete."""
    import requests

    say(f"downloading {address(weights)} ({weights.mebibytes} MiB)", error=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file, requests.get(address(weights), stream=True, timeout=PATIENCE) as answer:
            answer.raise_for_status()
            digest = _digest(_written(answer, file))
        if not _is_published(weights, digest):
            raise ValueError(_differs(weights, digest, f"the download from {address(weights)}"))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except requests.exceptions.RequestException as error:
        raise ConnectionError(f"{_reason(weights, error)}. {offline_advice(weights)}") from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def _written(answer: Any, file: BinaryIO) -> Iterator[bytes]:
    """Writes an answer's bytes to a file, shows the progress, and yields the bytes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    total = int(answer.headers.get("content-length", 0)) or None
    columns = BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=total)
        for part in answer.iter_content(1 << 20):
            file.write(part)
            progress.advance(task, len(part))
            yield part


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            yield part


def _digest(parts: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _is_published(weights: Weights, digest: str) -> bool:
    return digest.startswith(_beginning(weights))


def _beginning(weights: Weights) -> str:
    """The beginning of the file's SHA-256, which is the end of its name."""
    return Path(weights.file).stem.rpartition("-")[2]


def _differs(weights: Weights, digest: str, what: str) -> str:
    return f"{what} is not torchvision's file: its SHA-256 begins with {digest[:8]}, expected {_beginning(weights)}"


def _reason(weights: Weights, error: Exception) -> str:
    from requests.exceptions import ConnectionError, HTTPError, Timeout

    if isinstance(error, HTTPError) and error.response is not None:
        said = f"answers {error.response.status_code} {error.response.reason}"
    else:
        said = "cannot be reached" if isinstance(error, ConnectionError | Timeout) else "stopped before the end"
    return f"weights {weights.name} of {weights.network} ({weights.mebibytes} MiB): {address(weights)} {said}"


def offline_advice(weights: Weights) -> str:
    """The advice for machines without a network: which file to put where."""
    ours, others = folders()
    return (
        f"Without a network: download {weights.file} elsewhere and put it into {ours} (or {others}), or give the file's path "
        f"instead of {PREFIX!r}"
    )
