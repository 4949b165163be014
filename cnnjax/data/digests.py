"""Digests of cached files, which detect damage: a part of each file is checked at every start, the whole file once a day.

Reading the whole cache at each start would cost more than the cache saves. So the digests of a file's blocks are
written beside it. Each start compares a random sample of blocks, which takes a few milliseconds. All blocks are compared if the
last full check was a day ago, or if the file has been written to since.
"""

import contextlib
import hashlib
import json
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.core import files

# The bytes of a block, and the largest number of blocks of a file: a very large file has larger blocks.
BLOCK, MOST_BLOCKS = 2**18, 2**12
# The bytes of a file that are read at each start and once a day: 5 ms and 3 s at 750 MiB/s.
SAMPLED, THOROUGH = 2**22, 2**31
DAY = 86_400.0


def file_digests(path: Path) -> dict[str, Any]:
    """A file's size in bytes, the size of its blocks, and each block's digest (the first 16 bytes of SHA-256)."""
    size = path.stat().st_size
    block = max(BLOCK, -(-size // MOST_BLOCKS))
    with open(path, "rb") as file:
        return {"size": size, "block": block, "digests": [_digest(file.read(block)) for _ in range(0, size, block)]}


def differs(path: Path, recorded: Mapping[str, Any], read: int = SAMPLED) -> bool:
    """Whether a file differs from the digests that `file_digests` recorded, judged by `read` bytes of it.

    Of a larger file a random sample of blocks is read; the sample only decides when damage is found.
    """
    if path.stat().st_size != recorded["size"]:
        return True
    block, expected = recorded["block"], recorded["digests"]
    chosen = range(len(expected))
    if recorded["size"] > read:
        chosen = sorted(random.SystemRandom().sample(chosen, max(read // block, 1)))
    with open(path, "rb") as file:
        for number in chosen:
            file.seek(number * block)
            if _digest(file.read(block)) != expected[number]:
                return True
    return False


def changed_file(folder: Path, record: Path, recorded: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first of a folder's files that differs from its record; None if none does.

    `record` is the file of the digests; its modification time is that of the last full check.

    Raises:
      OSError: a file cannot be read.
    """
    checked = record.stat().st_mtime
    fresh = 0 <= time.time() - checked < DAY
    due = not fresh or any((folder / name).stat().st_mtime > checked for name in recorded)
    for name, content in recorded.items():
        if differs(folder / name, content, THOROUGH if due else SAMPLED):
            return name
    if due:
        with contextlib.suppress(OSError):  # a read-only cache has a full check each time
            os.utime(record)
    return None


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON with a digest of itself, atomically."""
    files.write_json(path, {**content, "seal": _seal(content)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Reads JSON that `write_sealed` wrote.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is damaged, or was edited.
    """
    content = files.read_json(path)
    if not isinstance(content, dict) or content.pop("seal", None) != _seal(content):
        raise ValueError(f"{path} is damaged, or was edited")
    return content


def _seal(content: Mapping[str, Any]) -> str:
    return _digest(json.dumps(content, sort_keys=True).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
