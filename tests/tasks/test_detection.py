"""Detection: its losses and labels, and a run through all that serves it."""

import dataclasses
from functools import partial
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax import runs
from cnnjax.ablation.together import compatibility
from cnnjax.data.box_files import coco_text, read_coco, read_voc
from cnnjax.data.boxes import CLASS, COLUMNS, CROWD, IGNORED, as_rows, padded
from cnnjax.data.datasets import Split
from cnnjax.detection import Detections
from cnnjax.report.exploration import explore
from cnnjax.report.exploration_page import as_page, tables
from cnnjax.report.predictions import BoxPredictions
from cnnjax.report.report import write_report
from cnnjax.runs import detect
from cnnjax.tasks import Detection
from cnnjax.tasks.detection import counted_rows, objects_of
from cnnjax.tasks.detection_metrics import coco_curves, coco_metrics
from cnnjax.training import evaluation, run_directory
from cnnjax.training.experiment import predicting_step
from cnnjax.training.parallel import program_over_devices, replicate
from tests.commands.shell import run
from tests.tasks.runs_alike import assert_compiled_in_the_first_epoch, assert_resumes_to_the_same_bits, metrics_on

SIZES = {"train": 410, "valid": 61, "test": 63}  # which neither the batches nor the devices divide


class Net:
    """Losses and detections that are given."""

    def __init__(self, losses=None, found=None):
        self.losses = lambda images, objects, train: losses
        self.detections = lambda images: found


def rows_of(*images, room=3):
    return np.stack([padded(as_rows(*image), room) for image in images])


def test_rows_become_objects_and_those_without_area_or_class_none():
    rows = rows_of(
        ([[0, 0, 4, 5], [2, 2, 2, 6], [1, 1, 3, 3]], [1, 0, 2], [0, 0, CROWD]),
        ([], []),
        ([[0, 0, 1, 1]], [0], [IGNORED]),
    )
    objects = objects_of(jnp.asarray(rows))
    assert objects.mask.tolist() == [[True, False, True], [False] * 3, [True, False, False]]
    assert objects.ignore.tolist() == [[False, False, True], [False] * 3, [True, False, False]]
    assert objects.classes.tolist() == [[1, 0, 2], [0] * 3, [0] * 3] and objects.classes.dtype == jnp.int32
    assert objects.wanted.sum() == 1 and objects.boxes[0, 0].tolist() == [0, 0, 4, 5]
    assert counted_rows(rows)[..., CLASS].tolist() == [[1, -1, 2], [-1] * 3, [0, -1, -1]]


def test_losses_are_added_by_their_weights_and_each_is_a_metric():
    losses = {"classification": np.array([1.0, 2.0]), "regression": np.array([0.5, 0.0])}
    batch = {"image": np.zeros((2, 4, 4, 1)), "label": rows_of(([], []), ([], []))}
    values, sums = Detection().loss(Net(losses), batch, True)
    assert values.tolist() == [1.5, 2.0] and sums == losses
    assert Detection(weights=(("regression", 4.0),)).loss(Net(losses), batch, True)[0].tolist() == [3.0, 2.0]
    with pytest.raises(
        ValueError, match=r"config: task\.weights: unknown loss of the network 'regresion': .*regression"
    ):
        Detection(weights=(("regresion", 4.0),)).loss(Net(losses), batch, True)
    assert Detection().summarize({"loss": 7, "classification": 6, "regression": 1, "count": 2}) == {
        "loss": 3.5, "classification": 3, "regression": 0.5,
    }  # fmt: skip
    with pytest.raises(ValueError, match="the network has no method `losses`: choose a detector, such as"):
        Detection().loss(lambda images, train: images, batch, True)


def found_exactly(rows, room=20):
    """Detections that are the objects, with falling scores."""
    boxes = np.zeros((len(rows), room, 4), np.float32)
    boxes[:, : rows.shape[1]] = rows[..., :4]
    mask = np.zeros(boxes.shape[:2], bool)
    mask[:, : rows.shape[1]] = rows[..., CLASS] >= 0
    classes = np.zeros(mask.shape, np.int32)
    classes[:, : rows.shape[1]] = np.maximum(rows[..., CLASS], 0)
    scores = np.linspace(0.9, 0.1, room, dtype=np.float32) * mask
    return Detections(boxes, scores, classes * mask, mask)


