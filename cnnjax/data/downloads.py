"""Acquisition of a data set's original files: by hand, from a Debian package, or from the network.

TFDS looks for every file of a data set in its manual directory before it downloads it, so files from any
other source are put there.
"""

import contextlib
import hashlib
import io
import os
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import requests

from cnnjax.core import files, runtime

# The seconds to wait for a host before the network counts as absent. TFDS itself retries for over three minutes.
CONNECT_SECONDS = 5

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
# The gzip headers of the originals contain these modification times. Debian rewrote only the headers, so restoring them
# gives the published files, bit for bit: the SHA-256 are those that TFDS records.
_FASHION_MNIST_FILES = {
    "train-images-idx3-ubyte": (1504176606, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    "train-labels-idx1-ubyte": (1504176606, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    "t10k-images-idx3-ubyte": (1504176627, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    "t10k-labels-idx1-ubyte": (1504176627, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
}


def debian_fashion_mnist() -> Path | None:
    """The folder of Debian's package `dataset-fashion-mnist`, or None.

    `CNNJAX_FASHION_MNIST_DIR` names the folder if the package was unpacked elsewhere (`dpkg -x`).
    """
    folder = Path(os.environ.get("CNNJAX_FASHION_MNIST_DIR", DEBIAN_FASHION_MNIST))
    return folder if all((folder / f"{name}.gz").exists() for name in _FASHION_MNIST_FILES) else None


def rebuild_fashion_mnist(source: Path, target: Path) -> None:
    """Writes the published Fashion-MNIST files from Debian's.

    Raises:
      ValueError: a file is not Debian's copy of the original.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name, (modified, expected) in _FASHION_MNIST_FILES.items():
        header = b"\x1f\x8b\x08\x08" + struct.pack("<I", modified) + b"\x00\x03" + name.encode() + b"\x00"
        content = header + _after_gzip_header((source / f"{name}.gz").read_bytes())
        if hashlib.sha256(content).hexdigest() != expected:
            raise ValueError(f"{source / name}.gz is not the published file: reinstall dataset-fashion-mnist")
        files.write_atomically(target / f"{name}.gz", content)


def _after_gzip_header(content: bytes) -> bytes:
    """Drops a gzip member's header (RFC 1952, section 2.3)."""
    extra, name, comment, checksum = (content[3] & flag for flag in (4, 8, 16, 2))
    start = 10
    if extra:
        start += 2 + struct.unpack("<H", content[start : start + 2])[0]
    for _ in filter(None, (name, comment)):
        start = content.index(b"\x00", start) + 1
    return content[start + 2 if checksum else start :]


def prepare(builder: Any, name: str, entry: Any, manual_dir: str | None, report: Callable[[str], None]) -> None:
    """Downloads the files of a TFDS builder and prepares its data.

    Args:
      builder: the builder.
      name: the data set's name in messages.
      entry: the data set's entry in the catalogue, or None.
      manual_dir: a folder with files that were downloaded by hand.
      report: a function that is called with one line for each step that takes a while.

    Raises:
      ConnectionError: a file must be downloaded and the host cannot be reached.
      FileNotFoundError: the data set's files must be supplied by hand and are absent.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import download_manager, downloader

    report(f"preparing {name} in {builder.data_dir}")
    with contextlib.ExitStack() as stack:
        folder = Path(manual_dir).expanduser() if manual_dir else None
        if folder is None and name == "fashion_mnist" and (debian := debian_fashion_mnist()):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cnnjax-")))
            rebuild_fashion_mnist(debian, folder)
        missing = _missing(builder, folder)
        if missing:
            _check_network(builder, name, entry, missing)
        downloader.MAX_RETRIES = 2
        if not sys.stderr.isatty():
            tfds.disable_progress_bar()
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))  # TFDS prints the same as our lines
        # TFDS reuses the extracted files of an archive of the same *name*, and MNIST's and Fashion-MNIST's files have the same
        # names, so each preparation extracts into a folder of its own.
        Path(builder.data_dir).parent.mkdir(parents=True, exist_ok=True)
        extracted = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=".extract-", dir=Path(builder.data_dir).parent)
        )
        try:
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(manual_dir=folder, extract_dir=extracted)
            )
        except AssertionError as error:  # raised by TFDS if the manual directory lacks a file
            raise FileNotFoundError(f"data set {name}: {' '.join(str(error).split())}") from None
        except download_manager.NonMatchingChecksumError as error:
            file = next((name for name in builder_files(builder) if name in str(error)), "a file")
            raise ValueError(
                f"data set {name}: {file} is not the published file (its checksum differs): download it again"
            ) from None
        except (tfds.download.DownloadError, requests.exceptions.RequestException) as error:
            raise ConnectionError(f"data set {name}: {error}. {offline_advice(builder, name, missing)}") from None


def builder_files(builder: Any) -> dict[str, str]:
    """The published files of a TFDS builder: name -> URL."""
    infos = type(builder).url_infos or {}
    return {info.filename: url for url, info in infos.items() if info.filename}


def _missing(builder: Any, folder: Path | None) -> dict[str, str]:
    """The files to download: all except those in the manual folder."""
    published = builder_files(builder)
    return {name: url for name, url in published.items() if not (folder and (folder / name).exists())}


def _check_network(builder: Any, name: str, entry: Any, missing: dict[str, str]) -> None:
    """Contacts the host once, so that a missing network is reported within seconds."""
    url = next(iter(missing.values()))
    try:
        requests.head(url, timeout=(CONNECT_SECONDS, CONNECT_SECONDS), allow_redirects=True)
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout):
        size = f" ({entry.download})" if entry else ""
        raise ConnectionError(
            f"data set {name}{size} must be downloaded from {urlparse(url).hostname}, which cannot be reached. "
            + offline_advice(builder, name, missing)
        ) from None


def offline_advice(builder: Any, name: str, missing: dict[str, str]) -> str:
    """Advice for a machine without a network."""
    names = ", ".join(list(missing)[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
    advice = [
        f"Without a network: put {names} in a folder and set dataset.manual_dir to it",
        f"or copy a prepared folder to {builder.data_dir}",
    ]
    if name == "fashion_mnist":
        advice.append("or install Debian's package dataset-fashion-mnist")
    works = [
        known
        for known in ("digits", "fashion_mnist")
        if known != name and (known == "digits" or debian_fashion_mnist())
    ]
    cached = {path.parents[1].name for path in (runtime.cache_directory() / "arrays").glob("*/*/source.json")}
    works += sorted(cached - {*works, name})
    return "; ".join(advice) + f"; available offline: {', '.join(works)}, and any folder of images"
