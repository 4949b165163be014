"""Photographs of your own: a folder with a folder for each class, a table of images, or a file of arrays.

    cnnjax train --data photos                         # the short form; the run is runs/photos
    cnnjax train --config configs/my_photos.py:photos  # the same as a config; `preview`, `find-lr` and others take my_photos:photos

Every photograph becomes 144x144 pixels in colour, and training sees random crops of 128x128 and their mirror images. Files that cannot be
read are left out, and listed. A set of under 1,000 images trains a small network, a larger one ResNet-18. To change more than a field or
two, copy this file and give it as --config FILE --data photos.

Result, on 400 photographs of solar cells (`elpv`; 31 % defective), one seed each, 600 others for the test, 26 November 2026: accuracy
0.748 for the small network and 0.758 for ResNet-18, which these images do not distinguish, in 209 and 488 s on 2 cores beside other work.
"""

from pathlib import Path

SMALL = 1000


def get_config(data="photos"):
    path = Path(data).expanduser()
    if path.suffix.lower() in (".npz", ".npy"):  # of one size and kind already
        dataset, augment = {"name": data}, {}
    else:
        dataset = {"name": data, "resize": (144, 144), "color_space": "rgb", "depth": 8, "unreadable": "skip"}
        augment = {"crop": (128, 128), "flip_horizontal": True}
    shared = {"dataset": dataset, "augment": augment, "schedule": {"name": "cosine"}}
    examples = count(path)
    if examples < SMALL:
        plan = "conv 32 pool | conv 64 pool | conv 64 pool | conv 64 pool | fc 128"
        return shared | {
            "model": {"name": "pattern", "plan": plan, "norm": "batch", "dense_dropout_rate": 0.5},
            "optimizer": {"learning_rate": 0.01, "weight_decay": 5e-4},
            "train": {"batch_size": batch_size(examples), "epochs": 60},
        }
    return shared | {
        "model": {"name": "resnet18"},
        "optimizer": {"learning_rate": 0.05, "weight_decay": 5e-4},
        "train": {"batch_size": 32, "epochs": 30},
    }


def batch_size(examples):
    """A quarter of a small set, from 2 to 16, as a power of two, which several devices can share."""
    return 1 << (min(16, max(2, examples // 4)).bit_length() - 1) if examples else 16


def count(data):
    """The number of images in a folder, or of rows in a table; 0 of other files, which only a reading would tell."""
    if data.is_dir():
        from cnnjax.data.folders import is_image

        return sum(map(is_image, data.rglob("*")))
    if data.suffix.lower() == ".parquet" and data.is_file():
        from pyarrow import parquet

        return parquet.read_metadata(data).num_rows
    return data.read_bytes().count(b"\n") if data.suffix.lower() in (".csv", ".tsv") and data.is_file() else 0