def test_scores_details_and_text():
    rows = rows_of(([[0, 0, 40, 40], [3, 3, 3, 9]], [0, 1]), ([], []), ([[5, 5, 10, 12]], [2]))
    found = found_exactly(rows)
    scores = Detection().score(found, Split(np.zeros(3), rows))
    assert scores["AP"] == pytest.approx(1) == scores["AP_small"] and "AP_large" not in scores
    assert Detection().score_in_detail(found, rows) == {"VOC_AP": 1, "VOC07_AP": 1}
    details = Detection().details(found, rows, ("cat", "dog", "cow"))
    assert details.sentences == ["2 objects in 3 images; detections with a score of at least 0.5 are counted"]
    assert details.rows[1] == ("dog", "0", "1", "—", "—", "—", "—")  # its only object has no area
    assert details.rows[2] == ("cow", "1", "1", *["1.0000"] * 4)
    task = Detection(shown=0.88)
    assert task.describe(found, ("cat", "dog", "cow")) == [
        "cat 90.0% at 0.0 0.0 40.0 40.0",
        "nothing",
        "cow 90.0% at 5.0 5.0 10.0 12.0",
    ]
    columns = task.columns(found, ())
    assert columns == {
        "objects": [1, 0, 1],
        "detections": ["0 0.9000 0.0 0.0 40.0 40.0", "", "2 0.9000 5.0 5.0 10.0 12.0"],
    }
    assert [len(own) for own in Detection(shown=0.0).found(found, (), 1)] == [1, 0, 1]


def data_of(train, valid=None, names=("a", "b")):
    images = np.arange(len(train) * 64, dtype=np.uint16).reshape(len(train), 8, 8, 1)
    pairs = {
        name: (images, rows) for name, rows in (("train", train), ("valid", valid), ("test", train)) if rows is not None
    }
    return cnnjax.from_arrays(**pairs, label_names=names)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[:, 0].__setitem__((3, CLASS), 2), "train: image 3, object 0 has a class beyond the 2 names"),
        (lambda rows: rows[:, 0].__setitem__((3, CLASS), 0.5), "has a class that is not a whole number"),
        (lambda rows: rows[:, 0].__setitem__((3, 2), -1), "has a box that ends before it begins"),
        (lambda rows: rows[:, 0].__setitem__((3, 2), np.nan), "has a value that is not finite"),
        (lambda rows: rows.__setitem__((..., CLASS), -1), "train: there is no object in any image"),
    ],
)
def test_labels_that_are_no_boxes_are_refused(change, said):
    rows = np.repeat(rows_of(([[0, 0, 4, 4]], [1])), 12, 0)
    assert Detection().outputs(data_of(rows, rows)) == {"num_classes": 2}
    changed = rows.copy()
    change(changed)
    with pytest.raises(ValueError, match=said):
        Detection().outputs(data_of(changed, rows))
    with pytest.raises(ValueError, match="expected boxes for each example, floats"):
        Detection().outputs(data_of(rows[:, 0, 0], names=None))
    assert Detection().outputs(data_of(rows, rows, names=None)) == {"num_classes": 2}


# --- a run ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def boxed_digits():
    """Scenes of 32x32, of which every tenth of the training split has no objects."""
    scenes = cnnjax.load_dataset({"name": "digit_scenes", "labels": "boxes", "resize": (32, 32)})
    parts = {
        name: (np.asarray(split.images[: SIZES[name]]), np.array(split.labels[: SIZES[name]]))
        for name, split in scenes.splits.items()
    }
    parts["train"][1][::10, :, CLASS] = -1
    return cnnjax.from_arrays(**parts, label_names=scenes.label_names)


