"""Lets tensorflow-datasets prepare data sets where TensorFlow is not installed.

TFDS reads prepared data without TensorFlow, but preparing goes through a few of its file and picture
functions (tensorflow/datasets#11058). All of TFDS shares one lazy module object for them. `install` resolves
that object to the stand-in below, which does the same with the standard library and Pillow; no other library
ever sees it. Real TensorFlow is used where it is installed.
"""

import glob
import importlib.util
import io
import os
import shutil
import sys
import types
from typing import Any

import numpy as np
from PIL import Image


class _Tensor:
    """What TFDS expects of an eager tensor: `.numpy()` and a shape."""

    def __init__(self, value: Any):
        self._value = value

    def numpy(self) -> Any:
        return self._value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._value, dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self._value)


def _gfile() -> types.SimpleNamespace:
    """tf.io.gfile for local files."""
    return types.SimpleNamespace(
        GFile=lambda name, mode="r": open(os.fspath(name), mode, encoding=None if "b" in mode else "utf-8"),
        exists=lambda path: os.path.exists(os.fspath(path)),
        isdir=lambda path: os.path.isdir(os.fspath(path)),
        listdir=lambda path: sorted(os.listdir(os.fspath(path))),
        makedirs=lambda path: os.makedirs(os.fspath(path), exist_ok=True),
        glob=lambda pattern: sorted(glob.glob(os.fspath(pattern))),
        copy=lambda source, target, overwrite=False: shutil.copyfile(source, target),
        rename=lambda source, target, overwrite=False: os.replace(source, target),
        remove=os.remove,
        rmtree=shutil.rmtree,
    )


def _encode(file_format: str, **settings: Any) -> Any:
    def encode(image: Any, *_: Any, **__: Any) -> _Tensor:
        array = np.asarray(image)
        array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
        if array.dtype == np.uint16 and array.ndim == 3:  # which Pillow does not write
            import imagecodecs

            return _Tensor(imagecodecs.png_encode(array))
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, file_format, **settings)
        return _Tensor(buffer.getvalue())

    return encode


def _decode(data: bytes, channels: int = 0, **_: Any) -> _Tensor:
    image = Image.open(io.BytesIO(data))
    if channels:
        image = image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    array = np.asarray(image)
    return _Tensor(array[..., None] if array.ndim == 2 else array)


def _make() -> types.ModuleType:
    module = types.ModuleType("tensorflow", "The few functions TFDS needs to prepare image data sets.")
    module.__version__ = "2.99.0-cnnjax-standin"
    png, jpeg = _encode("PNG"), _encode("JPEG", quality=95)
    module.io = types.SimpleNamespace(gfile=_gfile(), encode_png=png, encode_jpeg=jpeg)
    module.image = types.SimpleNamespace(
        encode_png=png, encode_jpeg=jpeg, decode_image=_decode, decode_png=_decode, decode_jpeg=_decode
    )
    module.compat = types.SimpleNamespace(
        as_text=lambda text, encoding="utf-8": text.decode(encoding) if isinstance(text, bytes) else text,
        as_bytes=lambda text, encoding="utf-8": text.encode(encoding) if isinstance(text, str) else text,
    )
    names = ("UnimplementedError", "FailedPreconditionError", "PermissionDeniedError", "AbortedError", "NotFoundError")
    module.errors = types.SimpleNamespace(**{name: type(name, (Exception,), {}) for name in names})
    module.shape = np.shape
    module.executing_eagerly = lambda: True

    def missing(name: str) -> Any:
        raise ImportError(f"this data set needs TensorFlow itself (tf.{name}): pip install tensorflow-cpu")

    module.__getattr__ = missing
    return module


def install() -> None:
    """Gives TFDS the stand-in, once, unless TensorFlow is installed."""
    if importlib.util.find_spec("tensorflow"):
        return
    from tensorflow_datasets.core.utils import lazy_imports_utils

    sys.modules["tensorflow"] = _make()
    try:
        _ = lazy_imports_utils.tensorflow.executing_eagerly  # TFDS keeps what it finds here
    finally:
        del sys.modules["tensorflow"]
