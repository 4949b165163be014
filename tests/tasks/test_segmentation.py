"""Segmentation: its metrics against scikit-learn's, its losses against PyTorch's, and a run through all that serves it."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

import cnnjax
from cnnjax import runs
from cnnjax.analysis import attribution
from cnnjax.analysis.networks import class_logits
from cnnjax.data import transforms
from cnnjax.data.datasets import DatasetOptions, Split
from cnnjax.report.exploration import explore
from cnnjax.report.exploration_page import tables
from cnnjax.report.report import write_report
from cnnjax.runs import predict_map
from cnnjax.runs.training import initial_variables
from cnnjax.tasks import Segmentation
from cnnjax.tasks.losses import cross_entropy, dice, focal, make_criterion
from cnnjax.tasks.segmentation import class_rows, map_confusion, map_metrics
from cnnjax.training import evaluation, run_directory
from cnnjax.training.experiment import build, data_facts
from cnnjax.training.program import compile_program
from tests.commands.shell import run
from tests.tasks.runs_alike import (
    assert_compiled_in_the_first_epoch,
    assert_resumes_to_the_same_bits,
    metrics_on,
)
from tests.tasks.segmenter import RADIUS

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
    torch = pytest.importorskip("torch")
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
    torch = pytest.importorskip("torch")
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


@pytest.mark.slow
def test_nothing_is_compiled_after_the_first_epoch(mapped_digits, config, tmp_path):
    """Each epoch evaluates 101 images, in batches of 64: the second one is partial."""
    fields = config | {"train": {"batch_size": 10, "epochs": 3}, "log": config["log"] | {"every_steps": 1}}
    assert_compiled_in_the_first_epoch(partial(cnnjax.train, fields, tmp_path / "run", dataset=mapped_digits))


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


def test_an_ensemble_is_scored_batch_by_batch_as_its_averaged_predictions_would_be(
    segmentation_run, mapped_digits, monkeypatch
):
    other = dataclasses.replace(
        segmentation_run,
        selected=segmentation_run.selected.replace(
            params=jax.tree.map(lambda w: 0.5 * w, segmentation_run.selected.params)
        ),
    )
    both, test = [segmentation_run, other], mapped_digits.splits["test"]
    whole, labels = runs.predict_split(both, dataset=mapped_digits)
    one, two = (np.asarray(run.predict_prepared(test.images), np.float64) for run in both)
    np.testing.assert_array_equal(whole, (one + two) / 2)
    expected, task = map_confusion(labels, whole.argmax(-1), 11, IGNORE), segmentation_run.task
    assert task.score(whole, test) == map_metrics(expected) != task.score(one, test)
    # From here on no predictions of a whole split can be had.
    monkeypatch.setattr(evaluation, "predict", None)
    found, details = runs.judge_split(both, dataset=mapped_digits, details=True)
    assert found == map_metrics(expected)
    assert details.rows == class_rows(expected, NAMES) and details.sentences == [f"{expected.sum():,} pixels"]
    found, details = runs.judge_split([other], dataset=mapped_digits, details=True)
    assert found == other.measure(test)
    assert details.rows == class_rows(map_confusion(labels, two.argmax(-1), 11, IGNORE), NAMES)
    batches = [len(batch) for batch in other.predict_by_batch(test.images, 40)]
    assert batches == [40, 40, 23]


def test_a_mirror_images_map_is_mirrored_back_and_averaged(segmentation_run, mapped_digits):
    config = cnnjax.load_config(segmentation_run.config, {"evaluate.views": "flip"})
    both, test = dataclasses.replace(segmentation_run, config=config), mapped_digits.splits["test"]
    one, mirrored = (segmentation_run.predict_prepared(x) for x in (test.images, test.images[:, :, ::-1]))
    found = both.predict_prepared(test.images)
    np.testing.assert_allclose(found, (one + mirrored[:, :, ::-1]) / 2, atol=1e-6)
    judged, details = runs.judge_split([both], dataset=mapped_digits, details=True)
    confusion = map_confusion(test.labels, found.argmax(-1), 11, IGNORE)
    assert details.rows == class_rows(confusion, NAMES) and judged["loss"] == segmentation_run.measure(test)["loss"]
    assert judged["mean_iou"] == map_metrics(confusion)["mean_iou"] != segmentation_run.measure(test)["mean_iou"]


def test_counts_are_the_same_on_any_number_of_devices(segmentation_run, mapped_digits, eight_devices):
    expected = None
    for count in (1, 3, 8):
        found = metrics_on(segmentation_run, mapped_digits.splits["valid"], eight_devices[:count])
        found.pop("loss")
        assert found == (expected or found)
        expected = found


def test_a_killed_run_is_resumed_to_the_same_bits(segmentation_run, mapped_digits, tmp_path):
    assert_resumes_to_the_same_bits(segmentation_run, mapped_digits, tmp_path)


def test_auxiliary_outputs_have_the_loss_of_outputs():
    """The training step weighs it by the network's `auxiliary_weight`."""
    task = Segmentation(dice=1.0)
    np.testing.assert_allclose(task.auxiliary_loss(LOGITS, {"label": LABELS}), loss_of(task)[0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"the network's outputs are \(6, 5, 6, 4\), expected logits"):
        task.auxiliary_loss(LOGITS[:, :, :6], {"label": LABELS})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augment": {"mixup": 0.2}}, "augment.mixup cannot be applied to labels that are maps of class numbers"),
        ({"augment": {"cutmix": 1.0}}, "augment.cutmix cannot be applied"),
        ({"augment": {"randaugment": (2, 9)}}, "augment.randaugment cannot be applied"),
        (
            {"evaluate": {"views": "ten"}},
            "evaluate.views='ten': the views of a segmentation are the image and its mirror",
        ),
        ({"model": {"name": "mlp"}}, r"the network's outputs are .*, expected logits"),
        ({"loss": {"class_weights": (1.0, 2.0)}}, "loss.class_weights has 2 values and the data set 11 classes"),
        (
            {"task": {"name": "segmentation", "ignore": 3}},
            "the maps contain 255, which is neither a class number of 0 to 10",
        ),
    ],
)
def test_what_maps_cannot_follow_is_refused(mapped_digits, config, change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        cnnjax.train(config | change, tmp_path / "run", dataset=mapped_digits)
    assert not (tmp_path / "run").exists()


def test_the_number_without_a_class_fits_the_padding_and_the_classes():
    with pytest.raises(ValueError, match=r"task.ignore=0: dataset.pad pads maps with 255"):
        Segmentation(ignore=0).check_config(cnnjax.load_config({"dataset": {"pad": (40, 40)}}))
    maps = np.arange(300, dtype=np.int32).reshape(1, 20, 15)
    split = np.zeros((1, 20, 15, 1), np.uint8), maps
    data = cnnjax.from_arrays(train=split, valid=split, test=split)
    with pytest.raises(ValueError, match=r"has 300 classes, and task.ignore=255 is one of them: set task.ignore=-1"):
        Segmentation().outputs(data)
    assert Segmentation(ignore=-1).outputs(data)["num_classes"] == 300


def test_labels_that_are_no_maps_of_the_images_are_refused(mapped_digits, config, tmp_path, digits_config):
    train = mapped_digits.splits["train"]
    for labels in (train.labels[:, :8], train.labels.astype(np.float32), train.labels[:, 0, 0]):
        data = cnnjax.from_arrays((train.images, labels))
        with pytest.raises(ValueError, match="task segmentation: expected a map of class numbers for each example"):
            cnnjax.train(config, tmp_path / "run", dataset=data)
    unnamed = cnnjax.from_arrays((train.images, train.labels))
    assert Segmentation().outputs(unnamed) == {"num_classes": 11}
    negative = cnnjax.from_arrays((train.images, train.labels.astype(np.int32) - 1))
    with pytest.raises(ValueError, match="the maps contain -1, which is neither a class number"):
        Segmentation(ignore=254).outputs(negative)
    binary = cnnjax.from_arrays((train.images, np.where(train.labels > 0, 255, 0).astype(np.uint8)))
    with pytest.raises(
        ValueError, match=r"one class besides task.ignore, 255: .* \(save masks of 0 and 255 as 0 and 1\)"
    ):
        Segmentation().outputs(binary)
    assert Segmentation(ignore=0).class_counts(unnamed)[0] == 0


# --- what is made of its predictions --------------------------------------------------------------------------------


def whole_image(run, image):
    """What the network predicts of an image of any size at once."""
    statistics = run_directory.read_statistics(run.described)
    inputs = transforms.normalize(image[None], DatasetOptions(**run.config.dataset), statistics)
    return np.asarray(jax.nn.softmax(run.model.apply(run.selected.variables, inputs)))[0]


@pytest.mark.parametrize("size", [(30, 41), (16, 47), (33, 16)])
def test_windows_have_no_seams_where_the_overlap_holds_the_receptive_field(segmentation_run, size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 1)).astype(np.uint8)
    whole = whole_image(segmentation_run, image)
    found = predict_map(segmentation_run, image, overlap=2 * RADIUS)
    assert found.shape == (*size, 11)
    np.testing.assert_allclose(found, whole, atol=1e-6)
    seams = np.abs(predict_map(segmentation_run, image, overlap=2) - whole).max(-1)
    assert seams.max() > 1e-4  # an overlap that is too small shows