@pytest.fixture(scope="module")
def config(task_config):
    own = {
        "model": {"name": "tests.tasks.detector:Detector"},
        "augment": {"pad": 2, "flip_horizontal": True, "stretch": 0.1},
        "optimizer": {"name": "adam", "learning_rate": 0.003},
        "evaluate": {"batch_size": 64},
    }
    return task_config("detection") | own


@pytest.fixture(scope="module")
def detection_run(boxed_digits, config, tmp_path_factory):
    return cnnjax.train(config, tmp_path_factory.mktemp("tasks") / "detection", dataset=boxed_digits)


@pytest.mark.slow
def test_nothing_is_compiled_after_the_first_epoch(boxed_digits, config, tmp_path):
    fields = config | {"train": {"batch_size": 10, "epochs": 3}, "log": config["log"] | {"every_steps": 1}}
    assert_compiled_in_the_first_epoch(partial(cnnjax.train, fields, tmp_path / "run", dataset=boxed_digits))


def test_a_run_learns_and_says_what_its_detections_say(detection_run, boxed_digits):
    trained, test = detection_run, boxed_digits.splits["test"]
    found = trained.predict(list(test.images))
    assert isinstance(found, Detections) and found.boxes.shape == (63, 10, 4)
    scores = trained.task.score(found, test)
    assert {name: trained.metrics[f"test/{name}"] for name in scores} == pytest.approx(scores)
    assert scores == coco_metrics(coco_curves(found, test.labels, 10)) and scores["AR100"] > 0.02
    assert trained.metrics["valid/AP"] >= 0 and trained.metrics["valid/classification"] > 0
    first, last = (line["train/loss"] for line in trained.history if "train/loss" in line)
    assert last < first
    assert trained.facts.outputs == {"num_classes": 10}
    detailed = cnnjax.evaluate([trained], dataset=boxed_digits)
    assert {name: detailed[name] for name in scores} == pytest.approx(scores) and "VOC07_AP" in detailed
    assert detailed["loss"] == pytest.approx(trained.metrics["test/loss"])
    with pytest.raises(
        ValueError, match=r"predictions of type .* cannot be averaged over runs: evaluate each run alone"
    ):
        cnnjax.evaluate([trained, trained], dataset=boxed_digits)


def detections_on(run, images, devices):
    statistics, shape = run_directory.read_statistics(run.described), tuple(run.described["image_shape"])
    step = predicting_step(run.config, run.model, run.task, statistics, run.facts, shape)
    compiled = program_over_devices(step, run.config.train.ops, devices)
    split = Split(images, np.zeros((len(images), 6, COLUMNS), np.float32))
    return evaluation.predict(compiled, replicate(run.selected.variables, devices), split, 40, devices)


