import dataclasses

import numpy as np
import pytest

import cnnjax
from cnnjax.data import augment
from cnnjax.data.augment import AugmentOptions
from tests.data.augment.examples import EVERYTHING


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"augment.hue needs 3 channels; the images have 6: leave it out, or write"):
        augment.check_images(AugmentOptions(hue=0.1), (8, 8, 6))
    with pytest.raises(
        ValueError, match=r"augment.crop=\(40, 8\) is larger than the images, 32x32 with 2 pixels of padding"
    ):
        augment.output_shape((32, 32, 3), AugmentOptions(pad=2, crop=(40, 8)))
    assert augment.output_shape((32, 32, 3), AugmentOptions(pad=4, crop=(36, 32))) == (36, 32, 3)
    assert {field.name for field in dataclasses.fields(AugmentOptions)} >= {*EVERYTHING, "mixup", "cutmix"}


@pytest.mark.parametrize(
    ("options", "shape", "dtype", "message"),
    [
        ({"rotation": 5.0}, (9, 1), "float32", "augment.rotation needs images with 2 or 3 spatial axes; these have 1: leave"),
        ({"tilt": 5.0}, (9, 9, 1), "float32", "augment.tilt needs images with 3 spatial axes; these have 2: leave it out"),
        ({"flip_depth": True}, (9, 9, 1), "uint8", "augment.flip_depth needs images with 3 spatial axes; these have 2"),
        ({"elastic": 1.0}, (9, 9, 9, 1), "uint8", "augment.elastic needs images with 2 spatial axes; these have 3"),
        ({"resized_crop": (0.5, 1.0)}, (9, 2), "uint8", "augment.resized_crop needs images with 2 spatial axes"),
        ({"iou_crop": (0.3, 1.0)}, (9, 2), "uint8", "augment.iou_crop needs images with 2 spatial axes"),
        ({"mosaic": 0.5}, (9, 9, 9, 2), "uint8", "augment.mosaic needs images with 2 spatial axes; these have 3"),
        ({"photometric": 0.5}, (9, 9, 1), "uint8", "augment.photometric needs 3 channels; the images have 1"),
        ({"photometric": 0.5}, (9, 9, 3), "float32", "augment.photometric needs values with a range .* float32"),
        ({"shear": 5.0}, (9, 2), "uint8", "augment.shear needs images with 2 spatial axes"),
        ({"randaugment": (2, 9.0)}, (9, 3), "uint8", "augment.randaugment needs images with 2 spatial axes"),
        ({"flip_vertical": True}, (9, 3), "uint8", "augment.flip_vertical needs images with 2 or 3 spatial axes"),
        ({"randaugment": (2, 9.0)}, (9, 9, 3), "uint16", "augment.randaugment works on 256 levels, uint8; the images are uint16"),
        ({"erasing": 0.5}, (9, 1), "int16", r"augment.erasing needs values with a range \(uint8, uint16\); .* int16"),
        ({"lighting": 0.5}, (9, 9, 3), "float32", "augment.lighting needs values with a range .* float32"),
        ({"greyscale": 0.5}, (9, 9, 4), "uint8", "augment.greyscale needs 3 channels; the images have 4"),
    ],
)  # fmt: skip
def test_what_images_do_not_take_is_refused_by_name(options, shape, dtype, message):
    with pytest.raises(ValueError, match=f"config: {message}"):
        augment.check_images(AugmentOptions(**options), shape, dtype)


def test_what_makes_sense_for_signals_and_volumes_is_taken():
    everywhere = AugmentOptions(
        pad=2, shift=1.0, stretch=0.1, flip_horizontal=True, brightness=0.1, contrast=0.1, noise=0.1, cutout=2, mixup=1.0,
        cutmix=1.0,
    )  # fmt: skip
    for shape in ((9, 1), (9, 8, 6), (4, 9, 8, 2)):
        for dtype in ("uint8", "uint16", "int16", "int32", "float16", "float32"):
            augment.check_images(everywhere, shape, dtype)
        assert augment.output_shape(shape, everywhere) == shape
    assert augment.output_shape((9, 6), AugmentOptions(pad=2, crop=(12,))) == (12, 6)
    with pytest.raises(
        ValueError, match=r"augment.crop=\(8, 8\): expected 1 length\(s\), one for each spatial axis .* 9$"
    ):
        augment.output_shape((9, 6), AugmentOptions(crop=(8, 8)))
    with pytest.raises(ValueError, match=r"augment.crop=\(8, 8, 10\) is larger than the images, 9x9x9 with 0 pixels"):
        augment.output_shape((9, 9, 9, 1), AugmentOptions(crop=(8, 8, 10)))


def test_the_options_of_recipes_are_checked():
    for options, message in (
        (
            {"erasing_mean": (1.0, 2.0)},
            r"augment.erasing_mean=\(1.0, 2.0\): expected one value, or one for each of the 3",
        ),
        ({"fill_values": (1.0, 2.0)}, r"augment.fill_values=\(1.0, 2.0\): expected one value"),
        ({"erasing_std": (1.0, 2.0)}, r"augment.erasing_std=\(1.0, 2.0\): expected one value"),
        ({"sizes": ((0, (8,)),)}, "augment.sizes=.*epoch 0 has 1 length.s.; the images have 2 spatial axes"),
    ):
        with pytest.raises(ValueError, match=message):
            augment.check_images(AugmentOptions(**options), (8, 8, 3))
    for options, message in (
        ({"trivialaugment": True}, "trivialaugment works on 256 levels, uint8; the images are uint16"),
        ({"randaugment_increasing": (2, 9.0, 0.5)}, "randaugment_increasing works on 256 levels"),
    ):
        with pytest.raises(ValueError, match=message):
            augment.check_images(AugmentOptions(**options), (8, 8, 3), np.uint16)
    with pytest.raises(ValueError, match="augment.trivialaugment cannot be applied to labels that are maps"):
        augment.check_maps(AugmentOptions(trivialaugment=True))


def test_what_needs_boxes_is_refused_without_them():
    images, keys = np.zeros((2, 8, 8, 3), np.uint8), augment.example_keys(0, 0, np.arange(2))
    for name, value in (("iou_crop", (0.3, 1.0)), ("mosaic", 0.5)):
        options = AugmentOptions(**{name: value})
        message = f"config: augment.{name} needs boxes of objects: leave it out, or set task.name to 'detection'"
        with pytest.raises(ValueError, match=message):
            augment.check_maps(options)
        with pytest.raises(ValueError, match=message):
            augment.augment(images, keys, options)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"iou_crop": (0.5, 0.2)}, "two fractions of a side between 0 and 1, the smaller first"),
        ({"zoom_out": 0.5}, "1 to 16"),
        ({"photometric": 1.5}, "0 to 1"),
        ({"mosaic": -0.1}, "0 to 1"),
        ({"fill_values": (300.0,)}, "values of 0 to 255"),
    ],
)
def test_values_that_make_no_sense_are_refused(option, expected):
    with pytest.raises(ValueError, match=rf"config: augment\.{next(iter(option))}.*{expected}"):
        cnnjax.load_config({"augment": option})
