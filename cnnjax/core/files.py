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

# Errors of the operating system that mean that a disk cannot be written to.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# A heartbeat lock is renewed at this interval and counts as abandoned after four missed renewals.
HEARTBEAT_SECONDS = 15.0
# Characters that start a formula in a spreadsheet.
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
    """Checks the name of an output file before anything is computed for it.

    Raises:
      ValueError: the name does not end in the suffix.
      FileNotFoundError: the folder does not exist.
    """
    if path.suffix.lower() != suffix:
        raise ValueError(f"{path}: expected a name that ends in {suffix}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as comma-separated values, one line per row.

    Text that a spreadsheet would evaluate as a formula is prefixed with an apostrophe (OWASP, "CSV Injection"). Numbers are
    unchanged.

    >>> print(as_csv([["=1+1", "-3.png", -3, "a=b"]]), end="")
    '=1+1,'-3.png,-3,a=b
    """
    return "".join(map(_csv_line, rows))


def _csv_line(row: Sequence[Any]) -> str:
    buffer = io.StringIO(newline="")  # without newline="", csv would not quote a carriage return
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
    """A temporary directory that becomes `directory` if the block succeeds and is deleted if it fails."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        if directory.exists():  # os.replace cannot overwrite a directory that is not empty
            shutil.rmtree(directory)
        os.replace(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Holds the lock file `path` with a lock of the operating system, which ends with the process (flock, LockFileEx).

    File systems without such locks (some network file systems) use a heartbeat instead: the holder touches the file
    regularly, and a lock that was not renewed for a minute counts as abandoned.

    Args:
      path: the lock file; created if absent.
      what: the name of the locked thing, for the error message.
      wait: whether to wait for the other process instead of raising an error.

    Raises:
      InUseError: another process holds the lock.
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
    """Takes the lock and returns whether it is one of the operating system (True) or a heartbeat (False).

    Raises:
      BlockingIOError: another process holds the lock.
    """
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
    time.sleep(0.2)  # if two processes write at the same time, the later signature wins
    if path.read_text(encoding="utf-8") != _signature():
        raise BlockingIOError
    return False


def _signature() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _sign(file: Any) -> None:
    """Writes the signature through the locked file's own handle: Windows refuses writes through any other."""
    file.truncate(0)
    file.write(_signature())
    file.flush()


def _renew(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        os.utime(path)


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") or "unknown"
    except OSError:  # Windows does not allow a locked file to be read
        return "unknown"


def listed(items: Sequence[str], most: int = 5) -> str:
    """The first items of a list and the number of items left out.

    >>> listed(["a", "b", "c"], most=2)
    'a; b; and 1 more'
    """
    return "; ".join([*items[:most], *([f"and {len(items) - most} more"] if len(items) > most else [])])
