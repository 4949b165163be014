"""Multi-label classification: its metrics against scikit-learn's, and a run through all that serves it."""

import csv

import numpy as np
import pytest
from sklearn import metrics

import cnnjax
from cnnjax.data.datasets import Split
from cnnjax.report.report import write_report
from cnnjax.tasks import MultiLabel
from cnnjax.tasks.multilabel_metrics import average_precision, label_scores, threshold_curve
from tests.commands.shell import run
from tests.tasks.conftest import LABELS
from tests.tasks.runs_alike import assert_resumes_to_the_same_bits, metrics_on

generator = np.random.default_rng(0)
PRESENT = generator.random((57, 4)) < (0.2, 0.5, 0.9, 0.0)
# In steps of a twentieth, so that there are ties.
PROBABILITIES = np.round(np.clip(0.3 * PRESENT + generator.random((57, 4)) * 0.7, 0, 1) * 20) / 20


def expected_metrics(predictions, labels, threshold=0.5):
    """What scikit-learn says of classes that occur or are predicted."""
    present, predicted = labels > 0.5, predictions > threshold
    some = (present | predicted).any(0)
    return {
        "accuracy": (predicted == present).mean(),
        "exact": metrics.accuracy_score(present, predicted),
        "macro_f1": metrics.f1_score(present[:, some], predicted[:, some], average="macro"),
        "micro_f1": metrics.f1_score(present, predicted, average="micro"),
        "mean_average_precision": metrics.average_precision_score(present[:, present.any(0)], predictions[:, present.any(0)]),
    }  # fmt: skip


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.975])
def test_scores_are_scikit_learns(threshold):
    found = MultiLabel(threshold=threshold).score(PROBABILITIES, Split(np.zeros(57), PRESENT.astype(np.float32)))
    expected = expected_metrics(PROBABILITIES, PRESENT, threshold)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_each_classs_figures_are_scikit_learns():
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        PRESENT, PROBABILITIES > 0.5, zero_division=np.nan
    )
    for place, score in enumerate(label_scores(PROBABILITIES, PRESENT, 0.5, "abcd")):
        assert score.name == "abcd"[place] and score.examples == support[place]
        np.testing.assert_allclose(
            (score.precision, score.recall, score.f1), (precision[place], recall[place], f1[place])
        )
        if support[place]:
            expected = metrics.average_precision_score(PRESENT[:, place], PROBABILITIES[:, place])
            assert score.average_precision == pytest.approx(expected, abs=1e-12)
        else:
            assert np.isnan(score.average_precision)


def test_a_threshold_curve_has_each_thresholds_figures():
    found = threshold_curve(PROBABILITIES[:, 1], PRESENT[:, 1], steps=10)
    assert found.thresholds.tolist() == pytest.approx([place / 10 for place in range(10)])
    for threshold, f1, recall in zip(found.thresholds, found.f1, found.recall, strict=True):
        predicted = PROBABILITIES[:, 1] > threshold
        assert f1 == pytest.approx(metrics.f1_score(PRESENT[:, 1], predicted))
        assert recall == pytest.approx(metrics.recall_score(PRESENT[:, 1], predicted))
    threshold, f1 = found.best
    assert f1 == found.f1.max() and threshold in found.thresholds[found.f1 == f1]
    assert np.isnan(average_precision(PROBABILITIES[:, 3], PRESENT[:, 3]))


def test_labels_that_are_no_zeros_and_ones_are_refused(task_config, tmp_path, numbered_digits):
    with pytest.raises(ValueError, match=r"task multilabel: expected labels of 0 and 1, \(example, class\)"):
        cnnjax.train(task_config("multilabel"), tmp_path / "run", dataset=numbered_digits)
    assert not (tmp_path / "run").exists()


