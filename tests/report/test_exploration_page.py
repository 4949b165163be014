"""The page of an exploration: pictures that can be read, and nothing from the network."""

import base64
import io
import re

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
    assert re.findall(r'<section id="(\w+)">', text) == list(tables)
    assert tables["splits"].title == "made: 3 classes, images of 24x24x3"
    assert len(tables["pairs"].table.rows) == len(found.duplicates) == 3
