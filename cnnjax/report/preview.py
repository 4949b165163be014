"""A preview of training images as they are, and as the config's augmentation shows them, under their maps or boxes if they have any."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnjax.analysis import pictures
from cnnjax.analysis.boxes import class_colour, drawn_boxes
from cnnjax.analysis.class_maps import overlaid_classes
from cnnjax.config import load_config
from cnnjax.data.augment import AugmentOptions, check_images, output_shape
from cnnjax.data.batches import fetch
from cnnjax.data.boxes import CLASS, present
from cnnjax.data.datasets import DatasetOptions, load_dataset
from cnnjax.data.displayed import displayed
from cnnjax.data.labels import label_text
from cnnjax.data.transforms import as_type, measure
from cnnjax.runs import reporter
from cnnjax.tasks.detection import Detection
from cnnjax.tasks.segmentation import Segmentation
from cnnjax.training.experiment import build, data_facts, prepared_in_training, streamed_crop
from cnnjax.training.step import training_inputs


def preview(config: ConfigDict | Mapping[str, Any] | str | Path, examples: int = 6, epochs: int = 8) -> Figure:
    """Training images as they are, and as the config's augmentation shows them in the first epochs: a matplotlib figure.

    Args:
      config: from `load_config`, or anything it takes.
      examples: how many, a row each; the first of the training split.
      epochs: how many, a column each.

    Raises:
      ValueError: the config's augmentation does not fit its images.
    """
    config = load_config(config)
    dataset = load_dataset(DatasetOptions(**config.dataset), reporter(config), folder=config.folder)
    train = dataset.splits["train"]
    options = AugmentOptions(**config.augment)
    check_images(options, dataset.image_shape, dataset.image_dtype)
    shape = output_shape(dataset.image_shape, options)
    index = np.arange(min(examples, len(train)), dtype=np.int32)
    batch = {"index": index, "image": train.images[index], "label": train.labels[index]}
    facts = data_facts(config, dataset)
    prepared = prepared_in_training(config, dataset.statistics, facts.outputs, config.seed, facts.image_dtype)
    as_they_are = lambda step: prepared(step)._replace(normalize=lambda images: images.astype(np.float32))  # noqa: E731
    task = build(config, facts).task
    inputs = jax.jit(training_inputs(task, as_they_are, config.seed, steps_per_epoch=1))
    crops = [streamed_crop(config, shape, epoch) for epoch in range(epochs)]
    seen = [inputs(fetch(train, batch, crop) if crop else batch, epoch) for epoch, crop in enumerate(crops)]
    stored = [batch["image"], *(as_type(np.asarray(one["image"]), dataset.image_dtype) for one in seen)]
    statistics = dataset.statistics or measure(batch["image"])
    shown = [displayed(images, statistics) for images in stored]
    if isinstance(task, Segmentation):
        maps = [np.asarray(one["label"]) for one in (batch, *seen)]
        shown = [[*map(overlaid_classes, *pair)] for pair in zip(shown, maps, strict=True)]
    if isinstance(task, Detection):
        labels = [np.asarray(one["label"]) for one in (batch, *seen)]
        shown = [[*map(_with_boxes, *pair)] for pair in zip(shown, labels, strict=True)]
    rows = [[images[row] for images in shown] for row in range(len(index))]
    names = [label_text(dataset, "train", position) for position in index]
    return pictures.plot_images(rows, names, ["as it is", *(f"epoch {epoch}" for epoch in range(1, epochs + 1))])


def _with_boxes(image: UInt8[np.ndarray, "height width channel"], rows: Float[np.ndarray, "object 6"]) -> np.ndarray:
    """An image with its objects' boxes, in the colours of their classes."""
    rows = rows[present(rows)]
    return drawn_boxes(image, rows[:, :4], [class_colour(int(number)) for number in rows[:, CLASS]])
