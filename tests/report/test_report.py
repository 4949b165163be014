"""Reports: what is in the page, what is said of a broken run, and how the page behaves in a browser."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax import cli, runs, tasks
from cnnjax.report.report import write_report
from cnnjax.training import run_directory

CHROMIUM = Path("/usr/bin/chromium")
SINGLE = [
    "summary",
    "figures",
    "diagnosis",
    "curves",
    "confusion",
    "calibration",
    "gallery",
    "training_labels",
    "filters",
    "feature_maps",
    "attribution",
    "histograms",
    "embedding",
    "network",
    "config",
    "environment",
]


def sections(page):
    return re.findall(r'<section id="(\w+)">', page.read_text())


def data_of(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(found[1])


@pytest.fixture(scope="module")
def convolutional(digits_config, tmp_path_factory):
    """A run with convolutions, of one epoch: it makes many mistakes."""
    config = digits_config | {"model": {"name": "lenet5"}, "train": {"batch_size": 64, "epochs": 1}}
    return cnnjax.train(config, tmp_path_factory.mktemp("reports") / "convolutional")


@pytest.fixture(scope="module")
def written(convolutional):
    return write_report(convolutional.workdir)


def test_the_page_has_every_part_and_needs_nothing_else(written, convolutional):
    page = written.page.read_text()
    assert written.page == convolutional.workdir / "report" / "index.html" and not written.missing
    assert sections(written.page) == SINGLE
    assert len(page.encode()) < 5e6
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert "http://www.w3.org/2000/svg" in re.findall(r"https?://[^\s\"'<)]*", page)
    assert len(re.findall(r"https?://", page)) == 1  # the name of SVG's elements


def test_the_figures_and_the_markdown_lie_beside_it(written):
    drawn = {path.stem for path in written.folder.glob("*.png")}
    assert drawn == {
        "attribution", "calibration", "confusion", "curves", "embedding", "feature_maps", "filters", "gallery-hits",
        "gallery-mistakes", "histograms", "training_labels",
    }  # fmt: skip
    for name in drawn:
        with Image.open(written.folder / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 1
    text = (written.folder / "report.md").read_text()
    assert {match[1] for match in re.finditer(r"!\[[^]]*\]\(([\w-]+)\.png\)", text)} == drawn
    assert "| c1 |" in text and "## Confusion matrix" in text


def test_the_cells_hold_the_examples_of_the_confusion_matrix(written, convolutional):
    probabilities, labels = runs.predict_split([convolutional])
    confusion = tasks.confusion_matrix(probabilities, labels)
    page, data = written.page.read_text(), data_of(written.page)
    buttons = re.findall(r'data-cell="(\d+),(\d+)"[^>]*>(\d+)<', page)
    shown = np.zeros_like(confusion)
    for row, column, count in buttons:
        shown[int(row), int(column)] = int(count)
        assert len(data["confusion"][f"{row},{column}"]) >= min(int(count), 12)
    np.testing.assert_array_equal(shown, confusion)
    places = [place for cell in data["confusion"].values() for place, _ in cell]
    assert len(places) == len(set(places)) <= data["atlas"]["columns"] * data["atlas"]["rows"]
    assert data["embedding"]["labels"] == labels.tolist()
    assert (
        np.flatnonzero(data["embedding"]["wrong"]).tolist()
        == np.flatnonzero(probabilities.argmax(-1) != labels).tolist()
    )


def test_the_curves_are_the_history(written, convolutional):
    (curves,) = data_of(written.page)["curves"]["runs"]
    (line,) = [line for line in convolutional.history if "train/loss" in line]
    assert curves["valid/loss"] == [[1, pytest.approx(line["valid/loss"], rel=1e-5)]]


def test_several_runs_are_compared(convolutional, finished_run, tmp_path):
    given = [convolutional.workdir, finished_run.workdir]
    written = write_report(given, tmp_path / "both.html")
    assert written.folder == tmp_path / "both_files" and (written.folder / "curves.png").exists()
    assert sections(written.page) == [
        "summary", "figures", "curves", "pairs", "config", "diagnosis", "calibration", "environment",
    ]  # fmt: skip
    page, text = written.page.read_text(), (written.folder / "report.md").read_text()
    predictions = [runs.predict_split([run])[0].argmax(-1) for run in (convolutional, finished_run)]
    labels = cnnjax.load_dataset(finished_run.config.dataset).splits["test"].labels
    found = tasks.compare(*predictions, labels)
    assert f"| convolutional − finished | {found.difference:+.4f} |" in text
    assert f"| {found.only_first} | {found.only_second} | {found.p_value:.3g} |" in text
    hits = [int((one == labels).sum()) for one in predictions]
    ends = [[f"{100 * end:.2f}" for end in tasks.wilson_interval(count, 355)] for count in hits]
    for count, (low, high) in zip(hits, ends, strict=True):
        assert f"| {count} of 355 | {low} to {high} % |" in text and f"{low} to {high} %" in page
    assert "<td>model.name</td><td>lenet5</td><td>mlp</td>" in page and "<td>seed</td>" not in page
    assert [run["name"] for run in data_of(written.page)["curves"]["runs"]] == ["convolutional", "finished"]


def without_checkpoints(workdir):
    shutil.rmtree(workdir / "checkpoints")


def interrupted(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    (workdir / "metrics.jsonl").write_text("\n".join(lines[:1]) + "\n" + lines[1][:20])
    (workdir / "DONE").unlink()


def garbled(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    (workdir / "metrics.jsonl").write_text("\n".join([lines[0], "\x00\x00rubbish", '["a list"]', *lines[1:]]))


def without_metrics(workdir):
    (workdir / "metrics.jsonl").unlink()


def other_data(workdir):
    described = json.loads((workdir / "dataset.json").read_text())
    (workdir / "dataset.json").write_text(json.dumps(described | {"fingerprint": "0" * 16}))


def data_gone(workdir):
    config = json.loads((workdir / "config.json").read_text())
    config["dataset"]["name"] = "/nowhere/photos"
    (workdir / "config.json").write_text(json.dumps(config))


def not_finite(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    lines[1] |= {"train/loss": float("nan"), "valid/loss": float("inf")}
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def without_descriptions(workdir):
    (workdir / "dataset.json").unlink()
    (workdir / "environment.json").write_text("{")


def damaged_config(workdir):
    (workdir / "config.json").write_text('{"seed": 0}')


BROKEN = [
    (without_checkpoints, ["Weights: .* has no checkpoint yet"], {"curves", "network", "config"}, {"confusion", "histograms"}),
    (interrupted, ["1 of the 2 lines of metrics.jsonl cannot be read", "is not finished: 1 of 2 epochs", "has not measured its test figures"], {"curves", "confusion", "histograms"}, set()),
    (garbled, ["2 of the 5 lines"], {"curves", "confusion", "histograms", "embedding"}, set()),
    (without_metrics, ["metrics.jsonl does not exist"], {"confusion", "gallery"}, {"curves"}),
    (other_data, ["Test examples: .* has changed since the run began"], {"curves", "network"}, {"confusion", "embedding"}),
    (data_gone, ["Test examples: .*nowhere/photos"], {"curves", "network"}, {"confusion", "embedding"}),
    (not_finite, ["Not always finite: train/loss, valid/loss"], {"curves", "confusion"}, set()),
    (without_descriptions, ["dataset.json is missing", "environment.json: not valid JSON"], {"curves", "config"}, {"confusion"}),
    (damaged_config, ["config.json is damaged"], {"curves", "environment"}, {"confusion", "config"}),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "sentences", "there", "absent"), BROKEN, ids=[case[0].__name__ for case in BROKEN])
def test_a_broken_run_says_what_is_missing_and_shows_the_rest(damage, sentences, there, absent, finished_run, tmp_path):
    workdir = shutil.copytree(finished_run.workdir, tmp_path / "run")
    damage(workdir)
    written = write_report(workdir, examples=40)
    said = "\n".join(written.missing)
    for sentence in sentences:
        assert re.search(sentence, said), said
    found = set(sections(written.page))
    assert there <= found and not absent & found, found
    assert all(sentence in (written.folder / "report.md").read_text() for sentence in written.missing)
    assert "What is missing" in written.page.read_text()


@pytest.mark.slow
def test_where_all_features_are_equal_the_embedding_is_left_out(digits_config, tmp_path):
    """In a process of its own: scikit-learn's t-SNE, which divides by their spread, ended it by a segmentation fault."""
    config = digits_config | {"initial": {"scale": 0.0}, "optimizer": {"learning_rate": 1e-30}}
    config |= {"train": {"batch_size": 128, "epochs": 1}}
    cnnjax.train(config, tmp_path / "run")
    command = [sys.executable, "-m", "cnnjax", "report", str(tmp_path / "run"), "--examples", "60"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, (done.returncode, done.stderr)
    said = "Embedding could not be shown: embed: the features of all 60 examples are equal"
    page = tmp_path / "run" / "report" / "index.html"
    assert said in done.stdout and said in page.read_text() and said in (page.parent / "report.md").read_text()
    assert "histograms" in sections(page) and "embedding" not in sections(page)


def test_figures_of_an_earlier_report_do_not_stay(finished_run, tmp_path):
    workdir = shutil.copytree(finished_run.workdir, tmp_path / "run")
    (workdir / "report").mkdir()
    (workdir / "report" / "confusion.png").write_bytes(b"old")
    (workdir / "report" / "notes.txt").write_text("mine")
    without_checkpoints(workdir)
    write_report(workdir)
    assert not (workdir / "report" / "confusion.png").exists() and (workdir / "report" / "notes.txt").exists()
    assert run_directory.foreign_files(workdir) == []


def test_names_of_classes_are_text_and_no_markup(finished_run, tmp_path):
    workdir = shutil.copytree(finished_run.workdir, tmp_path / "run")
    described = json.loads((workdir / "dataset.json").read_text())
    described["label_names"][3] = "</script><script>alert(1)</script>|"
    (workdir / "dataset.json").write_text(json.dumps(described))
    page = write_report(workdir, examples=60).page
    assert (
        "<script>alert" not in page.read_text()
        and data_of(page)["embedding"]["names"][3] == described["label_names"][3]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}"], "holds no run (config.json is missing): train one"),
        (["{run}", "{run}"], "expected one run directory, or several different ones"),
        (["{run}", "--out", "{tmp}/page.pdf"], "expected a name that ends in .html"),
        (["{run}", "--out", "{tmp}/nowhere/page.html"], "there is no folder {tmp}/nowhere"),
        (["{run}", "--examples", "0"], "expected at least 1"),
    ],
)
def test_what_cannot_be_reported_is_one_line(arguments, message, finished_run, tmp_path, capsys):
    fill = {"tmp": str(tmp_path), "run": str(finished_run.workdir)}
    with pytest.raises(SystemExit) as caught:
        cli.main(["report", *(argument.format(**fill) for argument in arguments)])
    captured = capsys.readouterr()
    assert caught.value.code == 1 and len(captured.err.splitlines()) == 1 and message.format(**fill) in captured.err
    assert not list(tmp_path.iterdir())


