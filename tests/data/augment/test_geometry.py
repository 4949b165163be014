import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cnnjax.data import augment
from cnnjax.data.augment import AugmentOptions, geometry
from cnnjax.data.boxes import as_rows, padded
from tests.data.augment.examples import BATCH, IMAGE, KEYS, SMOOTH, apply, draws


def resample(image, matrix, displacement, fill):
    """One program; outside `jit` each of its operations would be compiled alone."""
    return np.asarray(RESAMPLE(image, matrix.astype(np.float32), displacement, fill))


def placed_by_a_draw(options):
    def placed(image, key):
        return geometry.place_image(image, geometry.draw_placement(key, image.shape, options), options)

    compiled = jax.jit(placed)
    return lambda image, key: np.asarray(compiled(image, key))


RESAMPLE = jax.jit(geometry.resample, static_argnums=3)


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, -1)])
def test_quarter_turns_are_exact(degrees, turns):
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    turned = resample(IMAGE, matrix, None, "zero")
    np.testing.assert_allclose(turned, np.rot90(IMAGE, -turns), atol=1e-2)


def test_a_turn_is_pillows():
    image = Image.fromarray(SMOOTH.astype(np.uint8))
    angle = np.radians(20)
    matrix = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    ours = resample(np.asarray(image, np.float32), matrix, None, "zero")
    theirs = np.asarray(image.rotate(-20, Image.Resampling.BILINEAR), np.float32)
    difference = np.abs(ours - theirs)[8:-8, 8:-8]
    assert difference.mean() < 1.5, difference.mean()


def test_shifts_by_whole_pixels_are_exact():
    shifted = resample(IMAGE, np.array([[1.0, 0, 2], [0, 1.0, -1]]), None, "zero")
    np.testing.assert_allclose(shifted[:10, 1:], IMAGE[2:, :11], atol=1e-3)
    assert not shifted[10:].any() and not shifted[:, 0].any()
    edge = resample(IMAGE, np.array([[1.0, 0, 2], [0, 1.0, 0]]), None, "edge")
    np.testing.assert_allclose(edge[-1], IMAGE[-1], atol=1e-3)
    reflected = resample(IMAGE, np.array([[1.0, 0, 2], [0, 1.0, 0]]), None, "reflect")
    np.testing.assert_allclose(reflected[-2:], IMAGE[[-2, -3]], atol=1e-3)


def test_flips_and_crops_are_exact():
    flipped = apply(flip_horizontal=True)
    kinds = [np.array_equal(b, a[:, ::-1]) - np.array_equal(b, a) for a, b in zip(BATCH, flipped, strict=True)]
    assert {*kinds} == {1, -1}
    upside = apply(flip_vertical=True)
    assert {np.array_equal(b, a[::-1]) - np.array_equal(b, a) for a, b in zip(BATCH, upside, strict=True)} == {1, -1}
    cropped, places = apply(pad=1, crop=(10, 11)), set()
    for whole, part in zip(np.pad(BATCH, ((0, 0), (1, 1), (1, 1), (0, 0))), cropped, strict=True):
        found = [(y, x) for y in range(5) for x in range(4) if np.array_equal(whole[y : y + 10, x : x + 11], part)]
        assert len(found) == 1
        places |= {*found}
    assert len(places) > 3


def test_a_resized_crop_of_everything_is_the_image_and_of_a_quarter_is_enlarged():
    draw = jax.jit(lambda number: geometry._crop_box(jax.random.key(number), (32, 32), (0.25, 0.25))[0])
    extents = [draw(number) for number in range(50)]
    areas = np.prod(np.array(extents), axis=1) / 32**2
    np.testing.assert_allclose(areas, 0.25, rtol=1e-4)
    ratios = np.array(extents)[:, 1] / np.array(extents)[:, 0]
    assert 0.75 <= ratios.min() < 0.85 and 1.2 < ratios.max() <= 1.34
    # Of a ramp, each crop is a ramp: its first and last columns are the part's, and its steps are even.
    ramp = np.broadcast_to(np.arange(12.0, dtype=np.float32)[None, None, :, None] * 20, (8, 12, 12, 3))
    enlarged = apply(ramp, resized_crop=(0.3, 0.6), crop=(9, 16))
    assert enlarged.shape == (8, 9, 16, 3)
    steps = np.diff(enlarged[:, :, :, 0], axis=2)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[:, :1, :1], steps.shape), atol=1e-2)
    spans = enlarged[:, 0, -1, 0] - enlarged[:, 0, 0, 0]
    assert (spans > 20 * 4).all() and (spans < 20 * 10).all() and spans.std() > 5
    whole = apply(ramp, resized_crop=(1.0, 1.0))
    spans = (
        whole[:, 0, -1, 0] - whole[:, 0, 0, 0]
    )  # of all the area, one side is whole and the other at least sqrt(3/4)
    assert spans.min() > 185 and abs(spans.max() - 220) < 1
    constant = np.full((8, 12, 12, 3), 77.0, np.float32)
    np.testing.assert_allclose(apply(constant, resized_crop=(0.1, 0.9)), 77, atol=1e-3)  # never beyond the border


