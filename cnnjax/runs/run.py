"""A trained run: its config, model, state and history, and its predictions for images."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, Shaped
from ml_collections import ConfigDict
from PIL import Image

from cnnjax.core.options import unknown
from cnnjax.core.terminal import say
from cnnjax.data import fitting, transforms
from cnnjax.data.augment import AugmentOptions, output_shape
from cnnjax.data.datasets import DatasetOptions, Split
from cnnjax.data.fitting import Fitted, Resize
from cnnjax.data.views import central_view
from cnnjax.runs import card
from cnnjax.tasks.task import Task
from cnnjax.training import evaluation, processes, run_directory
from cnnjax.training.experiment import (
    DataFacts,
    predicting_step,
    prepared_views,
)
from cnnjax.training.parallel import choose_devices, program_over_devices, replicate
from cnnjax.training.state import State
from cnnjax.training.step import (
    evaluation_inputs,
    evaluation_step,
    feature_step,
    layer_input,
    layer_output,
)
from cnnjax.transfer.initial import layer_order

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run, loaded from its directory.

    Attributes:
      workdir: the run directory.
      config: the resolved config.
      model: the network; `model.apply(state.variables, images)` returns its outputs.
      task: the task, with the config's loss.
      state: the state at the end of training.
      history: the lines of `metrics.jsonl`.
      selected: the state used for prediction and testing, from the checkpoint that `evaluate.checkpoint` selects.
      described: the contents of `dataset.json`.
    """

    workdir: Path
    config: ConfigDict
    model: nn.Module
    task: Task = dataclasses.field(repr=False)
    state: State
    history: list[dict[str, Any]]
    selected: State = dataclasses.field(repr=False)
    described: Mapping[str, Any] = dataclasses.field(repr=False)

    def __repr__(self) -> str:
        return card.run_line(self)

    def _repr_html_(self) -> str:
        return card.run_card(self)

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric: metrics["test/accuracy"]."""
        latest: dict[str, float] = {}
        for line in self.history:
            latest |= line
        return latest

    @property
    def probabilities(self) -> Callable[[jax.Array], jax.Array]:
        """The function from logits to class probabilities, for a classification."""
        return self.task.criterion.probabilities

    @property
    def facts(self) -> DataFacts:
        """The facts about the data for which the network and the loss were built."""
        return stored_facts(self.config, self.described)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return tuple(self.described["label_names"])

    @cached_property
    def _prediction(self) -> tuple[Any, Any, list[jax.Device]]:
        """The compiled step of predictions, the variables on the devices, and these."""
        devices = choose_devices(None)  # all devices, which may differ from those of the training
        self.task.prepare()
        statistics, shape = run_directory.read_statistics(self.described), tuple(self.described["image_shape"])
        step = predicting_step(self.config, self.model, self.task, statistics, self.facts, shape)
        compiled = program_over_devices(step, self.config.train.ops, devices, self.config.train.parallel)
        return compiled, replicate(self.selected.variables, devices), devices

    @property
    def normalize(self) -> Callable[[jax.Array], jax.Array]:
        """The differentiable function from prepared images of any size to normalised ones."""
        statistics = run_directory.read_statistics(self.described)
        options = DatasetOptions(**self.config.dataset)
        return partial(transforms.normalize, options=options, statistics=statistics, dtype=self.facts.image_dtype)

    @property
    def _image_dtype(self) -> np.dtype:
        """The type of stored images."""
        return np.dtype(self.facts.image_dtype)

    @property
    def spatial_axes(self) -> int:
        """The number of spatial axes: 1 for signals, 2 for images, 3 for volumes."""
        return len(self.described["image_shape"]) - 1

    @property
    def inputs(self) -> Callable[[jax.Array], jax.Array]:
        """The differentiable function from prepared images to the network input: the central crop, normalised."""
        return central_view(self._crop, self.normalize)

    @property
    def _crop(self) -> tuple[int, ...] | None:
        return evaluation.evaluation_crop(self.config)

    def fit(
        self,
        image: Shaped[np.ndarray, "*spatial_channel"] | Image.Image,
        name: str = "image",
        resize: Resize = "auto",
    ) -> Fitted:
        """Prepares an image like the training images, with remarks on changes that training does not make; see `fitting.fit`.

        Args:
          image: a Pillow image, or an array with or without a channel axis. An 8-bit array with 1, 3 or 4 channels is treated
            as a photograph.
          name: the image's name in messages.
          resize: "auto", or "refuse" to raise ValueError instead of changing the size in a way that training does not.

        Raises:
          ValueError: the image is of another kind than the training images, or `resize` is "refuse" and its size does not fit.
        """
        shape, options = tuple(self.described["image_shape"]), DatasetOptions(**self.config.dataset)
        statistics, decoded = run_directory.read_statistics(self.described), self.decoded(image, name)
        return fitting.fit(decoded, name, options, shape, statistics, resize, self._image_dtype.name)

    def decoded(
        self, image: Shaped[np.ndarray, "*spatial_channel"] | Image.Image, name: str = "image"
    ) -> transforms.Decoded:
        """One image in the training's type where Python's and NumPy's usual types stand for it; arguments as in `fit`."""
        given = image if isinstance(image, Image.Image) else np.asarray(image)
        decoded = transforms.decode(given, name, self.spatial_axes)
        if isinstance(decoded, np.ndarray) and DatasetOptions(**self.config.dataset).depth is None:
            decoded = fitting.in_type(decoded, self._image_dtype)
        if isinstance(decoded, np.ndarray) and self.described["image_shape"][-1] in (1, 3, 4):
            decoded = transforms.as_picture(decoded)
        return decoded

    def prepare(
        self,
        image: Shaped[np.ndarray, "*spatial_channel"] | Image.Image,
        name: str = "image",
        resize: Resize = "auto",
    ) -> Shaped[np.ndarray, "*spatial channel"]:
        """Prepares an image like the training images: colour space, size, padding. Arguments as in `fit`.

        Changes that training does not make, such as resizing without `dataset.resize`, are logged as warnings.

        Raises:
          ValueError: the image is of another kind than the training images, or `resize` is "refuse" and its size does not fit.
        """
        fitted = self.fit(image, name, resize)
        _warn([(name, fitted.remarks)])
        return fitted.pixels

    def prepare_all(
        self, images: Sequence[Any] | np.ndarray, resize: Resize = "auto"
    ) -> Shaped[np.ndarray, "image *spatial channel"]:
        """Prepares several images as `prepare` does, as one array; each warning is logged once, with the number of images.

        Args:
          images: several images, or one image as an array, recognised by its number of axes.
          resize: the treatment of other sizes, as in `fit`.

        Raises:
          ValueError: as in `prepare`; the message names the image.
        """
        if isinstance(images, np.ndarray | jax.Array):
            images = self.examples_of(np.asarray(images))[0]
            if self._is_prepared(images):
                return images
        names = [f"image {index}" for index in range(len(images))]
        fitted = [self.fit(image, name, resize) for name, image in zip(names, images, strict=True)]
        _warn([(name, one.remarks) for name, one in zip(names, fitted, strict=True)])
        return np.stack([one.pixels for one in fitted])

    def predict(self, images: Sequence[Any] | np.ndarray, resize: Resize = "auto") -> Any:
        """The predictions (image, ...) for images, which are prepared like the training images.

        A classification predicts class probabilities, a multi-label classification a separate probability for each class, a
        regression numbers.

        Args:
          images: arrays with or without a channel axis, or Pillow images, of the same kind as the training images; or a single
            array that holds several images or one.
          resize: "auto" adapts images of another size and logs that; "refuse" raises ValueError.

        Raises:
          ValueError: an image is of another kind or size; the message names it.
        """
        if not len(images):
            one = np.zeros((1, *self.described["image_shape"]), self._image_dtype)
            return jax.tree.map(lambda array: array[:0], self.predict_prepared(one))
        return self.predict_prepared(self.prepare_all(images, resize))

    def examples_of(self, array: Shaped[np.ndarray, "..."], name: str = "images") -> tuple[np.ndarray, bool]:
        """An array as a batch of images, and whether it was a batch already: a single image has one axis less.

        Raises:
          ValueError: the array has other axes; the message has `name`.
        """
        return fitting.examples_of(array, name, tuple(self.described["image_shape"]))

    def _is_prepared(self, images: Shaped[np.ndarray, "image ..."]) -> bool:
        """Whether images already have the type and shape of the training images and are finite, so that they need no preparation."""
        options, expected = DatasetOptions(**self.config.dataset), tuple(self.described["image_shape"])
        if self._image_dtype == np.uint8 or images.dtype != self._image_dtype or images.shape[1:] != expected:
            return False
        if options.resize or options.crop or options.pad or options.color_space or options.depth:
            return False
        return all(np.isfinite(block).all() for _, block in transforms.in_blocks(images))

    def predict_prepared(self, pixels: Shaped[np.ndarray, "image *spatial channel"]) -> Any:
        """The predictions for prepared images: those of a split, or results of `prepare`."""
        compiled, variables, devices = self._prediction
        size = self.config.evaluate.batch_size
        return evaluation.predict(compiled, variables, self._unlabelled(pixels), size, devices)

    def predict_by_batch(
        self, pixels: Shaped[np.ndarray, "image *spatial channel"], batch_size: int | None = None
    ) -> Iterator[Any]:
        """The predictions for each batch of prepared images, in order, of which only a few are in memory.

        Args:
          pixels: the images of a split, or results of `prepare`.
          batch_size: the number of images in a batch; None is `evaluate.batch_size`.
        """
        compiled, variables, devices = self._prediction
        size = batch_size or self.config.evaluate.batch_size
        return evaluation.predict_by_batch(compiled, variables, self._unlabelled(pixels), size, devices)

    def _unlabelled(self, pixels: np.ndarray) -> Split:
        """Images with placeholder labels of the right shape."""
        shape, dtype = self.described.get("label_shape", ()), self.described.get("label_dtype", "int32")
        return Split(pixels, np.zeros((len(pixels), *shape), dtype))

    def measure(self, split: Split) -> dict[str, float]:
        """The task's metrics of a split, including the config's loss, for the central view of each image."""
        return evaluation.checked_metrics(self.task.summarize(self.sums(split)), self.task)

    def sums(self, split: Split) -> dict[str, Any]:
        """The sums of the task's loss over a split, for the central view of each image: what `Task.summarize` takes."""
        devices = choose_devices(None)
        self.task.prepare()
        statistics, shape = run_directory.read_statistics(self.described), tuple(self.described["image_shape"])
        [central] = prepared_views(self.config, statistics, self.facts.outputs, shape, "one", self.facts.image_dtype)
        inputs = evaluation_inputs(self.task, central, self.config.seed)
        step = evaluation_step(self.model, self.task, inputs)
        compiled = program_over_devices(step, self.config.train.ops, devices, self.config.train.parallel)
        variables = replicate(self.selected.variables, devices)
        return evaluation.evaluate(compiled, variables, split, self.config.evaluate.batch_size, devices)

    def network_inputs(
        self, pixels: Shaped[np.ndarray, "image *spatial channel"]
    ) -> Float[np.ndarray, "image *spatial channel"]:
        """The network inputs for prepared images: their central crop, normalised.

        Args:
          pixels: the images of a split, or results of `prepare`.

        Raises:
          ValueError: the images have another type or size, or there are none.
        """
        return np.asarray(self._compiled_inputs(self._checked(pixels)))

    def _checked(self, pixels: Any) -> np.ndarray:
        """Checks the type and shape of prepared images and returns them; raises ValueError if they differ from training."""
        expected, kind = tuple(self.described["image_shape"]), self._image_dtype
        if getattr(pixels, "dtype", None) != kind or not len(pixels) or pixels.shape[1:] != expected:
            shape = getattr(pixels, "shape", "no array")
            raise ValueError(
                f"images of shape {shape}: expected at least one prepared image, {kind} of shape "
                f"(images, {', '.join(map(str, expected))}), such as run.prepare returns"
            )
        return pixels

    @cached_property
    def _compiled_inputs(self) -> Callable[[np.ndarray], jax.Array]:
        return jax.jit(self.inputs)

    def features(
        self, images: Sequence[Any] | np.ndarray, layer: str | None = None
    ) -> Float[np.ndarray, "image *shape"]:
        """The output of a layer for each image, before a subsequent activation function, for training or comparison.

        Args:
          images: the images, as for `predict`; the central crop is used.
          layer: the path of the layer, such as "fc7" or "conv4_1/bn2"; None is the input of the last layer, one vector for each image
            (`vectors`).

        Raises:
          ValueError: there is no such layer, or an image does not fit.
        """
        if layer is not None:
            self.check_layer(layer)
        if not len(images):
            raise ValueError("features: no images were given")
        pixels = self.prepare_all(images)
        return self.vectors(pixels) if layer is None else self._reader(layer_output(self.model, layer))(pixels)

    def vectors(
        self, pixels: Shaped[np.ndarray, "image *spatial channel"], layer: str | None = None
    ) -> Float[np.ndarray, "image feature"]:
        """One feature vector for each prepared image: those of a split, or results of `prepare`.

        Args:
          pixels: the prepared images; the central crop is used.
          layer: the layer whose output is used, feature maps averaged over positions; None is the input of the last layer.

        Raises:
          ValueError: there is no such layer.
        """
        if layer is not None:
            self.check_layer(layer)
        return self._vectors(layer)(pixels)

    @cached_property
    def _vectors(self) -> Callable[[str | None], Callable[[np.ndarray], np.ndarray]]:
        def of(layer: str | None) -> Callable[[np.ndarray], np.ndarray]:
            read = layer_input(self.model, self.layers[-1]) if layer is None else layer_output(self.model, layer)
            return self._reader(lambda variables, images: mean_over_positions(read(variables, images)))

        return functools.cache(of)  # each layer's program is compiled once

    @cached_property
    def layers(self) -> list[str]:
        """The paths of the layers that have parameters, in the order of the forward pass."""
        shape = network_shape(self.config, self.described["image_shape"])
        return layer_order(self.model, jax.ShapeDtypeStruct((1, *shape), np.float32))

    def check_layer(self, layer: str) -> None:
        """Raises ValueError, with the nearest names, if the network has no such layer."""
        if layer not in self.layers:
            raise ValueError(unknown("layer", layer, self.layers))

    def _reader(self, read: Callable[[Mapping[str, Any], jax.Array], jax.Array]) -> Callable[[np.ndarray], np.ndarray]:
        """A function from prepared images to the features that `read` returns for each."""
        devices = choose_devices(None)
        compiled = program_over_devices(
            feature_step(read, self.inputs), self.config.train.ops, devices, self.config.train.parallel
        )
        variables = replicate(self.selected.variables, devices)
        size = self.config.evaluate.batch_size
        return lambda pixels: evaluation.predict(compiled, variables, self._unlabelled(pixels), size, devices)


