"""Matching against torchvision's matchers, and sampling by what it promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.detection import Objects
from cnnjax.detection.boxes import intersection_over_union
from cnnjax.detection.matching import (
    BACKGROUND,
    NEITHER,
    match,
    match_default_boxes,
    match_points,
    matched,
    sample,
    without_ignored,
)
from tests.detection.reference import PARTS

ANCHORS, OBJECTS = PARTS["iou/anchors"], PARTS["iou/objects"]
OVERLAPS = PARTS["iou/values"]
ALL = np.ones(len(OBJECTS), bool)
drawn_of = jax.jit(sample, static_argnums=(2, 3))
matches_of = jax.jit(match, static_argnums=4)
default_matches_of, points_of = jax.jit(match_default_boxes), jax.jit(match_points)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("rpn", (0.7, 0.3, True)), ("retinanet", (0.5, 0.4, True)), ("box_head", (0.5, 0.5, False))],
)
def test_matches_are_torchvisions(name, settings):
    np.testing.assert_array_equal(matches_of(OVERLAPS, ALL, *settings), PARTS[f"match/{name}"])


def test_default_boxes_are_matched_as_in_torchvision():
    np.testing.assert_array_equal(default_matches_of(OVERLAPS, ALL, 0.5), PARTS["match/ssd"])


@pytest.mark.parametrize("matcher", [lambda *given: matches_of(*given, 0.5, 0.4, True), lambda *given: default_matches_of(*given, 0.5)])  # fmt: skip
def test_padding_and_objects_that_nothing_overlaps_match_nothing(matcher):
    padded = np.concatenate((OVERLAPS, OVERLAPS[:, ::-1]), 1)
    wanted = np.arange(2 * len(OBJECTS)) < len(OBJECTS)
    np.testing.assert_array_equal(matcher(padded, wanted), matcher(OVERLAPS, ALL))
    assert (matcher(OVERLAPS, ~ALL) == BACKGROUND).all()
    assert (matcher(np.zeros_like(OVERLAPS), ALL) == BACKGROUND).all()


def test_a_point_is_the_smallest_objects_in_whose_centre_it_lies():
    points = np.array([(x - 4, y - 4, x + 4, y + 4) for y in (8, 16, 24) for x in (8, 16, 24)], np.float32)
    boxes = np.array([(0, 0, 32, 32), (10, 10, 22, 22), (0, 0, 32, 32)], np.float32)
    everywhere = np.tile(np.float32((0, np.inf)), (9, 1))
    wanted = np.array((True, True, False))
    found = points_of(points, boxes, wanted, everywhere, 1.5)
    np.testing.assert_array_equal(found, [0, 0, 0, 0, 1, 0, 0, 0, 0])
    near = points_of(points, boxes, wanted, everywhere, 0.5)
    np.testing.assert_array_equal(near, [-1, -1, -1, -1, 1, -1, -1, -1, -1])
    coarse = np.tile(np.float32((16.5, 64)), (9, 1))  # the corners are 24 from the farthest side, the middle 16
    found = points_of(points, boxes, wanted, coarse, 1.5)
    np.testing.assert_array_equal(found, [0, 0, 0, 0, -1, 0, 0, 0, 0])


def test_background_within_an_ignored_object_is_neither():
    boxes = jnp.array([[(0, 0, 50, 50), (60, 60, 90, 90)]], jnp.float32)
    anchors = np.array([(10, 10, 20, 20), (40, 40, 60, 60), (65, 65, 80, 80), (0, 0, 4, 4)], np.float32)
    objects = Objects(boxes, jnp.zeros((1, 2), int), jnp.array([[True, True]]), jnp.array([[True, False]]))
    found = jax.jit(without_ignored)(jnp.array([[BACKGROUND, BACKGROUND, BACKGROUND, 1]]), anchors, objects)
    np.testing.assert_array_equal(found, [[NEITHER, BACKGROUND, BACKGROUND, 1]])


def test_values_of_matches():
    values = jnp.array([[10, 20, 30], [40, 50, 60]])
    found = jax.jit(matched)(jnp.array([[2, BACKGROUND, 0, NEITHER], [1, 1, 1, 1]]), values)
    np.testing.assert_array_equal(found, [[30, 0, 10, 0], [50, 50, 50, 50]])


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [(10, 90, (4, 12)), (2, 90, (2, 14)), (0, 90, (0, 16)), (10, 3, (4, 3)), (0, 0, (0, 0)), (100, 0, (4, 0))],
)
def test_as_many_are_drawn_as_there_are_and_none_twice(positives, negatives, expected):
    matches = np.full(100, NEITHER)
    matches[:positives], matches[100 - negatives :] = 3, BACKGROUND
    matches = np.random.default_rng(0).permutation(matches)
    keys = jax.random.split(jax.random.key(0), 3)
    places, drawn = drawn_of(keys, np.tile(matches, (3, 1)), 16, 0.25)
    assert places.shape == drawn.shape == (3, 16)
    for each, which in zip(np.asarray(places), np.asarray(drawn), strict=True):
        chosen = each[which]
        assert len(set(chosen)) == len(chosen) == sum(expected)
        np.testing.assert_array_equal(matches[chosen], [3] * expected[0] + [BACKGROUND] * expected[1])
    if positives == 10 and negatives == 90:
        assert len({tuple(each) for each in np.asarray(places)}) == 3  # an example's own numbers


def test_all_are_drawn_equally_often():
    matches = np.where(np.arange(20) < 8, 0, BACKGROUND)[None]
    keys = jax.random.split(jax.random.key(1), 4000)
    places, _ = drawn_of(keys, np.repeat(matches, 4000, 0), 6, 0.5)
    counts = np.bincount(np.asarray(places).ravel(), minlength=20) / 4000
    np.testing.assert_allclose(counts, [3 / 8] * 8 + [3 / 12] * 12, atol=0.04)


def test_fewer_anchors_than_are_to_be_drawn():
    places, drawn = drawn_of(jax.random.split(jax.random.key(0), 1), jnp.array([[0, BACKGROUND, NEITHER]]), 8, 0.5)
    assert drawn.tolist() == [[True, True] + [False] * 6] and places[0, :2].tolist() == [0, 1]
    assert int(jnp.max(places)) < 3


def test_overlaps_are_torchvisions():
    np.testing.assert_allclose(jax.jit(intersection_over_union)(ANCHORS, OBJECTS), OVERLAPS, rtol=1e-6, atol=1e-7)