def test_elastic_displacements_have_the_strength_that_is_asked_for():
    options = AugmentOptions(elastic=3.0, elastic_smoothness=4.0)
    draw = jax.jit(lambda number: geometry.elastic_field(jax.random.key(number), (32, 32, 1), options))
    fields = np.array([draw(number) for number in range(40)])
    assert 0.5 < fields.std() / 0.75 < 1.5
    assert np.abs(np.diff(fields, axis=2)).mean() < 0.4 * np.abs(fields).mean()  # smooth


@pytest.mark.parametrize("spatial", [(9,), (6, 7), (4, 5, 6)])
@pytest.mark.parametrize(("fill", "mode"), [("zero", "grid-constant"), ("edge", "nearest"), ("reflect", "mirror")])
def test_interpolation_along_any_number_of_axes_is_scipys(spatial, fill, mode):
    generator, axes = np.random.RandomState(0), len(spatial)
    image = generator.standard_normal((*spatial, 2)).astype(np.float32)
    linear, offset = np.eye(axes) + generator.uniform(-0.3, 0.3, (axes, axes)), generator.uniform(-2, 2, axes)
    ours = resample(image, np.hstack([linear, offset[:, None]]), None, fill)
    centre = (np.array(spatial) - 1) / 2
    places = linear @ (np.indices(spatial).reshape(axes, -1) - centre[:, None]) + (offset + centre)[:, None]
    for channel in range(2):
        theirs = ndimage.map_coordinates(image[..., channel], places, order=1, mode=mode).reshape(spatial)
        np.testing.assert_allclose(ours[..., channel], theirs, atol=1e-4)


@pytest.mark.parametrize("spatial", [(9,), (4, 5, 6)])
def test_signals_and_volumes_are_cut_and_flipped_as_numpy_does(spatial):
    batch = np.random.RandomState(0).standard_normal((8, *spatial, 3)).astype(np.float32)
    found = apply(batch, KEYS, "float32", pad=2, crop=(*spatial[:-1], 5))
    padded = np.pad(batch, ((0, 0), *(((2, 2),) * len(spatial)), (0, 0)))
    corners = set()
    for one, whole in zip(found, padded, strict=True):
        windows = sliding_window_view(whole, (*one.shape[:-1], 3))
        [corner] = np.argwhere((windows.reshape(*windows.shape[: len(spatial) + 1], -1) == one.ravel()).all(-1))
        corners.add(tuple(corner))
    assert len(corners) > 4
    flipped = apply(batch, KEYS, "float32", flip_horizontal=True)
    turned = [np.array_equal(one, was[..., ::-1, :]) for one, was in zip(flipped, batch, strict=True)]
    assert 0 < sum(turned) < 8
    assert all(np.array_equal(one, was) for one, was, turn in zip(flipped, batch, turned, strict=True) if not turn)


def test_a_stretch_of_a_signal_is_about_its_middle():
    signal = np.arange(11, dtype=np.float32)[:, None]
    placed = placed_by_a_draw(AugmentOptions(stretch=0.5, fill="edge"))
    for number in range(5):
        found = placed(signal, jax.random.key(number))[:, 0]
        slope = found[6] - found[5]
        assert 1 / 1.5 - 1e-3 <= slope <= 2 + 1e-3
        np.testing.assert_allclose(found, np.clip(5 + slope * (np.arange(11) - 5), 0, 10), atol=1e-4)


