"""Composed scenes: the pixels of real items with their classes, the same every time."""

import numpy as np
import pytest

import cnnjax
from cnnjax.data import scenes

ITEMS = np.random.RandomState(0).randint(120, 256, (6, 28, 28)).astype(np.uint8)
ITEMS[:, :5] = ITEMS[:, :, :4] = 0
LABELS = np.arange(6)
KIND = scenes.KINDS["digit_scenes"]


def composed(position, split="train"):
    return scenes.compose(KIND, ITEMS, LABELS, split, position)


def test_boxes_and_classes_are_those_of_the_pixels():
    overlapping = 0
    for position in range(40):
        scene = composed(position)
        assert scene.image.shape == (64, 64, 1) and scene.image.dtype == scene.classes.dtype == np.uint8
        assert 1 <= len(scene.labels) <= 6 and len(scene.boxes) == len(scene.labels)
        covered = np.zeros((64, 64), bool)
        for (top, left, bottom, right), label in zip(scene.boxes, scene.labels, strict=True):
            inside = scene.classes[top:bottom, left:right] == label
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
            overlapping += covered[top:bottom, left:right].any()
            covered[top:bottom, left:right] = True
        assert set(np.unique(scene.classes)) == {0, *scene.labels}
        assert not scene.classes[~covered].any()
        assert scene.image[scene.classes > 0].mean() > scene.image[scene.classes == 0].mean()
    assert overlapping


def test_a_scene_is_a_function_of_its_split_and_position():
    one, again, other, test = composed(3), composed(3), composed(4), composed(3, "test")
    np.testing.assert_array_equal(one.image, again.image)
    assert not np.array_equal(one.image, other.image) and not np.array_equal(one.image, test.image)


def test_items_of_fashion_keep_their_size_and_hardly_cover_each_other():
    kind = scenes.KINDS["fashion_scenes"]
    found = [scenes.compose(kind, ITEMS, LABELS, "train", position) for position in range(60)]
    whole = (ITEMS[0] > 0).sum()
    for scene in found:
        for box, label in zip(scene.boxes, scene.labels, strict=True):
            top, left, bottom, right = box
            pixels = (scene.classes[top:bottom, left:right] == label).sum()
            assert 0.85 * whole < pixels * (scene.labels == label).sum() and max(bottom - top, right - left) <= 29
        assert scene.image[scene.classes == 0].mean() < kind.background
    # These are squares of 24x23: four of them fill a scene, and with one place for each there would be two.
    assert np.mean([len(scene.labels) for scene in found]) > 3


def test_scenes_of_digits_by_name():
    data = cnnjax.load_dataset("digit_scenes")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 1500, "valid": 200, "test": 300}
    assert data.label_names == ("background", *map(str, range(10))) and data.image_shape == (64, 64, 1)
    assert data.splits["train"].labels.shape == (1500, 64, 64)
    for split in data.splits.values():
        assert set(np.unique(split.labels)) == {*range(11)}
    # The first scene is composed of the digits of the training slice, and of no others.
    digits = cnnjax.load_dataset("digits").splits["train"]
    scene = scenes.compose(KIND, np.asarray(digits.images)[..., 0], digits.labels, "train", 0)
    np.testing.assert_array_equal(data.splits["train"].images[0], scene.image)
    np.testing.assert_array_equal(data.splits["train"].labels[0], scene.classes)
    smaller = cnnjax.load_dataset(
        {"name": "digit_scenes", "resize": (32, 32), "streaming": True, "test_split": "test[:5]"}
    )
    assert smaller.splits["test"].labels.shape == (5, 32, 32) and smaller.splits["test"].images[:].shape == (
        5,
        32,
        32,
        1,
    )
    assert smaller.fingerprint != data.fingerprint


def test_classes_are_not_chosen_of_maps():
    with pytest.raises(ValueError, match="dataset.classes needs classes, but the targets are uint8"):
        cnnjax.load_dataset({"name": "digit_scenes", "classes": ("1", "2")})
    with pytest.raises(ValueError, match="dataset.balanced needs classes"):
        cnnjax.train(
            {
                "dataset": {"name": "digit_scenes", "balanced": True},
                "task": {"name": "segmentation"},
                "model": {"name": "tests.tasks.segmenter:Segmenter"},
            }
        )


@pytest.mark.parametrize("name", ["digit_scenes", "digit_scenes_128"])
def test_scenes_with_boxes_have_the_same_images(name):
    boxed = cnnjax.load_dataset({"name": name, "labels": "boxes", "train_split": "train[:1]", "test_split": "test[:9]"})
    kind, rows = scenes.KINDS[name], boxed.splits["test"].labels
    assert boxed.label_names == tuple(map(str, range(10))) and boxed.image_shape == (kind.side, kind.side, 1)
    assert rows.shape == (9, 6, 6) and rows.dtype == np.float32
    digits = cnnjax.load_dataset("digits").splits["test"]
    for position, own in enumerate(rows):
        scene = scenes.compose(kind, np.asarray(digits.images)[..., 0], digits.labels, "test", position)
        np.testing.assert_array_equal(boxed.splits["test"].images[position], scene.image)
        own = own[own[:, 4] >= 0]
        np.testing.assert_array_equal(own[:, [1, 0, 3, 2]], scene.boxes)
        np.testing.assert_array_equal(own[:, 4] + 1, scene.labels)
        assert not own[:, 5].any()