def _warn(remarks: Sequence[tuple[str, Sequence[str]]]) -> None:
    for line in fitting.summarize(remarks):
        logger.warning(line)


def mean_over_positions(features: Float[jax.Array, "image *position feature"]) -> Float[jax.Array, "image feature"]:
    """Averages feature maps over positions (global average pooling), in float32; vectors are unchanged."""
    return features.astype(np.float32).mean(range(1, features.ndim - 1))


def network_shape(config: ConfigDict, image_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of the network input in evaluation for a prepared image: cropped, if the config has a crop."""
    options = AugmentOptions(**config.augment)
    return output_shape(tuple(image_shape), dataclasses.replace(options, crop=evaluation.evaluation_crop(config)))


def stored_facts(config: ConfigDict, described: Mapping[str, Any]) -> DataFacts:
    """The facts about the data of a run, from its `dataset.json`; imported weights, without a training split, get placeholders."""
    outputs = described.get("outputs", {"num_classes": len(described["label_names"])})  # an older run has none
    classes = len(described["label_names"]) or outputs.get("num_classes", 0)
    counts = described["class_counts"] or ([1] * classes if classes else None)
    examples = described["examples"].get("train", config.train.batch_size)
    # Runs of version 0.1.0 do not record the type, which was always uint8.
    return DataFacts(outputs, examples, counts, described.get("image_dtype", "uint8"))


def reporter(config: ConfigDict) -> Any:
    quiet = config.log.progress == "off" or not processes.is_first()
    return (lambda line: None) if quiet else say
