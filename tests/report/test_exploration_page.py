"""The page of an exploration: pictures that can be read, and nothing from the network."""

import base64
import dataclasses
import io
import re

import numpy as np
from PIL import Image

from cnnjax.report import exploration, exploration_page
from tests.report.test_exploration import planted  # noqa: F401


def test_the_page_stands_alone(planted):  # noqa: F811
    text = exploration_page.as_page(exploration.explore(planted))
    assert text.startswith("<!DOCTYPE html>") and "prefers-color-scheme: dark" in text and "width=device-width" in text
    sources = re.findall(r'(?:src|href)="([^"]{0,22})', text)
    pictures = [source for source in sources if not source.startswith("#") and source != "data:,"]
    assert pictures and all(source == "data:image/png;base64," for source in pictures)
    for encoded in re.findall(r"base64,([^\")]+)", text):
        assert Image.open(io.BytesIO(base64.b64decode(encoded))).width > 1
    for expected in ("newt", "test[1]", "train[4]", "always guessing the largest"):
        assert expected in text


def test_every_table_is_a_section_of_the_page(planted):  # noqa: F811
    found = exploration.explore(planted)
    tables = exploration_page.tables(found)
    text = exploration_page.as_page(found)
    assert re.findall(r'<section id="(\w+)">', text) == ["summary", *tables]
    assert tables["splits"].title == "made: 3 classes, images of 24x24x3"
    assert len(tables["pairs"].table.rows) == len(found.duplicates) == 3
    # Terminal and JSON tell columns apart by their names.
    assert all(len(set(table.columns)) == len(table.columns) for _, table in tables.values())
    # train[9] is train[8] under another label: named in the terminal, and both shown on the page.
    assert tables["copies"].table.rows[0][:4:2] == ("train[9]", "train[8]") and len(tables["copies"].table.rows) == 1
    assert text.count('<div class="both">') == 4 and text.count('<b class="wrong">') >= 2


def test_the_summary_says_what_should_not_be_there(planted):  # noqa: F811
    found = exploration.explore(planted)
    assert exploration_page.summary(found) == (
        "21 images: 12 in train, 4 in valid, 5 in test. The largest class, cat 6, has 2.0 times the images of the smallest, "
        "dog 3. Images equal to an earlier image of their split: 1, 1 of them with another label. Images with a copy or near-copy in an "
        "earlier split: 3; with them, test figures are better than on new images."
    )
    clean = dataclasses.replace(
        found,
        duplicates=(),
        splits={"test": dataclasses.replace(found.splits["test"], class_counts=np.array([2, 2, 1]))},
    )
    assert exploration_page.summary(clean).endswith("There are no duplicates.")
