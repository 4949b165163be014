"""Reads state dicts that PyTorch has saved, without PyTorch.

A `.pth` file contains a pickle and the tensors' bytes, in one of two formats: a zip archive (`data.pkl` and `data/0`, `data/1`, ...), or,
before PyTorch 1.6 and in many of torchvision's files, several pickles followed by the bytes. The pickle is read by an unpickler that
accepts only tensors, their storages and OrderedDict, so that no code of the file runs. (PyTorch 2.13, `torch/serialization.py`.)
"""

import dataclasses
import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_TYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclasses.dataclass(frozen=True)
class _Storage:
    """The bytes of one or several tensors, by their key in the file."""

    dtype: np.dtype
    key: str
    size: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A tensor as stored in the pickle: a part of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


_KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): dtype for name, dtype in _TYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    """An unpickler that makes tensors, their storages and dicts, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")
        return _KNOWN[module, name]

    def persistent_load(self, saved: Any) -> _Storage:
        kind, dtype, key, _, size, *views = saved
        if kind != "storage" or any(view is not None for view in views):
            raise pickle.UnpicklingError(f"{kind} is no storage of its own")
        return _Storage(dtype, key, size)


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """Reads {name: array} from a state dict that PyTorch has saved; floating-point numbers become float32.

    Raises:
      ValueError: the file is damaged, or holds anything but tensors by name.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _from_archive(archive)
        with path.open("rb") as file:
            return _from_pickles(file)
    except (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, LookupError, TypeError, AttributeError, struct.error):
        raise ValueError("it is damaged, or holds more than tensors, which could run code") from None


def _from_archive(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    folder = next((name for name in archive.namelist() if name.endswith("data.pkl")), "").removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise ValueError("its numbers are big-endian, which is not read")
    tensors = _tensors(_Unpickler(io.BytesIO(archive.read(f"{folder}data.pkl")), encoding="utf-8").load())
    return {
        name: _array(tensor, archive.read(f"{folder}data/{tensor.storage.key}")) for name, tensor in tensors.items()
    }


def _from_pickles(file: BinaryIO) -> dict[str, np.ndarray]:
    magic, protocol, system = (_Unpickler(file, encoding="utf-8").load() for _ in range(3))
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise pickle.UnpicklingError("no file of PyTorch's")
    if not system["little_endian"]:
        raise ValueError("its numbers are big-endian, which is not read")
    tensors = _tensors(_Unpickler(file, encoding="utf-8").load())
    keys = _Unpickler(file, encoding="utf-8").load()
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    stored = {}
    for key in keys:  # in the file's order; each begins with its number of elements
        (size,) = struct.unpack("<q", file.read(8))
        stored[key] = file.read(size * dtypes[key].itemsize)
    return {name: _array(tensor, stored[tensor.storage.key]) for name, tensor in tensors.items()}


def _tensors(content: Any) -> Mapping[str, _Tensor]:
    """The content of a file, where it is a state dict."""
    if not isinstance(content, Mapping):
        raise ValueError("it does not contain a state dict; save one with torch.save(model.state_dict(), ...)")
    others = [str(key) for key, value in content.items() if not isinstance(value, _Tensor)]
    if others:
        raise ValueError(
            f"{', '.join(others[:5])}: not tensors; save only the state dict, torch.save(model.state_dict(), ...)"
        )
    return content


def _array(tensor: _Tensor, content: bytes) -> np.ndarray:
    """A tensor's values, copied out of its storage's bytes."""
    dtype, size = tensor.storage.dtype, tensor.storage.size
    last = tensor.offset + sum((length - 1) * step for length, step in zip(tensor.shape, tensor.strides, strict=True))
    if len(content) != size * dtype.itemsize or min((tensor.offset, *tensor.shape, *tensor.strides)) < 0:
        raise pickle.UnpicklingError("a storage of another length")
    if 0 in tensor.shape:
        values = np.zeros(tensor.shape, dtype)
    elif last >= size or math.prod(tensor.shape) > size:
        raise pickle.UnpicklingError("a tensor that is longer than its storage")
    else:
        steps = [step * dtype.itemsize for step in tensor.strides]
        values = np.lib.stride_tricks.as_strided(np.frombuffer(content, dtype)[tensor.offset :], tensor.shape, steps)
    return values.astype(np.float32 if jnp.issubdtype(dtype, jnp.floating) else dtype)
