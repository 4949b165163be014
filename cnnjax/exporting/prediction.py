"""The prediction of a run as one function of images, which each format translates."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.datasets import DatasetOptions
from cnnjax.data.views import MIRRORED
from cnnjax.models.linen import has_field
from cnnjax.runs.run import Run, network_shape
from cnnjax.tasks.classification import Classification
from cnnjax.tasks.multilabel import MultiLabel
from cnnjax.tasks.regression import Regression
from cnnjax.tasks.segmentation import Segmentation
from cnnjax.tasks.task import Task
from cnnjax.training import run_directory
from cnnjax.training.experiment import predicted_views
from cnnjax.training.step import plain_inputs, prediction

Outputs = Literal["predictions", "logits"]


class Prediction(NamedTuple):
    """A function of the variables and a batch of images, with the shapes and names of its inputs and outputs.

    Attributes:
      function: (variables, images) -> the predictions, arrays (batch, ...).
      variables: the weights that the run predicts with.
      image_shape: the shape of an image.
      image_dtype: the type of an image's values.
      name: the name of the output, if there is a single one: "probabilities", "logits", "values" or "predictions".
    """

    function: Callable[[Mapping[str, Any], Any], Any]
    variables: Mapping[str, Any]
    image_shape: tuple[int, ...]
    image_dtype: np.dtype
    name: str


def prediction_of(run: Run, preprocessing: bool, outputs: Outputs, float32: bool) -> Prediction:
    """The prediction of a run.

    Args:
      run: the run.
      preprocessing: whether the function takes images as `run.prepare` returns them, crops and normalises them, and predicts the config's
        views; otherwise it takes the network's inputs, as `run.network_inputs` returns them.
      outputs: "predictions" are what `run.predict` returns, "logits" the network's outputs for the central view.
      float32: whether a network that was trained in bfloat16 computes in float32.
    """
    run.task.prepare()
    config, facts, task, model = run.config, run.facts, run.task, run.model
    if float32 and has_field(model, "dtype"):
        model = model.clone(dtype=jnp.float32)
    stored, statistics = tuple(run.described["image_shape"]), run_directory.read_statistics(run.described)
    name = config.evaluate.views if preprocessing and outputs == "predictions" else "one"
    if preprocessing:
        shape, dtype = stored, np.dtype(facts.image_dtype)
        views = predicted_views(config, task, statistics, facts, stored, name)
    else:
        shape, dtype = network_shape(config, stored), np.dtype(np.float32)
        views = [plain_inputs(task, lambda images: images, facts.outputs)]
    if outputs == "logits":
        task = _Network(criterion=task.criterion)
    predict = prediction(model, task, views, MIRRORED[name])
    label_shape, label_dtype = run.described.get("label_shape", ()), run.described.get("label_dtype", "int32")

    def function(variables: Mapping[str, Any], images: Any) -> Any:
        count = images.shape[0]
        batch = {
            "image": images,
            "label": jnp.zeros((count, *label_shape), label_dtype),
            "mask": jnp.ones(count),
            "index": jnp.arange(count),
        }
        return predict(variables, batch)

    return Prediction(
        function, run.selected.variables, shape, dtype, "logits" if outputs == "logits" else output_name(run.task)
    )


@dataclasses.dataclass(frozen=True)
class _Network(Task):
    """Predicts the network's outputs as they are."""

    def predict(self, net: Any, batch: Mapping[str, Any]) -> Any:
        return jax.tree.map(lambda array: array.astype(jnp.float32), net(batch["image"], False))


def output_name(task: Task) -> str:
    """What a task's predictions are, in a word."""
    if isinstance(task, Regression):
        return "values"
    return "probabilities" if isinstance(task, Classification | MultiLabel | Segmentation) else "predictions"


def preparation(run: Run) -> dict[str, Any]:
    """How images are prepared for the network, in numbers: what programs that read an exported file need to know.

    Sizes are height and width; mean and deviation are by channel, of the images after `scale`. Of what is not used the value is None.
    """
    options, statistics = DatasetOptions(**run.config.dataset), run_directory.read_statistics(run.described)
    stored = tuple(run.described["image_shape"])
    cropped = network_shape(run.config, stored)
    mean, std = options.mean, options.std
    if options.normalize == "dataset" and statistics is not None:
        mean, std = statistics.mean, statistics.std
    return {
        "color_space": options.color_space,
        "resize": options.resize,
        "resize_mode": options.resize_mode if options.resize else None,
        "crop": options.crop,
        "pad": options.pad,
        "central_crop": cropped[:-1] if cropped != stored else None,
        "scale": options.scale,
        "local_contrast": options.local_contrast or None,
        "normalize": options.normalize,
        "mean": mean,
        "std": std,
        "unit": "stored values" if options.normalize == "dataset" else "scaled values",
    }