def test_a_run_learns_and_its_figures_are_those_of_its_predictions(multilabel_run, labelled_digits):
    test = labelled_digits.splits["test"]
    predictions = multilabel_run.predict(test.images)
    assert predictions.shape == (103, 3) and (predictions.sum(-1) > 1).any()
    for name, value in expected_metrics(predictions, test.labels).items():
        assert multilabel_run.metrics[f"test/{name}"] == pytest.approx(value, abs=1e-6), name
    losses = [line["valid/loss"] for line in multilabel_run.history if "valid/loss" in line]
    assert losses[-1] < 0.98 * 3 * np.log(2) and len(losses) == 2  # of guessing each by one half
    evaluated = cnnjax.evaluate([multilabel_run], dataset=labelled_digits)
    for name in ("loss", "macro_f1", "mean_average_precision"):
        assert evaluated[name] == pytest.approx(multilabel_run.metrics[f"test/{name}"], abs=1e-6)
    again = cnnjax.load_run(multilabel_run.workdir)
    np.testing.assert_array_equal(again.predict(test.images), predictions)
    assert again.predict([]).shape == (0, 3)


def test_its_metrics_are_exact_on_any_number_of_devices(multilabel_run, labelled_digits, eight_devices):
    test = labelled_digits.splits["test"]
    expected = expected_metrics(multilabel_run.predict(test.images), test.labels)
    for count in (1, 3, 8):
        found = metrics_on(multilabel_run, test, eight_devices[:count])
        for name in ("accuracy", "exact", "macro_f1", "micro_f1"):
            assert found[name] == pytest.approx(expected[name], abs=1e-12), (name, count)
        assert found["loss"] == pytest.approx(multilabel_run.metrics["test/loss"], rel=1e-5)


def test_killed_it_resumes_to_the_same_bits(multilabel_run, labelled_digits, tmp_path):
    assert_resumes_to_the_same_bits(multilabel_run, labelled_digits, tmp_path)


def test_predict_names_the_labels_above_the_threshold(capsys, multilabel_run, digit_files, tmp_path):
    folder, images = digit_files
    predictions = multilabel_run.predict(images)
    code, out, _ = run(capsys, "predict", "--workdir", multilabel_run.workdir, folder)
    assert code == 0 and len(out) == 5
    for line, row in zip(out, predictions, strict=True):
        shown = line.split("  ")[1:]
        present = [f"{LABELS[index]} {row[index]:.4f}" for index in np.argsort(-row) if row[index] > 0.5]
        assert shown == present or (not present and shown[0].startswith("none (the most probable is "))
    code, out, _ = run(capsys, "predict", "--workdir", multilabel_run.workdir, folder, "--topk", 2)
    assert code == 0 and all(len(line.split("  ")) == 3 for line in out)
    table = tmp_path / "table.csv"
    code, out, _ = run(capsys, "predict", "--workdir", multilabel_run.workdir, folder, "--csv", table)
    assert code == 0 and out == [f"5 predictions in {table}"]
    rows = list(csv.DictReader(table.read_text().splitlines()))
    np.testing.assert_allclose([[float(row[name]) for name in LABELS] for row in rows], predictions, atol=1e-6)


def test_evaluate_says_that_the_data_were_given_from_python(capsys, multilabel_run):
    code, _, err = run(capsys, "evaluate", "--workdir", multilabel_run.workdir)
    assert code == 1 and len(err) == 1 and "its data set (arrays) was passed from Python and has no name" in err[0]


def test_details_are_of_each_class(multilabel_run, labelled_digits):
    test = labelled_digits.splits["test"]
    details = multilabel_run.task.details(multilabel_run.predict(test.images), test.labels, LABELS)
    assert [row[0] for row in details.rows] == list(LABELS) and details.columns[2:5] == ("precision", "recall", "F1")
    assert [row[1] for row in details.rows] == test.labels.sum(0).astype(int).tolist()


def test_its_report_shows_its_labels_and_fakes_nothing(multilabel_run, labelled_digits, tmp_path):
    written = write_report(multilabel_run.workdir, tmp_path / "page.html", dataset=labelled_digits)
    page, text = written.page.read_text(), (written.folder / "report.md").read_text()
    assert not written.missing
    assert "## Labels" in text and "![F1 by threshold](labels-thresholds.png)" in text
    assert {"labels-thresholds.png", "labels-worst.png", "curves.png"} <= {
        path.name for path in written.folder.iterdir()
    }
    assert 'id="labels"' in page and "best validation macro f1" in page
    assert not any(f'id="{name}"' in page for name in ("confusion", "calibration", "gallery", "numbers"))
    assert "best validation accuracy" not in page and "which this task does not have" in page
    without = write_report(multilabel_run.workdir, tmp_path / "without.html")
    assert len(without.missing) == 1 and "was passed from Python" in without.missing[0]