def test_a_volumes_slices_turn_as_images_do():
    volume = np.stack([IMAGE, IMAGE[::-1], 255 - IMAGE])
    placed, key = placed_by_a_draw(AugmentOptions(rotation=40.0, fill="edge")), jax.random.key(3)
    for slice_, one in zip(volume, placed(volume, key), strict=True):
        np.testing.assert_allclose(one, placed(slice_, key), atol=1e-3)


def test_a_volume_is_turned_in_three_planes_by_angles_within_what_is_asked_for():
    options = AugmentOptions(rotation=50.0, tilt=20.0)
    draw = jax.jit(lambda key: geometry.warp_matrix(key, options, (5, 6, 7), (5, 6, 7)))
    matrices = np.array([draw(jax.random.key(number)) for number in range(60)])
    np.testing.assert_array_equal(matrices[..., 3], 0)
    # SciPy's R = Rx Ry Rz: x is the depth's axis, so that Rx turns y and x, here the second and the third.
    angles = Rotation.from_matrix(matrices[..., :3]).as_euler("XYZ", degrees=True)
    np.testing.assert_allclose(
        Rotation.from_euler("XYZ", angles, degrees=True).as_matrix(), matrices[..., :3], atol=1e-5
    )
    assert (np.abs(angles) <= (50.01, 20.01, 20.01)).all()
    assert (angles.max(0) > (30, 12, 12)).all() and (angles.min(0) < (-30, -12, -12)).all()
    assert np.abs(np.corrcoef(angles.T) - np.eye(3)).max() < 0.4  # each its own


def test_a_volumes_front_and_back_are_exchanged_half_of_the_time():
    volumes = np.random.RandomState(0).standard_normal((8, 3, 4, 5, 2)).astype(np.float32)
    flipped = apply(volumes, KEYS, "float32", flip_depth=True)
    turned = [np.array_equal(one, was[::-1]) for one, was in zip(flipped, volumes, strict=True)]
    assert 0 < sum(turned) < 8
    assert all(np.array_equal(one, was) for one, was, turn in zip(flipped, volumes, turned, strict=True) if not turn)


def test_what_turns_and_flips_a_volume_draws_the_same_whatever_else_does(monkeypatch):
    def drawn(**options):
        change = AugmentOptions(**options)
        return draws(monkeypatch, lambda: geometry.draw_placement(jax.random.key(0), (5, 6, 7, 1), change))

    given = {"rotation": 9.0, "tilt": 5.0, "flip_depth": True, "flip_vertical": True, "shift": 1.0}
    alone = [draw for name, value in given.items() for draw in drawn(**{name: value})]
    assert sorted(drawn(**given)) == sorted(alone)
    assert len({key for _, key, _ in alone}) == len(given)


# --- maps of class numbers

MAP = np.random.RandomState(1).randint(0, 9, (11, 14))


def moved(options, array=MAP, **placement):
    """A map moved by a placement that is given rather than drawn."""
    nothing, options = dict.fromkeys(geometry.Placement._fields), AugmentOptions(**options)
    move = jax.jit(lambda map, placement: geometry.place_map(map, placement, options, 255))
    return np.asarray(move(array, geometry.Placement(**nothing | placement)))


