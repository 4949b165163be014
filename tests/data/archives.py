"""Tiny archives in the true formats of published data sets, with random pictures in them.

The real ones cannot be downloaded where the tests run. These go through TFDS's unmodified builders, which read them
from the manual directory as they would the originals.
"""

import gzip
import io
import struct
import tarfile

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download import checksums


def _add(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def cifar10(folder, generator):
    """cifar-10-binary.tar.gz: records of a label and 3072 bytes, a plane a colour. Returns (images, labels) by split."""
    truth = {"train": ([], []), "test": ([], [])}
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
        _add(archive, "cifar-10-batches-bin/batches.meta.txt", "\n".join(names).encode())
        for file in [*(f"data_batch_{index}.bin" for index in range(1, 6)), "test_batch.bin"]:
            split = "test" if file.startswith("test") else "train"
            images = generator.randint(0, 256, (4, 32, 32, 3)).astype(np.uint8)
            labels = generator.randint(0, 10, 4).astype(np.uint8)
            records = b"".join(
                bytes([label]) + image.transpose(2, 0, 1).tobytes() for label, image in zip(labels, images, strict=True)
            )
            _add(archive, f"cifar-10-batches-bin/{file}", records)
            truth[split][0].extend(images)
            truth[split][1].extend(labels)
    return truth


def mnist(folder, generator, counts):
    """The four idx files, gzipped, with so many examples a split. Returns (images, labels) by split."""
    truth = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        count = counts[split]
        images = generator.randint(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = generator.randint(0, 10, count).astype(np.uint8)
        for name, header, array in (
            (f"{prefix}-images-idx3-ubyte.gz", struct.pack(">IIII", 2051, count, 28, 28), images),
            (f"{prefix}-labels-idx1-ubyte.gz", struct.pack(">II", 2049, count), labels),
        ):
            (folder / name).write_bytes(gzip.compress(header + array.tobytes(), 1))
        truth[split] = (images[..., None], labels)
    return truth


def tf_flowers(folder, generator):
    """flower_photos.tgz: JPEGs of differing sizes in a folder a class."""
    counts = {}
    with tarfile.open(folder / "flower_photos.tgz", "w:gz") as archive:
        for name in ("dandelion", "daisy", "tulips", "sunflowers", "roses"):
            counts[name] = generator.randint(4, 8)
            for index in range(counts[name]):
                size = generator.randint(30, 60, 2)
                buffer = io.BytesIO()
                Image.fromarray(generator.randint(0, 256, (*size, 3)).astype(np.uint8)).save(buffer, "JPEG")
                _add(archive, f"flower_photos/{name}/{index}.jpg", buffer.getvalue())
    return counts


def register(monkeypatch, name, folder):
    """Makes TFDS expect the archives' own checksums."""
    builder = tfds.builder_cls(name)
    original = dict(builder.url_infos)
    infos = {}
    for url, info in original.items():
        path = folder / info.filename
        if path.exists():
            url_info = checksums.compute_url_info(path)
            infos[url] = checksums.UrlInfo(size=url_info.size, checksum=url_info.checksum, filename=info.filename)
    assert infos, f"{name}: none of {[info.filename for info in original.values()]} in {list(folder.iterdir())}"
    monkeypatch.setattr(builder, "url_infos", infos)
