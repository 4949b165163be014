"""Segmentation: its metrics against scikit-learn's, its losses against PyTorch's, and a run through all that serves it."""

import jax
import numpy as np
import pytest
import torch
from sklearn import metrics

import cnnjax
from cnnjax.data.datasets import Split
from cnnjax.tasks import Segmentation
from cnnjax.tasks.losses import cross_entropy, dice, focal, make_criterion
from cnnjax.tasks.segmentation import class_rows, map_confusion, map_metrics
from tests.tasks.runs_alike import assert_resumes_to_the_same_bits, metrics_on

CLASSES, IGNORE = 4, 255
generator = np.random.default_rng(0)
LOGITS = generator.normal(0, 2, (6, 5, 7, CLASSES)).astype(np.float32)
LABELS = generator.integers(0, CLASSES - 1, (6, 5, 7)).astype(np.uint8)  # the last class does not occur
LABELS[generator.random(LABELS.shape) < 0.2] = IGNORE
LABELS[5] = IGNORE
COUNTED = LABELS != IGNORE


def outputs(logits):
    return lambda images, train: logits


def loss_of(task, train=True, logits=LOGITS):
    return task.loss(outputs(logits), {"image": np.zeros(0), "label": LABELS}, train)


def test_metrics_are_scikit_learns():
    predicted = LOGITS.argmax(-1)
    expected = metrics.confusion_matrix(LABELS[COUNTED], predicted[COUNTED], labels=range(CLASSES))
    _, sums = loss_of(Segmentation())
    assert sums["confusion"].shape == (6, CLASSES, CLASSES) and sums["confusion"].dtype == np.int32
    np.testing.assert_array_equal(np.asarray(sums["confusion"]).sum(0), expected)
    for own, image, labels in zip(sums["confusion"], predicted, LABELS, strict=True):
        np.testing.assert_array_equal(own, map_confusion(labels, image, CLASSES, IGNORE))
    found = Segmentation().score(LOGITS, Split(np.zeros(6), LABELS))
    label, guess = LABELS[COUNTED], predicted[COUNTED]
    assert found == pytest.approx(
        {
            "mean_iou": metrics.jaccard_score(label, guess, average="macro"),
            "pixel_accuracy": metrics.accuracy_score(label, guess),
            "mean_accuracy": metrics.recall_score(label, guess, labels=range(CLASSES - 1), average="macro"),
            "dice": metrics.f1_score(label, guess, average="macro"),
        },
        abs=1e-12,
    )
    summarized = Segmentation().summarize({"loss": 1, "count": 6, "confusion": expected})
    assert {**found, "loss": 1 / 6} == pytest.approx(summarized)


def test_classes_that_are_nowhere_are_left_out_and_pixels_without_a_class_too():
    confusion = np.zeros((3, 3), int)
    assert map_metrics(confusion) == {"mean_iou": 0, "pixel_accuracy": 0, "mean_accuracy": 0, "dice": 0}
    confusion[0, 0] = 2**25 + 1  # counts beyond float32's whole numbers
    found = map_metrics(confusion)
    assert found == {"mean_iou": 1, "pixel_accuracy": 1, "mean_accuracy": 1, "dice": 1}
    rows = class_rows(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]]), ("a", "b", "c"))
    assert rows[0] == ("a", "4", "100.00%", "0.7500", "0.8571", "1.0000", "0.7500", "b (1)")
    assert rows[1][3:7] == ("0.0000", "0.0000", "0.0000", "—") and rows[2][3:7] == ("—",) * 4


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_pixels_cross_entropy_is_pytorchs(smoothing):
    task = Segmentation(criterion=make_criterion(cross_entropy, label_smoothing=smoothing))
    values, _ = loss_of(task)
    logits, labels = torch.tensor(LOGITS).permute(0, 3, 1, 2), torch.tensor(LABELS.astype(np.int64))
    for place in range(5):
        expected = torch.nn.functional.cross_entropy(
            logits[place : place + 1], labels[place : place + 1], ignore_index=IGNORE, label_smoothing=smoothing
        )
        assert float(values[place]) == pytest.approx(float(expected), rel=1e-5)
    assert float(values[5]) == 0  # no pixel counts
    plain, _ = loss_of(task, train=False)
    assert (np.allclose(plain, values)) == (smoothing == 0)


