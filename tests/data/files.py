"""Files for the tests of data: pictures, and ways to damage what is cached."""

import json
import os

import numpy as np
from PIL import Image


def save_picture(path, height=8, width=8, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def flip(path, position):
    """One bit, the file's times of change and access left as they were."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def swap(one, other):
    one.rename(one.parent / "third")
    other.rename(one)
    (one.parent / "third").rename(other)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
