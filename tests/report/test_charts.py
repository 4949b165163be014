"""Charts of a page: what is drawn is as long as what it stands for."""

import re

import numpy as np
import pytest

from cnnjax.report.charts import Axes, colour_scale, column_chart, interval_chart
from cnnjax.report.page import render_block


def test_values_lie_between_the_ends_of_their_axis_and_ticks_within_it():
    axes = Axes((10, 20), (0, 4), "x", "y", width=300, height=200, left=50, right=50, top=20, bottom=30)
    assert (axes.at_x(10), axes.at_x(20), axes.at_x(15)) == (50, 250, 150)
    assert (axes.at_y(4), axes.at_y(0)) == (20, 170)
    assert [text for _, text in axes.x_ticks] == ["10", "12", "14", "16", "18", "20"]
    assert [text for _, text in Axes((0, 1), (0, 12000), "", "").y_ticks][-1] == "10,000"


def test_columns_are_as_high_as_their_counts():
    drawn = str(render_block(column_chart(np.array([0, 2, 4]), 0.0, 3.0, "<x>", "images", "label")))
    heights = [float(height) for height in re.findall(r'class="column"[^>]* height="([\d.]+)"', drawn)]
    assert len(heights) == 2 and heights[1] == pytest.approx(2 * heights[0], abs=0.02)
    assert "&lt;x&gt;" in drawn and "<x>" not in drawn and 'aria-label="label"' in drawn and "2 to 3: 4 images" in drawn


def test_a_group_without_values_has_its_name_alone():
    drawn = str(render_block(interval_chart(["a", "b"], [[0.5, 0.7], []], [(0.4, 0.8), None], "accuracy", "label")))
    assert drawn.count("<circle") == 2 and drawn.count('class="mean"') == drawn.count('class="bar"') == 1
    mean = float(re.search(r'class="mean" x1="([\d.]+)"', drawn)[1])
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawn)]
    assert mean == pytest.approx(np.mean(places), abs=0.02)
    assert "<circle" not in str(render_block(interval_chart(["a"], [[]], [None], "accuracy", "label")))


def test_a_colour_bar_runs_from_the_first_colour_of_its_map_to_the_last():
    drawn = str(render_block(colour_scale("least", "greatest")))
    assert "linear-gradient(90deg,#000000," in drawn and ",#ffffff)" in drawn and "least" in drawn
