"""Every config trains for a few steps on synthetic data in the true format: archives as published, through TFDS's builders."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from tensorflow_datasets.image_classification import mnist

import cnnjax
from cnnjax import layers
from cnnjax.config import shipped_configs
from cnnjax.data import roads, scenes
from cnnjax.data.builders import elpv
from cnnjax.data.datasets import DatasetOptions
from cnnjax.models import googlenet, ssd, vgg
from tests.data import archives
from tests.data.test_box_folders import publish_coco

# What is cut down so that it takes seconds: batches, epochs and, for batches so small, the rate; and below the largest networks, of
# which test_each_trains.py has each kind of block.
SMALL = {
    "train.batch_size": 2,
    "train.epochs": 1,
    "optimizer.learning_rate": 1e-4,
    "log.progress": "off",
    "log.tensorboard": False,
    "devices": 1,
}
SPLITS = {
    "cifar10": {"dataset.train_split": "train[:6]", "dataset.valid_split": "train[6:10]"},
    "imagenet2012": {"dataset.train_split": "train[:6]", "dataset.valid_split": "train[6:10]"},
    "tf_flowers": {"dataset.examples_per_class": 1, "dataset.train_split": "train", "dataset.valid_split": "train[:4]",
                   "dataset.test_split": "train[4:8]"},
}  # fmt: skip
# Smaller images, and fewer blocks and maps, which saves a minute each.
TINY = {
    name: {
        "augment.crop": (64, 64),
        "evaluate.crop": (96, 96),
        **({} if "convnext" in name else {"model.features": 8, "model.stages": (1, 1)}),
    }
    for name in shipped_configs()
    if name.startswith(("imagenet_resnet50", "imagenet_convnext"))
}
TINY |= {
    "cifar10_resnet18": {"model.stages": (1, 1, 1, 1)},
    "cifar10_resnet56": {"model.stages": (1, 1, 1)},
    "fashion_mnist_resnet18": {"model.stages": (1, 1, 1, 1)},
    "imagenet_alexnet": {"augment.crop": (67, 67)},
    "imagenet_vgg16": {"augment.crop": (64, 64)},
}
# torchvision's detectors on a small encoder of drawn weights, and small images.
DETECTOR = {
    "model.encoder": "cnn_8_16_32",
    "model.encoder_maps": 2,
    "model.features": 8,
    "model.max_detections": 10,
    "dataset.resize": (64, 64),
    "initial.weights": None,
    "initial.frozen": ("encoder/conv1*",),
}
PROPOSALS = {"model.hidden": 8, "model.candidates": (20, 20), "model.proposals": (20, 20), "model.samples": 20}
TINY["digit_scenes_faster_rcnn"] = {
    "model.encoder": "cnn_8_16_32",
    "model.encoder_options": (),
    "model.encoder_maps": 2,
}
SLOW = ("airbench", "coco_", "imagenet", "vgg", "resnet18", "resnet56", "elpv", "my_photos", "scenes_")


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    """A folder with every set's tiny archives, and caches of its own."""
    folder = tmp_path_factory.mktemp("manual")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNJAX_CACHE_DIR", str(folder / "cache"))
        patch.setenv("TFDS_DATA_DIR", str(folder / "tensorflow_datasets"))
        patch.setattr(mnist, "_TRAIN_EXAMPLES", 200)
        patch.setattr(mnist, "_TEST_EXAMPLES", 50)
        few = {"train": 12, "validation": 4, "test": 4}
        read_cells = elpv.read_cells
        patch.setattr(elpv, "read_cells", lambda: read_cells()[::30])
        patch.setattr(roads, "EXAMPLES", few)
        patch.setattr(scenes, "KINDS", {n: dataclasses.replace(k, scenes=few) for n, k in scenes.KINDS.items()})
        generator = np.random.RandomState(0)
        for name, make in (
            ("cifar10", archives.cifar10),
            ("tf_flowers", archives.tf_flowers),
            ("visual_domain_decathlon/gtsrb", archives.gtsrb),
            ("imagenet2012", archives.imagenet2012),
            # in this order: the one builder inherits from the other
            ("fashion_mnist", lambda folder, generator: archives.mnist(folder, generator, {"train": 200, "test": 50})),
            ("mnist", lambda folder, generator: archives.mnist(folder, generator, {"train": 200, "test": 50})),
        ):
            path = folder / name.split("/")[0]
            path.mkdir()
            make(path, generator)
            if name != "imagenet2012":  # put there by hand: TFDS checks nothing
                archives.register(patch, name.split("/")[0], path)
        publish_coco(folder / "coco")
        for name in ("rose", "tulip"):
            (folder / "photos" / name).mkdir(parents=True)
            for index in range(5):
                pixels = generator.randint(0, 256, (150, 200, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "photos" / name / f"{index}.jpg")
        yield folder


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if any(word in name for word in SLOW) else name
        for name in shipped_configs()
    ],
)
def test_a_config_trains_and_predicts(name, manual, tmp_path, monkeypatch):
    if name == "imagenet_googlenet":
        monkeypatch.setattr(googlenet, "INCEPTIONS", {"4a": (4, 4, 4, 4, 4, 4)})
    dense = layers.Dense  # AlexNet's and VGG's hidden ones have up to a hundred million parameters
    monkeypatch.setattr(layers, "Dense", lambda features, *a, **o: dense(16 if features > 1000 else features, *a, **o))
    folder = {"my_photos": "photos"}.get(name, "coco" if name.startswith("coco_") else None)
    source = f"{name}:{manual / folder}" if folder else name
    config = cnnjax.load_config(source, SMALL)
    data = config.dataset.name
    overrides = SMALL | SPLITS.get(data, {}) | TINY.get(name, {})
    if folder == "coco":
        if "ssd300" in name:  # whose images are as they are
            monkeypatch.setattr(vgg, "FEATURES", (4, 4, 8, 8, 8))
            monkeypatch.setattr(ssd, "FURTHER", tuple((4, 8, *rest) for _, _, *rest in ssd.FURTHER))
            overrides |= {"model.candidates": 20, "model.max_detections": 10, "initial.weights": None}
        else:
            overrides |= DETECTOR | (PROPOSALS if "rcnn" in name else {"model.candidates": 20, "model.head_depth": 1})
    if data not in ("digits", "digit_scenes", "digit_scenes_128", "roads") and source == name:
        folder = {"gtsrb": "visual_domain_decathlon", "fashion_scenes": "fashion_mnist"}.get(data, data)
        overrides |= {"dataset.manual_dir": str(manual / folder)}
    if data in ("mnist", "fashion_mnist"):
        overrides |= {"train.batch_size": 60}
    if config.schedule.get("warmup_epochs", 0) >= SMALL["train.epochs"]:
        overrides |= {"schedule.warmup_epochs": 0.5}
    config = cnnjax.load_config(source, overrides)
    run = cnnjax.train(config, tmp_path / "run")
    losses = [line["train/loss"] for line in run.history if "train/loss" in line]
    assert len(losses) == 1 and np.isfinite(losses).all() and run.metrics[f"test/{run.task.monitor}"] >= 0
    test = cnnjax.load_dataset(DatasetOptions(**config.dataset)).splits["test"]
    if config.task.name == "detection":
        assert run.predict_prepared(test.images[:2]).boxes.shape == (2, config.model.max_detections, 4)
        return
    probabilities = run.predict_prepared(test.images[:2])
    assert probabilities.shape[:: probabilities.ndim - 1] == (min(2, len(test)), len(run.label_names))
    if config.task.name != "regression":
        assert run.metrics[f"test/{run.task.monitor}"] <= 1
        np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-3)