def test_class_weights_weigh_pixels():
    weights = (0.5, 2.0, 1.0, 1.0)
    task = Segmentation(criterion=make_criterion(cross_entropy, [1] * 4, class_weights=weights))
    values, _ = loss_of(task)
    logits, labels = torch.tensor(LOGITS).permute(0, 3, 1, 2), torch.tensor(LABELS.astype(np.int64))
    each = torch.nn.functional.cross_entropy(
        logits, labels, ignore_index=IGNORE, weight=torch.tensor(weights), reduction="none"
    )
    np.testing.assert_allclose(values[:5], each.numpy().sum((1, 2))[:5] / COUNTED.sum((1, 2))[:5], rtol=1e-5)


def expected_dice(logits, labels):
    """By the definition, of one map, in double precision."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    p, counted = shifted / shifted.sum(-1, keepdims=True), labels != IGNORE
    t = np.eye(CLASSES)[np.where(counted, labels, 0)] * counted[..., None]
    p = p * counted[..., None]
    axes = (0, 1)
    return 1 - np.mean((2 * (p * t).sum(axes) + 1) / (p.sum(axes) + t.sum(axes) + 1))


def test_dice_is_its_definition_and_losses_are_added():
    targets = np.eye(CLASSES, dtype=np.float32)[np.where(COUNTED, LABELS, 0)] * COUNTED[..., None]
    np.testing.assert_allclose(dice(LOGITS, targets), [*map(expected_dice, LOGITS, LABELS)], rtol=1e-5)
    plain, _ = loss_of(Segmentation())
    whole, _ = loss_of(Segmentation(criterion=make_criterion(dice)))
    np.testing.assert_allclose(whole, dice(LOGITS, targets), rtol=1e-6)
    pixels, _ = loss_of(Segmentation(criterion=make_criterion(focal)))
    summed, _ = loss_of(Segmentation(dice=0.5, focal=3.0))
    np.testing.assert_allclose(summed, plain + 0.5 * whole + 3 * pixels, rtol=1e-5)


def test_the_gradient_of_dice_is_its_finite_difference():
    logits, labels = LOGITS[0].astype(np.float64), LABELS[0]
    targets = np.eye(CLASSES, dtype=np.float32)[np.where(COUNTED[0], labels, 0)] * COUNTED[0][..., None]
    gradient = jax.grad(lambda x: dice(x[None], targets[None]).sum())(LOGITS[0])
    for place in [(0, 0, 0), (2, 3, 1), (4, 6, 3), (1, 5, 2)]:
        step = np.zeros_like(logits)
        step[place] = 1e-5
        expected = (expected_dice(logits + step, labels) - expected_dice(logits - step, labels)) / 2e-5
        assert float(gradient[place]) == pytest.approx(expected, abs=1e-6)
    assert not np.asarray(gradient)[~COUNTED[0]].any()


# --- a run ------------------------------------------------------------------------------------------------------

NAMES = ("paper", *map(str, range(10)))
SIZES = {"train": 410, "valid": 101, "test": 103}


def digit_maps(images, digits):
    """A digit's class, counted from 1, where there is ink; the first row has no class."""
    maps = np.where(images[..., 0] > 100, digits[:, None, None] + 1, 0).astype(np.uint8)
    maps[:, 0] = IGNORE
    return maps


@pytest.fixture(scope="module")
def mapped_digits():
    splits = cnnjax.load_dataset("digits").splits
    parts = {
        name: (np.asarray(splits[name].images[:size, ::2, ::2]), splits[name].labels[:size])
        for name, size in SIZES.items()
    }
    return cnnjax.from_arrays(**{n: (x, digit_maps(x, y)) for n, (x, y) in parts.items()}, label_names=NAMES)


@pytest.fixture(scope="module")
def config(task_config):
    own = {
        "model": {"name": "tests.tasks.segmenter:Segmenter"},
        "loss": {"class_weights": "balanced"},
        "augment": {"pad": 2, "crop": (16, 16), "rotation": 10.0},
        "optimizer": {"name": "adam", "learning_rate": 0.003},
        "evaluate": {"batch_size": 64},
    }
    return task_config("segmentation") | own


