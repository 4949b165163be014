"""Imports the weights of a network of torchvision or Keras as a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from cnnjax.config import load_config, to_json
from cnnjax.core import files
from cnnjax.core.options import declared
from cnnjax.data import transforms
from cnnjax.data.catalogue import imagenet_label_names
from cnnjax.data.datasets import DatasetOptions
from cnnjax.models import MODELS
from cnnjax.runs.loading import load_run
from cnnjax.runs.run import Run, network_shape
from cnnjax.training import run_directory
from cnnjax.training.checkpoints import CheckpointOptions, Checkpoints
from cnnjax.training.experiment import (
    DataFacts,
    build,
    state_shapes,
)
from cnnjax.training.parallel import choose_devices
from cnnjax.training.state import start_from
from cnnjax.transfer import keras, published_weights
from cnnjax.transfer.torchvision import NETWORKS, load_torchvision


def import_weights(
    source: str | Path | Mapping[str, Any],
    model: str,
    workdir: str | Path,
    label_names: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Run:
    """Makes a run from the weights of a network of torchvision or Keras, with their preprocessing for ImageNet.

    The run can be used by `evaluate`, `predict` and transfer learning like any other run. Its preprocessing is that of
    the weights that are named, or of the network's first ones for a file: for most networks the shorter side is resized to 256
    pixels, the central 224 x 224 pixels are cropped, and ImageNet's mean and standard deviation are applied per channel (for
    GoogLeNet 0.5 and 0.5). `overrides` can change this. Images are resized with bilinear interpolation, also for EfficientNet,
    most of whose weights torchvision uses with bicubic interpolation.

    Keras's weights (a file whose name ends with .h5) are taken for published ones: the shorter side is resized to 8/7 of the network's
    published size, which is cropped, and pixels are normalised as `preprocess_input` does it. Where that gives blue first (VGG and ResNet),
    the first convolution's input channels are reversed, so that the run takes RGB.

    Args:
      source: a weight file, "torchvision", or a state dict, as accepted by `load_torchvision` or `load_keras`.
      model: the name of the network in torchvision, such as "resnet50", or, for a file of Keras's, there: "ResNet50".
      workdir: a directory that does not hold a run yet.
      label_names: the names of the classes, in order; None means ImageNet's names for 1000 classes, else "class 0", ...
      overrides: config fields to override, such as {"dataset.resize": (232, 232)} for a file of weights with other preprocessing, or
        {"dataset.name": "photos/"} for other evaluation data.

    Raises:
      ValueError: the weights do not fit, the number of label names is wrong, or the directory is not empty.
    """
    workdir = Path(workdir).expanduser()
    load = _from_keras if keras.is_keras_file(source) else _from_torchvision
    name, network, variables, preprocessing = load(model, source)
    if label_names is None:
        classes = range(network.num_classes)
        label_names = imagenet_label_names() if len(classes) == 1000 else [f"class {index}" for index in classes]
    if len(label_names) != network.num_classes:
        raise ValueError(
            f"{len(label_names)} label names were given, but the weights have {network.num_classes} classes"
        )
    options = {key: getattr(network, key) for key in declared(MODELS[name].build)}
    config = load_config(
        {
            "dataset": {"name": "imagenet2012", "normalize": "fixed", **preprocessing},
            "model": {"name": name, **options},
            "optimizer": {"momentum": 0.0},  # nothing is trained: no momentum to store
        },
        overrides,
    )
    dataset = config.dataset
    size = dataset.pad or dataset.crop or dataset.resize
    if config.model.name != name or size is None or dataset.normalize == "dataset":
        raise ValueError(
            "imported weights: the weight file determines the config's model; dataset.resize or dataset.crop must be set, and "
            "dataset.normalize cannot be 'dataset', because there is no training split"
        )
    channels = 1 if dataset.color_space == "grey" else 3
    transforms.check_images(DatasetOptions(**dataset), (*size, channels), "uint8")
    counts = [config.train.batch_size] * network.num_classes
    experiment = build(config, DataFacts({"num_classes": network.num_classes}, sum(counts), counts))
    state_shapes(experiment, network_shape(config, (*size, channels)))  # raises an error for images that are too small
    state = jax.device_get(start_from(variables["params"], variables.get("batch_stats", {}), experiment.optimizer))
    with run_directory.in_use(workdir):
        if run_directory.is_run(workdir) or run_directory.foreign_files(workdir):
            raise ValueError(f"{workdir} is not empty: choose another --workdir")
        with Checkpoints(workdir / run_directory.CHECKPOINTS, CheckpointOptions(**config.checkpoint)) as checkpoints:
            checkpoints.save(state, {"sums": None}, None)
        run_directory.write_environment(workdir, choose_devices(None), {}, {})
        description = run_directory.describe_import(model, source, label_names, (*size, channels))
        files.write_json(workdir / run_directory.DATASET, description)
        files.write_json(
            workdir / run_directory.CONFIG, to_json(config)
        )  # written last, since this file makes the directory a run
    return load_run(workdir)


def _from_torchvision(model: str, source: Any) -> tuple[str, nn.Module, dict[str, Any], dict[str, Any]]:
    """Our name of the network, the network, its variables, and the preprocessing of its images, as fields of `dataset`."""
    if model in NETWORKS and MODELS[NETWORKS[model]].task != "classification":
        raise ValueError(
            f"{model} is a network for {MODELS[NETWORKS[model]].task}, and a run is made of networks for classification: use "
            "cnnjax.load_torchvision, or train with initial.weights"
        )
    network, variables = load_torchvision(model, source)
    published = published_weights.find(model, str(source)) if isinstance(source, str | Path) else None
    theirs = published or published_weights.find(model, published_weights.PREFIX)
    sizes = {"resize": (theirs.resize,) * 2, "crop": (theirs.crop,) * 2}
    return NETWORKS[model], network, variables, {**sizes, "mean": theirs.mean, "std": theirs.std}


def _from_keras(model: str, source: str | Path) -> tuple[str, nn.Module, dict[str, Any], dict[str, Any]]:
    """The same for a file of Keras's."""
    equal = MODELS[keras.NETWORKS[model]].keras if model in keras.NETWORKS else None
    network, variables = keras.load_keras(model, source, reverse_channels=bool(equal and equal.bgr))
    if not network.num_classes:
        raise ValueError(
            f"{source} has no output layer (include_top=False): load it with cnnjax.load_keras, or train with initial.weights"
        )
    size = MODELS[keras.NETWORKS[model]].image_shape[0]
    sizes = {"resize": (round(size * 8 / 7),) * 2, "crop": (size,) * 2}
    return keras.NETWORKS[model], network, variables, {**sizes, "mean": equal.mean, "std": equal.std}
