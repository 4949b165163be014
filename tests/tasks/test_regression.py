"""Regression: its metrics against scikit-learn's and NumPy's, and a run through all that serves it."""

import csv

import numpy as np
import pytest
from sklearn import metrics

import cnnjax
from cnnjax.data.datasets import Split
from cnnjax.report.report import write_report
from cnnjax.tasks import Regression
from cnnjax.tasks.regression import number_rows
from tests.commands.shell import run
from tests.tasks.runs_alike import assert_resumes_to_the_same_bits, metrics_on

generator = np.random.default_rng(0)
LABELS = generator.normal((3.0, -20.0, 0.0), (1.0, 5.0, 0.1), (61, 3))
PREDICTIONS = LABELS + generator.normal(0.1, 0.5, LABELS.shape)


def expected_metrics(predictions, labels):
    return {
        "mae": metrics.mean_absolute_error(labels, predictions),
        "rmse": np.sqrt(metrics.mean_squared_error(labels, predictions)),
        "r2": metrics.r2_score(labels, predictions),
    }


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, 0]])
def test_scores_are_scikit_learns(labels):
    predictions = PREDICTIONS if labels.ndim == 2 else PREDICTIONS[:, :1]
    found = Regression().score(predictions, Split(np.zeros(61), labels))
    assert found == pytest.approx(expected_metrics(predictions, labels), abs=1e-12)


def test_labels_that_are_all_the_same_have_no_explained_variance():
    found = Regression().score(np.ones((4, 1)), Split(np.zeros(4), np.full(4, 2.0)))
    assert found == {"mae": 1.0, "rmse": 1.0}
    [row] = number_rows(np.ones((4, 1)), np.full(4, 2.0), ())
    assert row == ("value", "2", "0", "1", "1", "—", "-1")


def test_each_numbers_figures():
    rows = number_rows(PREDICTIONS, LABELS, ("a", "b", "c"))
    for place, (name, mean, deviation, mae, rmse, r2, bias) in enumerate(rows):
        labels, predictions = LABELS[:, place], PREDICTIONS[:, place]
        assert name == "abc"[place] and float(r2) == pytest.approx(metrics.r2_score(labels, predictions), abs=1e-4)
        found = [float(value) for value in (mean, deviation, mae, rmse, bias)]
        error = predictions - labels
        expected = (labels.mean(), labels.std(), abs(error).mean(), np.sqrt((error**2).mean()), error.mean())
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_labels_that_are_not_finite_are_refused(task_config, tmp_path, numbered_digits):
    part = numbered_digits.splits["train"]
    data = cnnjax.from_arrays((part.images, np.full(len(part), np.nan)))
    with pytest.raises(
        ValueError, match="task regression: expected one or several finite numbers per example; arrays has"
    ):
        cnnjax.train(task_config("regression"), tmp_path / "run", dataset=data)
    assert not (tmp_path / "run").exists()


def test_a_run_learns_and_its_figures_are_those_of_its_predictions(regression_run, numbered_digits):
    test, train = numbered_digits.splits["test"], numbered_digits.splits["train"]
    predictions = regression_run.predict(test.images)
    assert predictions.shape == (103, 2)
    for name, value in expected_metrics(predictions, test.labels).items():
        assert regression_run.metrics[f"test/{name}"] == pytest.approx(value, rel=1e-4), name
    constant = np.abs(test.labels - np.median(train.labels, 0)).mean()
    assert regression_run.metrics["test/mae"] < constant
    evaluated = cnnjax.evaluate([regression_run], dataset=numbered_digits)
    assert evaluated["loss"] == pytest.approx(np.square(predictions - test.labels).mean(), rel=1e-5)
    assert evaluated["mae"] == pytest.approx(regression_run.metrics["test/mae"], rel=1e-6)
    best = min((line for line in regression_run.history if "valid/mae" in line), key=lambda line: line["valid/mae"])
    assert regression_run.metrics["checkpoint"] == best["step"]
    with pytest.raises(ValueError, match="has changed since the run began"):
        cnnjax.evaluate([regression_run], dataset=cnnjax.from_arrays((train.images, train.labels)))