@pytest.mark.slow
def test_figures_are_the_same_on_any_number_of_devices(detection_run, boxed_digits, eight_devices):
    valid, expected = boxed_digits.splits["valid"], None
    for count in (1, 2, 4):
        sums = metrics_on(detection_run, valid, eight_devices[:count])
        scores = detection_run.task.score(detections_on(detection_run, valid.images, eight_devices[:count]), valid)
        expected = expected or (sums, scores)
        assert sums == pytest.approx(expected[0], rel=1e-5) and scores == pytest.approx(expected[1], abs=1e-6)


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_the_same_bits(boxed_digits, config, tmp_path):
    """Of Faster R-CNN, which draws the anchors and proposals that it trains."""
    few = {"candidates": (20, 10), "proposals": (20, 10), "samples": 10, "proposal_samples": 16, "max_detections": 10}
    small = {"encoder": "cnn_8_16_32", "encoder_maps": 2, "further_maps": 1, "features": 8, "hidden": 8}
    fields = config | {"model": {"name": "fasterrcnn", **small, **few}}
    assert_resumes_to_the_same_bits(
        cnnjax.train(fields, tmp_path / "run", dataset=boxed_digits), boxed_digits, tmp_path
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augment": {"mixup": 0.2}}, r"augment\.mixup cannot be applied to boxes"),
        ({"augment": {"crop": (16, 16)}}, r"augment\.crop=\(16, 16\) would cut objects in evaluation too"),
        ({"evaluate": {"views": "flip"}}, "evaluate.views='flip': detection evaluates one view"),
        ({"model": {"name": "mlp"}}, "task.name='detection' and model.name='mlp', which is no detector"),
        ({"model": {"name": "tests.tasks.segmenter:Segmenter"}}, "the network has no method `losses`"),
        ({"task": {"name": "detection", "weights": (("box", -1.0),)}}, "task.weights"),
        ({"evaluate": {"metric": "AP42"}}, "evaluate.metric='AP42' has no direction"),
    ],
)
def test_what_boxes_cannot_follow_is_refused(boxed_digits, config, change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        cnnjax.train(config | change, tmp_path / "run", dataset=boxed_digits)
    assert not (tmp_path / "run").exists()


def test_trials_are_trained_one_by_one(config):
    named = cnnjax.load_config({**config, "dataset": {"name": "digit_scenes", "labels": "boxes"}})
    assert compatibility(named) is None


# --- what is made of its predictions ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finding_run(detection_run):
    """The run, with a threshold that its few steps reach."""
    task = dataclasses.replace(detection_run.task, shown=0.1)
    return dataclasses.replace(detection_run, task=task)


def test_boxes_are_in_the_pixels_of_each_image(finding_run, boxed_digits):
    image = boxed_digits.splits["test"].images[0]
    wide = np.kron(image, np.ones((2, 3, 1), np.uint8))  # 64x96, of which the middle 64 columns are seen
    found, [fitted] = detect(finding_run, [wide])
    inside = finding_run.predict_prepared(fitted.pixels[None])
    assert fitted.pixels.shape == image.shape and "the shorter side and the central crop" in fitted.remarks[0]
    np.testing.assert_allclose(
        found.boxes[0], (2 * inside.boxes[0] + [16, 0, 16, 0]) * inside.mask[0, :, None], atol=1e-4
    )
    same, _ = detect(finding_run, [image])
    np.testing.assert_array_equal(same.boxes[0], finding_run.predict_prepared(image[None]).boxes[0])
    assert detect(finding_run, [])[0].boxes.shape == (0, 10, 4)
    with pytest.raises(ValueError, match=r"image 0: the image is 64x96, the network takes 32x32"):
        detect(finding_run, [wide], resize="refuse")


def test_predict_draws_and_writes_boxes(capsys, detection_run, boxed_digits, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for number, image in enumerate(boxed_digits.splits["test"].images[:3]):
        Image.fromarray(np.kron(image[..., 0], np.ones((2, 2), np.uint8))).save(tmp_path / "in" / f"{number}.png")
    command = ["predict", "--workdir", detection_run.workdir, tmp_path / "in", "--score", "0.1"]
    monkeypatch.setattr(runs, "load_run", lambda workdir: detection_run)
    code, out, _ = run(capsys, *command, "--boxes", tmp_path / "out")
    assert code == 0 and out[0].endswith(f"objects in 3 images: {tmp_path / 'out'}")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"detections.json", *(f"{n}.{ending}" for n in range(3) for ending in ("png", "xml", "txt"))}
    coco = read_coco(tmp_path / "out" / "detections.json")
    assert coco.classes == tuple(map(str, range(10))) and sum(len(own.names) for own in coco.images.values()) > 0
    for number in range(3):
        own = coco.images[str(tmp_path / "in" / f"{number}.png")]
        voc = read_voc(tmp_path / "out" / f"{number}.xml")
        assert own.size == voc.size == (64, 64) and list(own.names) == list(voc.names)
        np.testing.assert_allclose(voc.boxes, own.boxes, atol=1.01)
        assert len((tmp_path / "out" / f"{number}.txt").read_text().splitlines()) == len(own.names)
        with Image.open(tmp_path / "out" / f"{number}.png") as drawn:
            assert drawn.size == (320, 320) and drawn.mode == "RGB"
    code, out, _ = run(capsys, *command)
    assert code == 0 and len(out) == 3 and (" at " in out[0] or out[0].endswith("nothing"))
    code, out, _ = run(capsys, *command, "--csv", tmp_path / "found.csv")
    assert code == 0 and (tmp_path / "found.csv").read_text().startswith("path,objects,detections")
    code, _, err = run(capsys, *command, "--boxes", tmp_path / "out", "--topk", "2")
    assert code == 1 and err == ["cnnjax: --boxes is given alone: leave --csv, --npz and --topk out"]
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    code, _, err = run(capsys, *command, "--boxes", tmp_path / "out")
    assert code == 1 and "1 of 4 files cannot be predicted" in err[-1] and "broken.png" in err[-1]


def test_photographs_of_any_shape_are_fitted_and_their_boxes_are_in_their_own_pixels(capsys, tmp_path):
    """From a folder with COCO's file to `predict --boxes`, with a network whose boxes are right wherever the image lies in its input."""
    sizes, boxes = [(60, 120), (110, 50), (64, 64), (30, 90), (200, 150), (75, 80)] * 2, []
    (tmp_path / "photographs" / "images").mkdir(parents=True)
    for number, (rows, columns) in enumerate(sizes):
        box = np.array([columns // 5, rows // 3, columns // 5 + columns // 2, rows // 3 + rows // 2])
        pixels = np.full((rows, columns, 3), 40, np.uint8)
        pixels[box[1] : box[3], box[0] : box[2]] = 250
        Image.fromarray(pixels).save(tmp_path / "photographs" / "images" / f"{number}.png")
        boxes.append(as_rows(box[None], [0]))
    files = [(f"{number}.png", size) for number, size in enumerate(sizes)]
    (tmp_path / "photographs" / "annotations.json").write_text(coco_text(files, boxes, [[1]] * len(files), ["card"]))
    config = {
        "dataset": {
            "name": str(tmp_path / "photographs"),
            "resize": (48, 64),
            "resize_mode": "fit",
            "normalize": "none",
        },
        "task": {"name": "detection"},
        "model": {"name": "tests.tasks.detector:Brightest"},
        "train": {"batch_size": 4, "epochs": 1},
        "log": {"progress": "off", "tensorboard": False},
        "devices": 1,
    }
    trained = cnnjax.train(config, tmp_path / "run")
    assert trained.metrics["test/AP50"] == pytest.approx(1) == trained.metrics["valid/AP50"]
    command = [
        "predict",
        "--workdir",
        tmp_path / "run",
        tmp_path / "photographs" / "images",
        "--boxes",
        tmp_path / "out",
    ]
    assert run(capsys, *command)[0] == 0
    code, lines, _ = run(capsys, *command[:-2], "--score", "0.9")
    assert code == 0 and lines[0].endswith("0.png  card 100.0% at 24.4 20.6 84.4 50.6")  # of 24 20 84 50
    code, _, err = run(capsys, *command[:-2], "--score", "9")
    assert code == 1 and err == ["cnnjax: --score 9: expected 0 to 1"]
    for path, found in read_coco(tmp_path / "out" / "detections.json").images.items():
        number = int(Path(path).stem)
        assert found.size == sizes[number]
        np.testing.assert_allclose(found.boxes, boxes[number][:, :4], atol=max(found.size) / 48)  # a pixel of the input


def test_a_detector_is_exported_with_its_boxes_to_stablehlo_and_without_them_to_onnx(
    detection_run, boxed_digits, tmp_path
):
    images = np.asarray(boxed_digits.splits["test"].images[:3])
    written = cnnjax.export(detection_run, tmp_path / "boxes.jaxexport")
    assert written.outputs["boxes"] == "(batch, 10, 4) float32" and list(written.outputs) == list(Detections._fields)
    found = jax.export.deserialize(bytearray(written.path.read_bytes())).call(images)
    expected = detection_run.predict_prepared(images)
    np.testing.assert_array_equal(found["mask"], expected.mask)
    np.testing.assert_allclose(found["boxes"], expected.boxes, atol=1e-3)
    with pytest.raises(ValueError, match="the suppression of overlapping boxes is a loop, .*--outputs logits"):
        cnnjax.export(detection_run, tmp_path / "boxes.onnx")
    ort = pytest.importorskip("onnxruntime", reason="pip install 'cnnjax[test]'")
    heads = cnnjax.export(detection_run, tmp_path / "heads.onnx", outputs="logits")
    found = ort.InferenceSession(heads.path).run(None, {"images": images})
    expected = detection_run.model.apply(detection_run.selected.variables, detection_run.network_inputs(images))
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)


def test_other_runs_have_no_boxes(capsys, regression_run, digit_files, tmp_path):
    code, _, err = run(
        capsys, "predict", "--workdir", regression_run.workdir, digit_files[0], "--boxes", tmp_path / "out"
    )
    assert code == 1 and err == ["cnnjax: --boxes: the run's task, Regression, predicts no boxes: leave it out"]


def test_its_report_shows_objects_and_each_classes_figures(detection_run, boxed_digits, tmp_path):
    written = write_report(detection_run.workdir, tmp_path / "page.html", dataset=boxed_digits)
    assert not written.missing
    page, text = written.page.read_text(), (written.folder / "report.md").read_text()
    for name in ("classes", "sizes", "worst", "examples"):
        assert (written.folder / f"boxes-{name}.png").exists()
    found = detection_run.predict(list(boxed_digits.splits["test"].images))
    details = detection_run.task.details(found, boxed_digits.splits["test"].labels, detection_run.label_names)
    for row in details.rows:
        assert f"| {' | '.join(row)} |" in text
    assert 'id="boxes"' in page and "objects are missed" in page
    assert not any(f'id="{name}"' in page for name in ("gallery", "maps", "labels"))


def test_verdicts_of_a_report():
    rows = rows_of(([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]], [0, 0, 1], [0, 0, IGNORED]), ([], []))
    found = found_exactly(rows, 6)
    found.boxes[0, 1] += 5
    found.mask[1, 0], found.scores[1, 0] = True, 0.8
    predictions = BoxPredictions(np.zeros((2, 64, 64, 1), np.uint8), rows, found, ("a", "b"), 0.5, 2)
    verdicts = predictions.verdicts
    assert verdicts.hit[0, :3].tolist() == [True, False, False] and verdicts.hit.sum() == 1
    assert verdicts.alarm[0, :3].tolist() == [False, True, False] and verdicts.alarm[1, 0] and verdicts.alarm.sum() == 2
    assert verdicts.missed.tolist() == [[False, True, False], [False] * 3]
    assert predictions.distance.tolist() == [0.5, 1.0]


def test_explore_and_preview_show_boxes(boxed_digits):
    found = tables(explore(boxed_digits))
    rows = boxed_digits.splits["train"].labels
    objects = rows[rows[..., CLASS] >= 0]
    assert found["objects"].table.rows[3][:2] == ("3", f"{(objects[:, CLASS] == 3).sum():,}")
    splits = found["splits"].table
    assert splits.columns[2:4] == ("objects", "without objects") and splits.rows[0][2:4] == (f"{len(objects):,}", "41")
    sizes = dict((row[0], row[1]) for row in found["boxes"].table.rows)
    assert sizes["small: area below 32x32"] == "100.0%"
    assert "Boxes, in pixels" in as_page(explore(boxed_digits))
    options = {
        "dataset": {"name": "digit_scenes", "labels": "boxes"},
        "task": {"name": "detection"},
        "model": {"name": "tests.tasks.detector:Detector"},
        "train": {"batch_size": 10},
        "augment": {"flip_horizontal": True},
        "log": {"progress": "off"},
    }
    figure = cnnjax.preview(options, examples=2, epochs=1)
    shown = [axis.get_images()[0].get_array() for axis in figure.axes]
    assert len(shown) == 4 and all((picture[..., 0] != picture[..., 1]).any() for picture in shown)  # boxes over grey