# --- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser's driver: pip install 'cnnjax[test]'")
    if not CHROMIUM.exists():  # no package of Python's brings a browser; `.ci/run` installs Debian's
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"]
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser):
    """A function that opens a page, and fails the test afterwards for whatever the browser complained of."""
    complaints, contexts = [], []

    def show(path, width=1200, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request", lambda asked: None if asked.url.startswith(("file:", "data:")) else complaints.append(asked.url)
        )
        page.goto(path.resolve().as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert not complaints


def curve(page, chart, key):
    return page.get_attribute(f'[data-chart="{chart}"] path[data-key="{key}"]', "d")


@pytest.mark.slow
def test_the_page_works_in_a_browser(written, opened):
    page, data = opened(written.page), data_of(written.page)
    loaded = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert len(loaded) > 50 and all(loaded)
    # Every cell shows its examples, by mouse and by keyboard.
    for cell in page.query_selector_all("[data-cell]"):
        cell.click()
        shown = page.query_selector_all("#examples .thumb")
        captions = [caption for _, caption in data["confusion"][cell.get_attribute("data-cell")]]
        assert [thumb.get_attribute("aria-label") for thumb in shown] == captions
        assert cell.get_attribute("aria-label") in page.inner_text("#examples p")
        assert cell.get_attribute("aria-pressed") == "true"
    first = page.query_selector("[data-cell]")
    first.focus()
    page.keyboard.press("Enter")
    assert first.get_attribute("aria-pressed") == "true"
    assert page.evaluate("getComputedStyle(document.querySelector('.thumb')).backgroundImage").startswith(
        'url("data:image/png'
    )
    # The map's methods, and a class alone.
    circle = "#embedding-map circle"
    before = page.get_attribute(circle, "cx")
    page.click("[data-method=PCA]")
    assert (
        page.get_attribute(circle, "cx") != before and page.get_attribute("[data-method=PCA]", "aria-pressed") == "true"
    )
    page.click("#embedding-legend button")
    shown = data["embedding"]["labels"].count(min(data["embedding"]["labels"]))
    assert len(page.query_selector_all(f"{circle}:not(.faint)")) == shown
    # Another image's feature maps.
    assert page.is_visible("#maps-0") and not page.is_visible("#maps-1")
    page.click("[data-panel=maps-1]")
    assert page.is_visible("#maps-1") and not page.is_visible("#maps-0")


@pytest.mark.slow
def test_the_curves_can_be_smoothed_and_toggled(finished_run, tmp_path, opened):
    workdir = shutil.copytree(finished_run.workdir, tmp_path / "run")
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    more = [
        lines[0] | {"epoch": epoch, "step": 10 * epoch, "valid/loss": 2.0 / epoch + 0.3 * (epoch % 2)}
        for epoch in range(3, 12)
    ]
    rates = [line | {"learning_rate": 0.64 - 0.04 * line["epoch"]} for line in [*lines[:2], *more]]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*rates, lines[2]]))
    page = opened(write_report(workdir, examples=20).page)
    marks = page.query_selector_all('[data-chart="learning_rate"] line.grid')
    assert len(marks) >= 2  # of rates from 0.2 to 0.6
    plain = curve(page, "loss", "0 valid")
    assert plain.count("L") == 10
    page.check("[name=log]")
    logarithmic = curve(page, "loss", "0 valid")
    page.uncheck("[name=log]")
    page.fill("[name=smoothing]", "0.8")
    assert len({plain, logarithmic, curve(page, "loss", "0 valid")}) == 3
    page.fill("[name=smoothing]", "0")
    assert curve(page, "loss", "0 valid") == plain
    page.click("#curves-legend button:nth-child(2)")
    assert page.query_selector('[data-chart="loss"] path[data-key="0 valid"]') is None
    page.hover('[data-chart="loss"] svg')
    assert page.inner_text('[data-chart="loss"] .tip').startswith("epoch")


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1200, "dark"), (800, "light"), (390, "light")])
def test_it_suits_the_dark_and_a_phone(written, opened, width, scheme):
    page = opened(written.page, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    links = page.evaluate("[...document.querySelectorAll('nav a')].map(link => link.getBoundingClientRect().toJSON())")
    assert len(links) == len(SINGLE) - 2  # the summary and the figures have no title
    assert all(link["left"] >= 0 and link["right"] <= width and link["height"] > 15 for link in links)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert light < 60 if scheme == "dark" else light > 200


@pytest.mark.slow
def test_broken_and_compared_runs_open_without_complaint(convolutional, finished_run, tmp_path, opened):
    page = opened(write_report([convolutional.workdir, finished_run.workdir], tmp_path / "both.html").page)
    assert len(page.query_selector_all('[data-chart="loss"] path')) == 4
    assert len(page.query_selector_all('[data-chart="loss"] circle')) == 2  # of the run of one epoch there are points
    workdir = shutil.copytree(finished_run.workdir, tmp_path / "run")
    damaged_config(workdir)
    assert opened(write_report(workdir).page).is_visible(".notice")


@pytest.mark.slow
@pytest.mark.usefixtures("default_compiler")
def test_the_quickstarts_report_takes_less_than_twenty_seconds(tmp_path):
    command = [sys.executable, "-m", "cnnjax"]
    subprocess.run(
        [*command, "train", "--config", "quickstart", "--workdir", tmp_path / "run"], check=True, capture_output=True
    )
    start = time.perf_counter()
    done = subprocess.run([*command, "report", tmp_path / "run"], check=True, capture_output=True, text=True)
    assert time.perf_counter() - start < 20
    page = tmp_path / "run" / "report" / "index.html"
    assert f"report: {page}" in done.stdout and page.stat().st_size < 5e6 and sections(page) == SINGLE