def test_its_metrics_are_exact_on_any_number_of_devices(regression_run, numbered_digits, eight_devices):
    test = numbered_digits.splits["test"]
    expected = expected_metrics(regression_run.predict(test.images).astype(np.float64), test.labels)
    for count in (1, 3, 8):
        assert metrics_on(regression_run, test, eight_devices[:count]) == pytest.approx(
            {**expected, "loss": regression_run.metrics["test/loss"]}, rel=1e-4
        )


def test_killed_it_resumes_to_the_same_bits(regression_run, numbered_digits, tmp_path):
    assert_resumes_to_the_same_bits(regression_run, numbered_digits, tmp_path)


def test_predict_gives_numbers(capsys, regression_run, digit_files, tmp_path):
    folder, images = digit_files
    predictions = regression_run.predict(images)
    code, out, _ = run(capsys, "predict", "--workdir", regression_run.workdir, folder)
    assert code == 0
    for line, (ink, digit) in zip(out, predictions, strict=True):
        assert line.split("  ")[1:] == [f"ink {float(f'{ink:.6g}')}", f"digit {float(f'{digit:.6g}')}"]
    table, arrays = tmp_path / "table.csv", tmp_path / "arrays.npz"
    assert run(capsys, "predict", "--workdir", regression_run.workdir, folder, "--csv", table)[0] == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    np.testing.assert_allclose([[float(row["ink"]), float(row["digit"])] for row in rows], predictions, rtol=1e-5)
    assert run(capsys, "predict", "--workdir", regression_run.workdir, folder, "--npz", arrays)[0] == 0
    with np.load(arrays) as stored:
        np.testing.assert_array_equal(stored["predictions"], predictions)
        assert stored["path"].tolist() == [row["path"] for row in rows]
    code, _, err = run(capsys, "predict", "--workdir", regression_run.workdir, folder, "--topk", 2)
    assert code == 1 and err == ["cnnjax: --topk 2: the run's task, Regression, has no classes: leave it out"]


@pytest.fixture(scope="module")
def digit_study(task_config, tmp_path_factory):
    """The digit itself as a number, which the named data set has: two rates, two seeds."""
    config = {**task_config("regression"), "dataset": {"name": "digits", "examples_per_class": 16}}
    folder = tmp_path_factory.mktemp("studies") / "regression"
    return cnnjax.ablate(config, {"optimizer.learning_rate": [0.001, 0.01]}, seeds=2, workdir=folder), folder, config


def test_a_study_compares_by_the_tasks_metric(digit_study):
    table, folder, config = digit_study
    assert table.metric == "test/mae" and {"valid/mae", "valid/r2", "test/rmse"} <= set(table.metrics)
    assert all(record["status"] == "finished" for record in table.trials)
    means = {row.variant: row.estimate.mean for row in table.summarize("valid/mae")}
    assert table.best().variant == table.best("valid/mae").variant == min(means, key=means.get)
    assert set(table.ensembles) == set(table.variants) and "test/mae" in table.ensembles[table.variants[0]]
    again = cnnjax.ablate(
        config, {"optimizer.learning_rate": [0.001, 0.01]}, seeds=2, workdir=folder, metric="valid/mae"
    )
    assert again.metric == "valid/mae" and again.trials == table.trials
    with pytest.raises(ValueError, match="unknown metric 'valid/accuracy'"):
        cnnjax.ablate(config, {"optimizer.momentum": [0.5]}, workdir=folder, metric="valid/accuracy")


