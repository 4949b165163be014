"""HTML and SVG for notebooks: well-formed, escaped, and true to the numbers."""

import io
import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnnjax.core import html

NASTY = "<script>alert('x')</script> & \"quoted\" \x1b[31m\udc80"
SVG = "{http://www.w3.org/2000/svg}"


def parsed(text):
    """The elements of HTML that is well-formed XML too, but for the pictures' open tags."""
    return ElementTree.fromstring(f"<div>{text}</div>".replace('">\n', '"/>'))


def test_whatever_stands_in_names_is_shown_and_not_obeyed():
    parts = [
        html.card(NASTY, html.facts({NASTY: NASTY}), html.remark(NASTY), html.table([NASTY, "n"], [[NASTY, 1]])),
        html.curves(NASTY, {NASTY: [(1, 0.5), (2, 0.4)]}, marked=(2, NASTY)),
        html.spreads(NASTY, [NASTY], [[1.0, 2.0]], [(0.5, 2.5)]),
    ]
    for part in parts:
        whole = parsed(part)
        assert not [*whole.iter("script")] and "\x1b" not in part
        assert "<script>alert('x')</script>" in "".join(whole.itertext())
        part.encode("utf-8")


def test_numbers_stand_on_the_right_and_empty_facts_are_left_out():
    table = parsed(html.table(["name", "count"], [["a", "1,234"], ["b", "7"]], strong=[1]))
    styles = [cell.get("style") for cell in table.iter("td")]
    assert ["right" in style for style in styles] == [False, True, False, True]
    assert ["font-weight:600" in style for style in styles] == [False, False, True, True]
    assert [*parsed(html.facts({"a": "", "b": None, "c": 0})).itertext()] == ["c", "0"]


def points_of(svg, number):
    return [
        tuple(map(float, point.split(",")))
        for point in parsed(svg).findall(f".//{SVG}polyline")[number].get("points").split()
    ]


def test_a_curve_goes_where_its_values_are():
    svg = html.curves("loss", {"train": [(1, 4.0), (2, 2.0), (3, 0.0)], "valid": [(1, 0.0), (3, 4.0)]})
    valid, train = points_of(svg, 0), points_of(svg, 1)  # the first line is drawn last, on top
    (x1, y1), (x2, y2), (x3, y3) = train
    assert x2 == pytest.approx((x1 + x3) / 2) and y2 == pytest.approx((y1 + y3) / 2) and y1 < y3
    assert valid == [(x1, y3), (x3, y1)]


def test_what_is_not_finite_is_left_out_and_long_curves_are_thinned_out():
    assert html.curves("loss", {"train": [(1, math.nan)], "valid": []}) == ""
    assert parsed(html.curves("loss", {"train": [(1, 0.5), (2, math.inf)]})).find(f".//{SVG}circle") is not None
    shown = points_of(html.curves("loss", {"train": [(place, place) for place in range(10_000)]}), 0)
    assert 200 <= len(shown) <= html.POINTS + 1 and shown[-1] == max(shown)


def test_intervals_wider_than_the_chart_are_cut_and_said():
    svg = html.spreads("accuracy", ["a", "b"], [[0.5, 0.6], []], [(-1.0, 2.0), None])
    assert "-1 to 2" in "".join(parsed(svg).itertext())
    bars = [path.get("d") for path in parsed(svg).iter(f"{SVG}path") if path.get("opacity") == ".55"]
    start, end = map(float, bars[0].lstrip("M").replace("H", " ").split()[::2])
    assert 0 < start < end <= 620
    assert html.spreads("accuracy", ["a"], [[]], [None]) == ""


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_are_round_and_within(low, span, count):
    high = low + span
    found = html.ticks(low, high, count)
    near = 1e-6 * span + 4 * np.spacing(max(abs(low), abs(high)))  # or what float64 rounds
    assert len(found) <= count + 1 and all(low - near <= tick <= high + near for tick in found)
    steps = np.diff(found)
    assert np.allclose(steps, steps[:1], rtol=1e-6, atol=1e-9)


def test_pictures_are_stored_whole():
    pixels = np.random.RandomState(0).randint(0, 256, (5, 7, 3)).astype(np.uint8)
    for image in (pixels, pixels[..., :1]):
        again = np.asarray(Image.open(io.BytesIO(html.png(image))))
        np.testing.assert_array_equal(again, image if image.shape[-1] == 3 else image[..., 0])
    shown = html.gallery([pixels], [NASTY], 64)
    assert "&lt;script&gt;" in shown and "<script" not in shown and html.data_uri(html.png(pixels)) in shown


@pytest.mark.parametrize(("share", "width"), [(0.25, 25.0), (-1, 0.0), (7, 100.0), (math.nan, 0.0), (math.inf, 100.0)])
def test_a_bar_is_filled_from_nothing_to_all(share, width):
    assert f"width:{width:.1f}%" in html.bar(share)