def test_windows_of_images_that_are_smaller_and_of_a_central_crop(segmentation_run, mapped_digits):
    image = np.random.default_rng(2).integers(0, 256, (10, 12)).astype(np.uint8)
    assert predict_map(segmentation_run, image).shape == (10, 12, 11)
    # The same weights, as if they had been trained on central crops.
    cropped = dataclasses.replace(
        segmentation_run, config=cnnjax.load_config(segmentation_run.config, {"augment.crop": (12, 10)})
    )
    image = np.random.default_rng(3).integers(0, 256, (20, 19, 1)).astype(np.uint8)
    found = predict_map(cropped, image, overlap=9)
    assert found.shape == (20, 19, 11)
    np.testing.assert_allclose(found[:6, :4], whole_image(cropped, image)[:6, :4], atol=1e-6)
    test = mapped_digits.splits["test"]
    predictions = cropped.predict_prepared(test.images)
    assert predictions.shape == (103, 12, 10, 11)
    scored = cropped.task.score(predictions, test)
    assert scored == pytest.approx({name: cropped.measure(test)[name] for name in scored})
    with pytest.raises(ValueError, match="overlap=10: expected 0 to 9, less than a window of"):
        predict_map(cropped, image, overlap=10)


def test_predict_writes_masks_of_numbers_and_overlays(capsys, segmentation_run, mapped_digits, tmp_path):
    image = mapped_digits.splits["test"].images[0, ..., 0]
    large = np.kron(image, np.ones((2, 3), np.uint8))
    (tmp_path / "in" / "deep").mkdir(parents=True)
    Image.fromarray(image).save(tmp_path / "in" / "digit.png")
    Image.fromarray(large).save(tmp_path / "in" / "deep" / "digit.png")
    command = ["predict", "--workdir", segmentation_run.workdir, tmp_path / "in", "--masks", tmp_path / "out"]
    code, out, _ = run(capsys, *command)
    assert code == 0 and out == [f"2 maps with overlays in {tmp_path / 'out'}"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "deep_digit.png", "deep_digit_overlay.png", "in_digit.png", "in_digit_overlay.png",
    ]  # fmt: skip
    with Image.open(tmp_path / "out" / "in_digit.png") as mask:
        assert mask.mode == "P" and mask.getpalette()[3:6] == [128, 0, 0]
        predicted = segmentation_run.predict_prepared(image[None, ..., None])[0].argmax(-1)
        np.testing.assert_array_equal(np.asarray(mask), predicted)
    with Image.open(tmp_path / "out" / "deep_digit.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), predict_map(segmentation_run, large).argmax(-1))
    with Image.open(tmp_path / "out" / "deep_digit_overlay.png") as overlay:
        assert overlay.size == (48, 32) and overlay.mode == "RGB"
    code, out, _ = run(capsys, "predict", "--workdir", segmentation_run.workdir, tmp_path / "in" / "digit.png")
    assert code == 0 and "paper " in out[0] and "%" in out[0]
    code, _, err = run(capsys, *command, "--topk", "2")
    assert code == 1 and err == ["cnnjax: --masks is given alone: leave --csv, --npz and --topk out"]


def test_other_runs_have_no_masks(capsys, regression_run, digit_files, tmp_path):
    command = ["predict", "--workdir", regression_run.workdir, digit_files[0], "--masks", tmp_path / "out"]
    code, _, err = run(capsys, *command)
    assert code == 1 and err == ["cnnjax: --masks: the run's task, Regression, predicts no maps: leave it out"]
    assert not (tmp_path / "out").exists()


def test_its_report_shows_maps_and_each_classes_iou(segmentation_run, mapped_digits, tmp_path):
    written = write_report(segmentation_run.workdir, tmp_path / "page.html", dataset=mapped_digits)
    page, text = written.page.read_text(), (written.folder / "report.md").read_text()
    assert not written.missing
    for name in ("confusion", "worst", "examples"):
        assert (written.folder / f"maps-{name}.png").exists()
    confusion = segmentation_run.task.confusion(
        segmentation_run.predict(list(mapped_digits.splits["test"].images)), mapped_digits.splits["test"].labels
    )
    for row in class_rows(confusion, NAMES):
        assert f"| {' | '.join(row)} |" in text
    assert 'id="maps"' in page and "best validation mean iou" in page
    assert not any(f'id="{name}"' in page for name in ("gallery", "calibration", "labels", "numbers"))


def test_grad_cam_asks_for_a_class_of_the_pixels(segmentation_run, mapped_digits):
    images = mapped_digits.splits["test"].images[:3]
    maps = attribution.grad_cam(segmentation_run, images, classes=0)
    assert maps.shape == (3, 16, 16) and maps.max() > 0
    inputs = segmentation_run.network_inputs(images)
    logits = segmentation_run.model.apply(segmentation_run.selected.variables, inputs)
    values, chosen = class_logits(logits, np.array([0, -1, 3]))
    predicted = np.asarray(logits).argmax(-1)
    assert chosen.tolist() == [0, np.bincount(predicted[1].ravel()).argmax(), 3]
    np.testing.assert_allclose(values[0], np.asarray(logits)[0][predicted[0] == 0][:, 0].mean(), rtol=1e-5)
    saliency = attribution.saliency(segmentation_run, images, classes=1)
    assert saliency.shape == (3, 16, 16) and saliency.max() > 0


def started(config, data):
    """The weights with which a training begins."""
    config = cnnjax.load_config(config)
    experiment = build(config, data_facts(config, data))
    program = compile_program(config, experiment, data, jax.devices("cpu")[:1], initial_variables(config))
    return program.initial().params


def test_training_starts_from_a_run_of_other_classes(segmentation_run, mapped_digits, config):
    few, source = mapped_digits.splits["train"].take(np.arange(60)), segmentation_run.selected.params
    maps = np.where(few.labels == IGNORE, IGNORE, few.labels > 0)
    data = cnnjax.from_arrays((few.images, maps), label_names=("paper", "ink"))
    own = {**config, "initial": {"run": str(segmentation_run.workdir)}, "train": {"batch_size": 30}}
    begun = started(own, data)
    np.testing.assert_array_equal(begun["Conv_0"]["kernel"], source["Conv_0"]["kernel"])
    assert begun["Conv_2"]["kernel"].shape[-1] == 2 and source["Conv_2"]["kernel"].shape[-1] == 11


def test_explore_and_preview_show_maps(mapped_digits):
    shares = tables(explore(mapped_digits))["maps"].table
    labels = mapped_digits.splits["train"].labels
    assert shares.columns == ("class", "train", "valid", "test")
    assert shares.rows[0][:2] == ("paper", f"{(labels == 0).mean():.2%}")
    assert shares.rows[-1][:2] == ("255", f"{(labels == 255).mean():.2%}") and len(shares.rows) == 12
    options = {
        "dataset": {"name": "digit_scenes"},
        "task": {"name": "segmentation"},
        "model": {"name": "tests.tasks.segmenter:Segmenter"},
        "train": {"batch_size": 10},
        "augment": {"flip_horizontal": True},
        "log": {"progress": "off"},
    }
    figure = cnnjax.preview(options, examples=2, epochs=1)
    shown = [axis.get_images()[0].get_array() for axis in figure.axes]
    assert len(shown) == 4 and all((picture[..., 0] != picture[..., 1]).any() for picture in shown)  # colours over grey
