"""Files written whole or not at all, and directories used by one process at a time."""

import contextlib
import csv
import errno
import io
import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

# What the operating system says when a disk takes no more.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# A lock by heartbeat is renewed this often, and taken to be abandoned after four missed beats.
HEARTBEAT_SECONDS = 15.0
# What a spreadsheet's formula begins with.
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")


class InUseError(RuntimeError):
    """Another process is using the directory."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes the file under another name and moves it into place, so that no reader sees half of it."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_writable(path: Path, suffix: str) -> None:
    """Refuses a file name before anything is computed for it.

    Raises:
      ValueError: it does not end in the suffix.
      FileNotFoundError: there is no such folder.
    """
    if path.suffix.lower() != suffix:
        raise ValueError(f"{path}: expected a name that ends in {suffix}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as comma-separated values, a line each.

    A text that a spreadsheet would take for a formula gets an apostrophe before it (OWASP, "CSV Injection"); numbers stay.

    >>> print(as_csv([["=1+1", "-3.png", -3, "a=b"]]), end="")
    '=1+1,'-3.png,-3,a=b
    """
    return "".join(map(_csv_line, rows))


def _csv_line(row: Sequence[Any]) -> str:
    buffer = io.StringIO(newline="")  # csv quotes a carriage return only where it ends lines with one
    csv.writer(buffer).writerow(
        [f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell for cell in row]
    )
    return buffer.getvalue().removesuffix("\r\n") + "\n"


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as indented JSON, atomically."""
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      ValueError: the file is not JSON, or not UTF-8; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from None


@contextlib.contextmanager
def made_whole(directory: Path) -> Iterator[Path]:
    """A temporary directory that becomes `directory` when the block succeeds, and vanishes when it does not."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        if directory.exists():  # an older one: out of the way first, since a directory does not replace another
            shutil.rmtree(directory)
        os.replace(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Holds the lock file `path`, by a lock of the operating system that ends with the process (flock, LockFileEx).

    Where the file system has no such lock (some network ones), a heartbeat in the file takes its place:
    the holder renews it, and a lock not renewed for a minute counts as abandoned.

    Args:
      path: the lock file; made if absent.
      what: what is locked, for the error.
      wait: wait for the other process rather than raise.

    Raises:
      InUseError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        beat = threading.Event()
        while True:
            try:
                held = _take(file, path)
                break
            except BlockingIOError:
                if not wait:
                    raise InUseError(
                        f"{what} is in use by another process ({_holder(path)}): wait for it to end, or stop it"
                    ) from None
                time.sleep(0.2)
        _sign(file)
        thread = None
        if not held:
            thread = threading.Thread(target=_renew, args=(path, beat), daemon=True)
            thread.start()
        try:
            yield
        finally:
            beat.set()
            if thread:
                thread.join()
                file.truncate(0)


def _take(file: Any, path: Path) -> bool:
    """Takes the lock: True by the operating system's lock, False by heartbeat; BlockingIOError if it is held."""
    import filelock

    try:
        taken = filelock.lock_descriptor(file.fileno(), blocking=False)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
    else:
        if not taken:
            raise BlockingIOError
        return True
    if path.read_text(encoding="utf-8") and time.time() - path.stat().st_mtime < 4 * HEARTBEAT_SECONDS:
        raise BlockingIOError
    _sign(file)
    time.sleep(0.2)  # of two processes that came at once, the later signature wins
    if path.read_text(encoding="utf-8") != _signature():
        raise BlockingIOError
    return False


def _signature() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _sign(file: Any) -> None:
    """Through the file that is locked: Windows lets no other handle write there."""
    file.truncate(0)
    file.write(_signature())
    file.flush()


def _renew(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        os.utime(path)


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") or "unknown"
    except OSError:  # Windows lets nobody read what is locked
        return "unknown"


def listed(items: Sequence[str], most: int = 5) -> str:
    """The first items of a list, and how many there are beside them.

    >>> listed(["a", "b", "c"], most=2)
    'a; b; and 1 more'
    """
    return "; ".join([*items[:most], *([f"and {len(items) - most} more"] if len(items) > most else [])])