@pytest.fixture(scope="module")
def segmentation_run(mapped_digits, config, tmp_path_factory):
    return cnnjax.train(config, tmp_path_factory.mktemp("tasks") / "segmentation", dataset=mapped_digits)


def test_a_run_learns_and_says_what_its_predictions_say(segmentation_run, mapped_digits):
    trained, test = segmentation_run, mapped_digits.splits["test"]
    predictions = trained.predict(list(test.images))
    assert predictions.shape == (103, 16, 16, 11)
    found = trained.task.score(predictions, test)
    assert {name: trained.metrics[f"test/{name}"] for name in found} == pytest.approx(found)
    assert found["mean_iou"] > 0.15 and found["pixel_accuracy"] > 0.5
    assert trained.facts.outputs == {"num_classes": 11} and trained.label_names == NAMES
    assert trained.metrics["valid/mean_iou"] > 0
    detailed = cnnjax.evaluate([trained], dataset=mapped_digits)
    assert {name: detailed[name] for name in found} == pytest.approx(found)


def test_counts_are_the_same_on_any_number_of_devices(segmentation_run, mapped_digits, eight_devices):
    expected = None
    for count in (1, 3, 8):
        found = metrics_on(segmentation_run, mapped_digits.splits["valid"], eight_devices[:count])
        found.pop("loss")
        assert found == (expected or found)
        expected = found


def test_a_killed_run_is_resumed_to_the_same_bits(segmentation_run, mapped_digits, tmp_path):
    assert_resumes_to_the_same_bits(segmentation_run, mapped_digits, tmp_path)


def test_auxiliary_outputs_are_weighed(mapped_digits, config, tmp_path):
    own = config | {"model": {"name": "tests.tasks.segmenter:TwoHeads"}, "train": {"batch_size": 200, "epochs": 1}}
    weighed = cnnjax.train(own, tmp_path / "run", dataset=mapped_digits)
    still = cnnjax.train(
        own | {"model": {"name": "tests.tasks.segmenter:TwoHeads", "auxiliary_weight": 0.0}},
        tmp_path / "still",
        dataset=mapped_digits,
    )
    moved = [np.abs(r.state.params["head"]["bias"]).max() for r in (weighed, still)]
    assert moved[0] > 0 and moved[1] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augment": {"mixup": 0.2}}, "augment.mixup is not for labels that are maps of class numbers"),
        ({"augment": {"cutmix": 1.0}}, "augment.cutmix is not for"),
        ({"augment": {"randaugment": (2, 9)}}, "augment.randaugment is not for"),
        ({"evaluate": {"views": "flip"}}, "evaluate.views='flip': maps are predicted of the one view"),
        ({"model": {"name": "mlp"}}, r"the network's outputs are .*, expected logits"),
        ({"task": {"name": "segmentation", "ignore": 3}}, "the maps hold 255, which is no class number of 0 to 10"),
    ],
)
def test_what_maps_cannot_follow_is_refused(mapped_digits, config, change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        cnnjax.train(config | change, tmp_path / "run", dataset=mapped_digits)
    assert not (tmp_path / "run").exists()


def test_labels_that_are_no_maps_of_the_images_are_refused(mapped_digits, config, tmp_path, digits_config):
    train = mapped_digits.splits["train"]
    for labels in (train.labels[:, :8], train.labels.astype(np.float32), train.labels[:, 0, 0]):
        data = cnnjax.from_arrays((train.images, labels))
        with pytest.raises(ValueError, match="task segmentation: expected a map of class numbers an example"):
            cnnjax.train(config, tmp_path / "run", dataset=data)
    unnamed = cnnjax.from_arrays((train.images, train.labels))
    assert Segmentation().outputs(unnamed) == {"num_classes": 11}
    negative = cnnjax.from_arrays((train.images, train.labels.astype(np.int32) - 1))
    with pytest.raises(ValueError, match="the maps hold -1, which is no class number"):
        Segmentation(ignore=254).outputs(negative)
    assert Segmentation(ignore=0).class_counts(unnamed)[0] == 0