def test_a_search_takes_the_least_error_first(digit_study, tmp_path):
    *_, config = digit_study
    rates = {"optimizer.learning_rate": [0.0001, 0.01]}
    table = cnnjax.search(config, rates, tmp_path / "search", method="grid")
    assert table.metric == "valid/mae"
    values = [row.estimate.mean for row in table.rows]
    assert values == sorted(values) and values[0] < values[1]
    with pytest.raises(ValueError, match="choose valid/mae or valid/loss"):
        cnnjax.search(config, rates, tmp_path / "other", metric="test/mae")


def test_evaluate_prints_its_metrics_and_details(capsys, digit_study):
    table, folder, _ = digit_study
    directory = folder / table.trials[0]["directory"]
    code, out, _ = run(capsys, "evaluate", "--workdir", directory, "--details")
    assert code == 0 and out[0].startswith(f"{directory}: test mae {table.trials[0]['test/mae']:.4f}, loss ")
    assert "accuracy" not in "".join(out) and "bias" in "".join(out[1:])


def test_its_report_shows_its_numbers_and_fakes_nothing(regression_run, numbered_digits, tmp_path):
    written = write_report(regression_run.workdir, tmp_path / "page.html", dataset=numbered_digits)
    page, text = written.page.read_text(), (written.folder / "report.md").read_text()
    assert not written.missing
    figures = {
        "agreement": "predictions against labels",
        "errors": "errors",
        "worst": "examples with the largest errors",
    }
    for name, caption in figures.items():
        assert f"![{caption}](numbers-{name}.png)" in text and (written.folder / f"numbers-{name}.png").exists()
    assert 'id="numbers"' in page and "best validation mae" in page and "accuracy of" not in text
    assert not any(f'id="{name}"' in page for name in ("confusion", "calibration", "gallery", "labels"))


def test_named_data_need_not_be_given_to_report_and_diagnose(capsys, digit_study):
    """Digits have classes and their counts, and a regression on them shows none."""
    table, folder, _ = digit_study
    directories = [folder / record["directory"] for record in table.trials[:2]]
    code, out, _ = run(capsys, "report", directories[0])
    assert code == 0 and out[0].startswith("report: ")
    text = (directories[0] / "report" / "report.md").read_text()
    assert "## Numbers" in text and "## Confusion" not in text and "accuracy |" not in text
    code, out, _ = run(capsys, "report", *directories, "--out", folder / "both.html")
    assert code == 0 and "On the same examples" not in (folder / "both.html").read_text()
    code, out, _ = run(capsys, "diagnose", directories[0])
    assert code == 0 and "accuracies of class labels, which this task does not have" in "".join(out)


def test_images_of_floats_and_odd_channels_are_served(task_config, tmp_path, capsys, digit_files):
    """Five channels of floats and one number: predict takes such arrays, pictures are refused, the report shows what it can."""
    images = np.random.default_rng(0).normal(size=(120, 8, 8, 5)).astype(np.float32)
    data = cnnjax.from_arrays((images, images.mean((1, 2, 3))))
    config = {
        **task_config("regression"),
        "dataset": {"scale": "none"},
        "model": {"name": "pattern", "plan": "conv 4 pool | fc 8"},
    }
    trained = cnnjax.train(config, tmp_path / "run", dataset=data)
    test = data.splits["test"]
    predictions = trained.predict(list(test.images))
    np.testing.assert_array_equal(predictions, trained.predict_prepared(test.images))
    assert predictions.shape == (12, 1) and trained.predict([]).shape == (0, 1)
    with pytest.raises(ValueError, match=r"image 0: it holds float32, 3 channels, but the data set's images have 5"):
        trained.predict(np.zeros((1, 8, 8, 3), np.float32))
    code, _, err = run(capsys, "predict", "--workdir", trained.workdir, digit_files[0] / "0.png")
    assert code == 1 and len(err) == 1 and "it holds uint8, grey, but the data set's images are float32" in err[0]
    written = write_report(trained.workdir, dataset=data)
    text = (written.folder / "report.md").read_text()
    assert not written.missing and "## Numbers" in text and "## Feature maps" in text
