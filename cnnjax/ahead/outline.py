"""The outline of a data set: the shapes and types of its arrays, without its content."""

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from cnnjax.data import catalogue, scenes, transforms
from cnnjax.data.boxes import as_rows, padded
from cnnjax.data.datasets import Dataset, DatasetOptions, Split

# The size of pictures whose data set has several: `dataset.resize` gives them all one size.
_ANY_SIZE = (512, 512)


def outline(config: ConfigDict, input_shape: tuple[int, ...] | None = None, classes: int | None = None) -> Dataset:
    """The outline of the config's data set: images and labels of the right shape and number, which take no memory.

    Args:
      config: the resolved config.
      input_shape: the shape of a stored image, the channels last; None is that of the catalogue, prepared as the config says.
      classes: the number of classes, or of values to predict; None is that of the catalogue.

    Raises:
      ValueError: the data set is not in the catalogue, and a shape or number is not given.
    """
    options = DatasetOptions(**config.dataset)
    entry = catalogue.find(options.name)
    if entry is None and (input_shape is None or classes is None):
        raise ValueError(
            f"data set {options.name} is not in the catalogue (`cnnjax datasets`), and nothing is loaded to compile: give --input "
            "H,W,C and --classes N"
        )
    shape, dtype = (input_shape, np.dtype(np.uint8)) if input_shape else _prepared(options, entry)
    given = len(options.classes) if options.classes else None
    boxes = options.labels == "boxes"  # of which a scene's background has none
    classes = classes or given or entry.classes - (boxes and entry.items is not None)
    objects = options.most_objects or (scenes.MOST_ITEMS if options.name in scenes.KINDS else 100)
    # Of a data set that is not in the catalogue, an epoch that any batch fits into.
    examples = entry.train if entry else 2**20
    examples = max(examples, config.train.batch_size)
    names = tuple(map(str, range(classes)))
    split = Split(
        np.broadcast_to(np.zeros((), dtype), (examples, *shape)),
        _labels(config.task.name, examples, shape, classes, objects),
    )
    statistics = transforms.Statistics((100.0,) * shape[-1], (50.0,) * shape[-1])
    return Dataset(options.name, names, dict.fromkeys(("train", "valid", "test"), split), statistics, "outline")


def _prepared(options: DatasetOptions, entry: catalogue.Entry) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and type of a data set's images, prepared as its options say."""
    if entry.shape is None and options.resize is None:
        raise ValueError(
            f"data set {options.name}: its images differ in size: set dataset.resize, or give --input H,W,C"
        )
    *size, channels = entry.shape or (*_ANY_SIZE, 3)
    picture = Image.new("L" if channels == 1 else "RGB", (size[1], size[0])) if channels in (1, 3) else None
    decoded = np.zeros((*size, channels), np.uint8) if picture is None else picture
    prepared = transforms.prepare(decoded, options, channels)
    return prepared.shape, prepared.dtype


def _labels(task: str, examples: int, shape: tuple[int, ...], classes: int, objects: int) -> np.ndarray:
    """Labels as the task takes them: maps of classes, boxes, several labels of 0 and 1, numbers, or classes."""
    if task == "segmentation":
        return np.broadcast_to(np.zeros((), np.uint8), (examples, *shape[:-1]))
    if task == "detection":
        rows = padded(as_rows([[0, 0, shape[1], shape[0]]], [classes - 1]), objects)
        return np.broadcast_to(rows, (examples, *rows.shape))
    if task == "multilabel":
        return np.broadcast_to(np.zeros((), np.uint8), (examples, classes))
    if task == "regression":
        return np.zeros((examples, classes), np.float32)
    return np.arange(examples, dtype=np.int32) % classes
