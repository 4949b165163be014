"""Tiny archives in the true formats of published data sets, with random pictures in them.

The real ones cannot be downloaded where the tests run. These go through TFDS's unmodified builders, which read them
from the manual directory as they would the originals.
"""

import gzip
import io
import json
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
    """The four idx files, gzipped, with a number of examples a split. Returns (images, labels) by split."""
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


def _jpeg(generator):
    buffer = io.BytesIO()
    size = generator.randint(30, 60, 2)
    Image.fromarray(generator.randint(0, 256, (*size, 3)).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def imagenet2012(folder, generator):
    """A tar of tars of JPEGs, one a class, for training, and a tar of numbered JPEGs for validation."""
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as archive:
        for name in ("n01440764", "n01443537", "n15075141"):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for index in range(4):
                    _add(inner, f"{name}_{index}.JPEG", _jpeg(generator))
            _add(archive, f"{name}.tar", buffer.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as archive:
        for index in range(1, 5):
            _add(archive, f"ILSVRC2012_val_{index:08d}.JPEG", _jpeg(generator))


def gtsrb(folder, generator):
    """The Visual Domain Decathlon's two archives: annotations as JSON, and a tar of JPEGs."""
    splits = {"train": 24, "val": 6, "test": 3}
    pictures = io.BytesIO()
    with (
        tarfile.open(folder / "decathlon-1.0-devkit.tar.gz", "w:gz") as devkit,
        tarfile.open(fileobj=pictures, mode="w") as inner,
    ):
        categories = [{"id": 1000 + label, "name": f"sign{label}"} for label in range(43)]
        number = 0
        for split, count in splits.items():
            images, annotations = [], []
            for _ in range(count):
                number += 1
                file = f"gtsrb/{split}/{number:06d}.jpg"
                _add(inner, file, _jpeg(generator))
                images.append({"id": number, "file_name": f"data/{file}"})
                annotations.append({"image_id": number, "category_id": 1000 + int(generator.randint(43)), "id": number})
            content = {"images": images} if split == "test" else {
                "images": images, "annotations": annotations, "categories": categories}  # fmt: skip
            name = "gtsrb_test_stripped.json" if split == "test" else f"gtsrb_{split}.json"
            _add(devkit, f"decathlon-1.0/annotations/{name}", json.dumps(content).encode())
    with tarfile.open(folder / "decathlon-1.0-data.tar.gz", "w:gz") as archive:
        _add(archive, "gtsrb.tar", pictures.getvalue())


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
