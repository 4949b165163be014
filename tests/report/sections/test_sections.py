"""The list of sections: what a file must have, who is left out, and that one which fails costs nothing else."""

import dataclasses
import json
import pkgutil
import re
import shutil
import sys
import types

import numpy as np
import pytest
from matplotlib.figure import Figure as Drawing

from cnnjax.report import sections
from cnnjax.report.blocks import Figure, Section, Table, Text, figure_file, figures
from cnnjax.report.contents import KINDS, RunContents, read_contents
from cnnjax.report.markdown import render_markdown
from cnnjax.report.page import render_page
from cnnjax.report.report import write_report


@pytest.fixture(scope="module")
def contents(finished_run):
    return read_contents(finished_run.workdir, 60)


def test_every_file_is_listed_and_has_what_its_list_asks_for():
    assert {*sections.RUN, *sections.COMPARISON} == {module.name for module in pkgutil.iter_modules(sections.__path__)}
    for names, function in ((sections.RUN, "section"), (sections.COMPARISON, "compare")):
        assert len(set(names)) == len(names)
        for name in names:
            module = __import__(f"{sections.__name__}.{name}", fromlist=["NEEDS"])
            assert callable(getattr(module, function)) and "-" not in name
            known = {field.name for field in dataclasses.fields(RunContents)} | set(dir(RunContents)) | set(KINDS)
            assert set(module.NEEDS) <= known


def test_a_section_of_ones_own_is_a_file_and_a_line(finished_run, tmp_path, monkeypatch):
    """As its author would write it: it is in the page, in Markdown, and its figures are files that the next report deletes."""

    def section(contents):
        figure = Drawing()
        figure.subplots().plot([1, 2])
        blocks = [
            Text(f"{len(contents.epochs)} epochs"),
            Table(("a", "b"), [(1, 2)]),
            Figure(figure, "two lines", "lines"),
        ]
        return Section("My own", blocks, {"values": np.arange(2)})

    mine = types.ModuleType(f"{sections.__name__}.mine")
    mine.NEEDS, mine.section = ("epochs",), section
    workdir = shutil.copytree(finished_run.workdir, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, mine.__name__, mine)
        patch.setattr(sections, "RUN", ("figures", "mine"))
        written = write_report(workdir, examples=20)
        page, text = written.page.read_text(), (written.folder / "report.md").read_text()
        assert '<section id="mine">' in page and '<a href="#mine">My own</a>' in page and "2 epochs" in page
        assert '"mine": {"values": [0, 1]}' in page and 'alt="two lines"' in page
        assert "## My own" in text and "![two lines](mine-lines.png)" in text and "| 1 | 2 |" in text
        assert [path.name for path in written.folder.glob("*.png")] == ["mine-lines.png"]
        mine.section = lambda contents: Section("My own", [])
        write_report(workdir, examples=20)
        assert not list(written.folder.glob("*.png"))


def test_a_section_that_fails_is_left_out_and_said_whatever_its_error(contents, monkeypatch):
    class Odd(Exception):
        pass

    def section(contents):
        raise Odd("no\nluck")

    mine = types.ModuleType(f"{sections.__name__}.my_own")
    mine.NEEDS, mine.section, mine.compare = (), section, section
    monkeypatch.setitem(sys.modules, mine.__name__, mine)
    monkeypatch.setattr(sections, "RUN", ("config", "my_own", "environment"))
    monkeypatch.setattr(sections, "COMPARISON", ("my_own", "environment"))
    made, failed = sections.run_sections(contents)
    assert list(made) == ["config", "environment"] and failed == ["My own could not be shown: no luck"]
    made, failed = sections.comparison_sections({"a": contents, "b": contents})
    assert list(made) == ["environment"] and failed == ["My own could not be shown: no luck"]


def without_classes(contents):
    """The contents of a run whose task is a regression: other metrics, no classes."""
    renamed = [
        {key.replace("accuracy", "mae"): value for key, value in line.items() if "nll" not in key}
        for line in contents.history
    ]
    described = {key: value for key, value in contents.described.items() if key != "label_names"}
    return dataclasses.replace(contents, history=renamed, described=described, kind=None, predictions=None)


def test_a_run_without_classes_has_every_section_that_needs_none(contents):
    made, failed = sections.run_sections(without_classes(contents))
    assert not failed
    assert list(made) == [
        "summary",
        "figures",
        "diagnosis",
        "curves",
        "network",
        "config",
        "environment",
    ]  # it is a dense network
    both, failed = sections.comparison_sections({"a": without_classes(contents), "b": contents})
    assert not failed and "This needs two runs" in both["pairs"].blocks[0].text
    page = render_page("t", "s", made)
    [line] = [line for line in contents.history if "test/accuracy" in line]
    tiles = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert tiles["test mae"] == f"{line['test/accuracy']:.4g}" and tiles["test loss"] == f"{line['test/loss']:.4g}"
    assert not {"test accuracy", "right", "best validation accuracy"} & tiles.keys()
    assert "which this task does not have" in page and "known faults" not in page


def test_every_metric_has_its_curves(contents):
    made, _ = sections.run_sections(without_classes(contents))
    section = made["curves"]
    assert [metric["name"] for metric in section.data["metrics"]] == ["loss", "mae"]
    [run] = section.data["runs"]
    epochs = contents.epochs
    np.testing.assert_array_equal(run["valid/mae"], [[line["epoch"], line["valid/accuracy"]] for line in epochs])
    page = render_page("t", "s", made)
    assert re.findall(r'data-chart="(\w+)"', page) == ["loss", "mae", "learning_rate"]
    [figure] = figures(section.blocks)
    assert figure_file("curves", figure) == "curves.png" and figure.caption == "loss, mae and learning rate by epoch"
    assert [axes.get_ylabel() for axes in figure.drawing.axes] == ["loss (nats)", "mae", "learning rate"]


def test_what_a_classification_showed_it_shows(contents):
    made, failed = sections.run_sections(contents)
    assert not failed and set(sections.RUN) - set(made) == {
        "boxes",
        "filters",
        "labels",
        "maps",
        "numbers",
    }  # dense, one class an image
    assert [metric["title"] for metric in made["curves"].data["metrics"]] == ["loss (nats)", "accuracy"]
    assert json.dumps(made["curves"].data["metrics"][1]) == '{"name": "accuracy", "title": "accuracy", "bounded": true}'


def test_probes_are_small_lines_of_the_page_alone(contents):
    probes = {"probe/fc1/dead": 0.25, "probe/fc1/update_ratio": 1e-3, "probe/fc2/dead": float("nan")}
    history = [line | probes if "train/loss" in line else line for line in contents.history]
    made, failed = sections.run_sections(dataclasses.replace(contents, history=history))
    page, text = render_page("t", "s", made), render_markdown("t", "s", made)
    assert not failed and "<summary>Probes</summary>" in page
    assert page.count("from 0.25 to 0.25, smallest 0.25, largest 0.25") == 2  # a label and a title
    assert page.count('class="spark"') == 2 and page.count("<figcaption>fc2</figcaption>") == 1
    assert "Probes" not in text and "update ratio" not in text