def turned(angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


@pytest.mark.parametrize("fill", ["zero", "edge", "reflect"])
@pytest.mark.parametrize("angle", [0.3, -1.1])
def test_a_map_follows_a_known_rotation_to_the_pixel(angle, fill):
    matrix, middle = turned(angle), (np.array(MAP.shape) - 1) / 2
    # SciPy takes, of what is beyond the border by less than half a pixel, nothing; the map's edge pixel is the nearest there.
    modes = {"zero": "grid-constant", "edge": "nearest", "reflect": "mirror"}
    expected = ndimage.affine_transform(MAP, matrix, middle - matrix @ middle, order=0, mode=modes[fill], cval=255)
    found = moved({"fill": fill}, warp=np.hstack([matrix, np.zeros((2, 1))]))
    np.testing.assert_array_equal(found, expected)


def test_a_map_follows_quarter_turns_exactly():
    square = MAP[:, :11]
    for quarters in (1, 2, 3):
        matrix = turned(
            quarters * np.pi / 2
        )  # from a place in the result to one in the map: the map turns the other way
        found = moved({}, square, warp=np.hstack([matrix, np.zeros((2, 1))]))
        np.testing.assert_array_equal(found, np.rot90(square, -quarters))


def test_a_map_follows_flips_crops_and_padding_to_the_pixel():
    np.testing.assert_array_equal(moved({}, flip_horizontal=np.array(True)), MAP[:, ::-1])
    np.testing.assert_array_equal(moved({}, flip_vertical=np.array(True)), MAP[::-1])
    np.testing.assert_array_equal(moved({}, flip_vertical=np.array(False)), MAP)
    for fill, mode in (("zero", "constant"), ("edge", "edge"), ("reflect", "reflect")):
        values = {"constant_values": 255} if fill == "zero" else {}
        padded = np.pad(MAP, 3, mode=mode, **values)
        options = {"pad": 3, "crop": (9, 10), "fill": fill}
        np.testing.assert_array_equal(moved(options, corner=np.array([1, 5])), padded[1:10, 5:15])


def test_a_map_follows_a_displacement_to_the_nearest_pixel():
    displacement = np.zeros((2, *MAP.shape))
    displacement[0], displacement[1, :, :7] = 1.4, -0.6  # one row further down; on the left one column further left
    found = moved({"fill": "edge"}, displacement=displacement)
    lower = np.vstack([MAP[1:], MAP[-1:]])
    np.testing.assert_array_equal(found[:, 7:], lower[:, 7:])
    np.testing.assert_array_equal(found[:, 1:7], lower[:, :6])


def test_an_image_that_is_a_map_and_the_map_are_moved_alike():
    """Where an image holds the numbers of a map, they agree wherever interpolation meets one number alone."""
    side, keys = 40, augment.example_keys(3, jnp.array(0), jnp.arange(6))
    blocks = np.kron(np.random.RandomState(2).randint(1, 9, (5, 5)), np.ones((8, 8), int))
    maps = np.repeat(blocks[None], 6, 0).astype(np.uint8)
    options = AugmentOptions(
        pad=4, crop=(32, 36), rotation=30.0, flip_horizontal=True,
    )  # fmt: skip
    examples = {"image": maps[..., None], "label": maps}
    found = jax.jit(lambda *given: augment.augment_examples(*given, options, ignore=255))(examples, keys)
    images, labels = np.asarray(found["image"])[..., 0], np.asarray(found["label"])
    assert labels.shape == (6, 32, 36) and (labels == 255).any() and side == maps.shape[1]
    inner = np.isclose(images, np.rint(images), atol=1e-4) & (labels != 255)
    # A whole number may be a mixture by chance: at the border of two blocks, at less than one place in a hundred.
    assert inner.mean() > 0.5 and (np.rint(images) != labels)[inner].mean() < 0.01


# --- boxes ------------------------------------------------------------------------------------------------------

SHAPE = (40, 48, 1)
# Augmentations of boxes: what moves whole pixels, and what moves them anywhere.
WHOLE = {"flip_horizontal": True, "flip_vertical": True, "pad": 6}
ANYWHERE = {**WHOLE, "rotation": 35.0, "shift": 6.0, "stretch": 0.3, "shear": 12.0, "zoom_out": 1.5}


def boxes_and_maps(options, visible=0.0):
    """The compiled function from rows and a key to the moved rows, and the moved map of each box alone."""
    options = AugmentOptions(**options)

    def move(rows, key):
        placement = geometry.draw_placement(key, SHAPE, options, rows)
        y, x = jnp.arange(SHAPE[0])[:, None] + 0.5, jnp.arange(SHAPE[1]) + 0.5
        inside = lambda row: (row[0] < x) & (x < row[2]) & (row[1] < y) & (y < row[3])  # noqa: E731
        maps = jax.vmap(lambda row: geometry.place_map(inside(row).astype(int), placement, options, 0))(rows)
        return geometry.place_boxes(rows, placement, SHAPE, options, visible), maps

    return jax.jit(move)


CROPPED = {"resized_crop": (0.2, 1.0), "flip_horizontal": True}
AS_SSD = {"zoom_out": 3.0, "iou_crop": (0.3, 1.0), "flip_horizontal": True, "flip_vertical": True}
MOVED = {
    name: boxes_and_maps(options)
    for name, options in {"whole": WHOLE, "anywhere": ANYWHERE, "crop": CROPPED, "ssd": AS_SSD}.items()
}


def random_rows(seed, count=8):
    """Boxes with whole edges, the smallest of three pixels, and a row of padding."""
    generator = np.random.default_rng(seed)
    low = generator.integers(0, [SHAPE[1] - 3, SHAPE[0] - 3], (count, 2))
    high = generator.integers(low + 3, [SHAPE[1], SHAPE[0]], endpoint=True)
    return np.vstack([as_rows(np.hstack([low, high]), np.arange(count)), padded(np.zeros((0, 6)), 1)])


@hypothesis.given(
    hypothesis.strategies.integers(0, 2**31), hypothesis.strategies.sampled_from(["whole", "anywhere", "crop", "ssd"])
)
@hypothesis.settings(max_examples=50)
def test_the_box_of_a_transformed_mask_lies_inside_the_transformed_box(seed, how):
    rows = random_rows(seed)
    moved, maps = (np.asarray(part) for part in MOVED[how](rows, jax.random.key(seed)))
    assert moved[-1, 4] == -1 and (moved[:-1, :4] >= 0).all()
    assert (moved[:-1, [2, 3]] <= [SHAPE[1], SHAPE[0]]).all()
    for row, mask in zip(moved[:-1], maps, strict=False):
        if row[4] < 0:
            assert how == "ssd" or mask.sum() <= 1  # its centre is outside, or the middle of a pixel is on its edge
            continue
        y, x = np.nonzero(mask)
        if len(x):  # the middles of the mask's pixels
            assert row[0] - 1e-3 <= x.min() + 0.5 and x.max() + 0.5 <= row[2] + 1e-3
            assert row[1] - 1e-3 <= y.min() + 0.5 and y.max() + 0.5 <= row[3] + 1e-3
        if how == "whole":
            assert row[:4].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_boxes_of_which_too_little_is_visible_are_dropped():
    options = AugmentOptions(pad=4)
    rows = as_rows([[0, 0, 8, 8], [0, 0, 5, 8], [10, 10, 20, 20], [30, 30, 30, 36]], [0, 1, 2, 3])
    placement = geometry.Placement(np.array([4, 8]), None, None, None, None, None)  # four to the left
    found = np.asarray(geometry.place_boxes(rows, placement, SHAPE, options, 0.5))
    assert found[:, 4].tolist() == [
        0,
        -1,
        2,
        -1,
    ]  # half is left of the first, a fifth of the second; the last has no area
    assert found[[0, 2], :4].tolist() == [[0, 0, 4, 8], [6, 10, 16, 20]]
    assert np.asarray(geometry.place_boxes(rows, placement, SHAPE, options, 0.2))[:, 4].tolist() == [0, 1, 2, -1]


def test_boxes_are_augmented_with_their_images():
    """The box of a bright rectangle, found in the augmented image."""
    options, count = AugmentOptions(pad=5, flip_horizontal=True, stretch=0.2), 6
    rows = np.stack([padded(as_rows([[8, 12, 24, 30]], [3]), 2)] * count)
    images = np.zeros((count, *SHAPE), np.uint8)
    images[:, 12:30, 8:24] = 200
    keys = augment.example_keys(1, jnp.array(0), jnp.arange(count))
    given = {"image": images, "label": rows}
    found = jax.jit(lambda *given: augment.augment_examples(*given, options, visible=0.1))(given, keys)
    for image, own in zip(np.asarray(found["image"]), np.asarray(found["label"]), strict=True):
        y, x, _ = np.nonzero(image > 100)
        np.testing.assert_allclose(own[0, :4], [x.min(), y.min(), x.max() + 1, y.max() + 1], atol=0.51)
        assert own[:, 4].tolist() == [3, -1]
    for field, value in (("elastic", 2.0), ("crop", (20, 20)), ("fill", "reflect"), ("mixup", 0.2)):
        with pytest.raises(ValueError, match=rf"config: augment\.{field}"):
            augment.augment_examples(given, keys, AugmentOptions(**{field: value}), visible=0.1)


def test_an_image_and_its_boxes_are_cut_and_zoomed_out_by_known_windows():
    image = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    rows = as_rows([[0, 0, 2, 2], [2, 1, 4, 3]], [0, 1])
    options = AugmentOptions(fill="constant", fill_values=(-7.0,))

    def placed(start, extent, options=options):
        warp = geometry.cut(None, np.array(start, np.float32), np.array(extent, np.float32), (4, 4))
        placement = geometry.Placement(None, warp, None, None, None, None)
        return geometry.place_image(image, placement, options), geometry.place_boxes(
            rows, placement, (4, 4, 1), options, 0
        )

    # On a canvas of twice the size, the image is the lower right quarter: each of its pixels is the mean of four.
    found, boxes = placed((-4, -4), (8, 8))
    np.testing.assert_allclose(found[2:, 2:, 0], [[2.5, 4.5], [10.5, 12.5]])
    assert not found[:2].any() and not found[:, :2].any()
    np.testing.assert_allclose(boxes[:, :5], [[2, 2, 3, 3, 0], [3, 2.5, 4, 3.5, 1]])
    # Of the middle half each pixel becomes two by two; the first box loses three quarters, and its centre is on the window's corner.
    found, boxes = placed((1, 1), (2, 2))
    np.testing.assert_allclose(found[:, :, 0], 3.75 + np.add.outer(np.arange(4) * 2, np.arange(4) * 0.5))
    np.testing.assert_allclose(boxes[:, :5], [[0, 0, 2, 2, 0], [2, 0, 4, 4, 1]])
    cropped = AugmentOptions(iou_crop=(0.3, 1.0))
    assert placed((1, 1), (2, 2), cropped)[1][:, 4].tolist() == [-1, -1]  # the second one's is on the border
    assert placed((0.5, 1), (2, 2.5), cropped)[1][:, 4].tolist() == [-1, 1]


def test_the_colour_outside_is_the_one_that_is_given_in_the_unit_of_the_images():
    options = {"zoom_out": 3.0, "fill": "constant", "fill_values": (10.0, 20.0, 30.0)}
    images = np.full((8, 12, 12, 3), 200, np.float32)
    found = apply(images, **options)
    pixels = found.reshape(-1, 3)
    outside = np.isclose(pixels, (10, 20, 30)).all(1)
    assert 0.1 < outside.mean() < 0.8 and (pixels >= (10 - 1e-3, 20 - 1e-3, 30 - 1e-3)).all()
    shares = np.sqrt(np.isclose(found, 200).all(-1).mean((1, 2)))  # of the sides: a third to all
    assert shares.min() > 0.15 and (shares == 1).any()
    wide = apply((images * 257).astype(np.uint16), dtype="uint16", **options)
    np.testing.assert_allclose(wide / 257, found, atol=1e-3)


def test_ssds_crop_has_the_overlap_that_is_drawn():
    """Of this object an IoU of 0.9 is hardly ever found in 40 draws: of 700 crops 117 are whole, 583 are of the five other kinds."""
    draw = jax.jit(jax.vmap(lambda key, rows: geometry.iou_crop(key, rows, (40, 48), (0.3, 1.0)), (0, None)))
    keys = jax.random.split(jax.random.key(0), 700)

    def drawn(*boxes, status=()):
        rows = np.vstack([as_rows(boxes, [0] * len(boxes), status), padded(np.zeros((0, 6)), 2)])
        start, extent = map(np.asarray, draw(keys, rows[:2]))
        return start, extent, (extent == (40, 48)).all(1)

    start, extent, whole = drawn([8, 6, 40, 34])
    low, high = np.maximum(start, (6, 8)), np.minimum(start + extent, (34, 40))
    shared = np.clip(high - low, 0, None).prod(1)
    overlap = shared / (extent.prod(1) + 28 * 32 - shared)
    assert 80 < whole.sum() < 160 and (start[whole] == 0).all()
    shares = [(overlap[~whole] >= least).mean() for least in (0.1, 0.3, 0.5, 0.7, 0.9)]
    # The same procedure in NumPy, of one image after another, gave these shares of 700.
    np.testing.assert_allclose(shares, [1.0, 0.985, 0.770, 0.254, 0.003], atol=0.06)
    centre, share, aspect = (20, 24), extent / (40, 48), extent[:, 1] / extent[:, 0]
    assert ((start < centre) & (centre < start + extent)).all()
    assert share.min() >= 0.3 and share.max() <= 1 and (start >= 0).all() and (start + extent <= (40.001, 48.001)).all()
    assert aspect.min() >= 0.5 and aspect.max() <= 2
    # Of a point only a crop with any overlap is possible: half are whole.
    assert 290 < drawn([20, 20, 20.5, 20.5])[2].sum() < 410
    for nothing in (drawn()[2], drawn([8, 6, 40, 34], status=[1])[2], drawn([8, 6, 8, 34])[2]):
        assert nothing.all()
