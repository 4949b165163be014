"""Pages and their Markdown: text is escaped, blocks stand where they were put, figures are files of their sections' names."""

import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure as Drawing

from cnnjax.report.blocks import Columns, Details, Figure, Heading, Section, Table, Template, Text, figure_file, figures
from cnnjax.report.markdown import render_markdown
from cnnjax.report.page import as_json, render_block, render_page


def test_text_is_escaped_and_blocks_in_cells_are_not():
    table = str(render_block(Table(("<a>",), [("1 < 2 & 3",), (Template("bar.html", {"share": 0.5}),)])))
    assert (
        '<th scope="col">&lt;a&gt;</th>' in table and "<td>1 &lt; 2 &amp; 3</td>" in table and "width:3.00rem" in table
    )
    page = render_page("<t>", "<s>", {"x": Section("x < y", [Text("<p>"), Heading("<h>")])}, ["<m>"])
    assert "<h2>x &lt; y</h2>" in page and "<li>&lt;m&gt;</li>" in page
    for text in ("<t>", "<s>", "<h>", "<m>", "<p><p>"):
        assert text not in page


def test_the_scripts_data_cannot_end_its_element_and_say_null_for_what_is_not_finite():
    data = {
        "</script>": np.array([1.0, np.nan]),
        "number": np.int64(3),
        "long": 1 / 3,
        "none": None,
        "pair": (True, "x"),
    }
    page = render_page("t", "", {"mine": Section("Mine", [], data)})
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]
    expected = {"</script>": [1.0, None], "number": 3, "long": 0.333333, "none": None, "pair": [True, "x"]}
    assert json.loads(found)["mine"] == expected == as_json(data)


@pytest.fixture
def nested():
    """A figure in each kind of block that may hold one."""
    figure = lambda name: Figure(Drawing(), f"caption {name}", name)  # noqa: E731
    return Section(
        "Mine",
        [
            figure(""),
            Details("more", [figure("details")]),
            Columns({"left": [figure("columns")]}),
            Template("bar.html", {"share": 1}, [figure("template"), Table(("a|b",), [("c|d",)])]),
        ],
    )


def test_every_figure_is_a_file_that_markdown_shows(nested):
    names = ["mine.png", "mine-details.png", "mine-columns.png", "mine-template.png"]
    assert [figure_file("mine", figure) for figure in figures(nested.blocks)] == names
    text = render_markdown("t", "s", {"mine": nested})
    assert re.findall(r"\]\((.*?)\)", text) == names
    assert "| a\\|b |\n| --- |\n| c\\|d |" in text and "## Mine" in text and "### more" in text and "### left" in text


def test_the_page_shows_a_figure_unless_a_template_stands_for_it(nested):
    page = render_page("t", "s", {"mine": nested})
    assert re.findall(r'alt="(caption \w*)"', page) == ["caption ", "caption details", "caption columns"]
