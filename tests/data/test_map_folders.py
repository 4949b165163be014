"""Folders of images and label maps: the layouts of published data sets, as tiny archives in their true format, and one's own."""

import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax.data.map_folders import VOC_CLASSES, list_map_folder
from cnnjax.report.exploration import explore_source
from cnnjax.tasks import Segmentation

generator = np.random.RandomState(0)


def picture(path, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator.randint(0, 256, (*size, 3)).astype(np.uint8)).save(path)


def mask(path, numbers, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(numbers.astype(np.uint8), "P" if palette else "L")
    if palette:
        made.putpalette([(71 * value) % 256 for value in range(768)])
    made.save(path)
    return numbers


def numbers(values, size=(12, 10)):
    return generator.choice(values, size)


@pytest.fixture
def plain(tmp_path):
    """Images and masks, without splits."""
    kept = {}
    for index in range(12):
        picture(tmp_path / "own" / "images" / f"{index:02}.jpg")
        kept[index] = mask(tmp_path / "own" / "masks" / f"{index:02}.png", numbers([0, 1, 2, 255]), palette=True)
    (tmp_path / "own" / "classes.txt").write_text("sky\nland\nsea\n")
    return tmp_path / "own", kept


def test_a_folder_of_images_and_masks(plain):
    root, kept = plain
    data = cnnjax.load_dataset(str(root))
    assert data.label_names == ("sky", "land", "sea") and data.image_shape == (12, 10, 3)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 9, "valid": 1, "test": 2}
    found = np.concatenate([np.asarray(split.labels) for split in data.splits.values()])
    assert sorted(one.tobytes() for one in found) == sorted(one.astype(np.uint8).tobytes() for one in kept.values())
    assert data.statistics is not None and data.class_counts is None
    streamed = cnnjax.load_dataset({"name": str(root), "streaming": True})
    for split, part in streamed.splits.items():
        np.testing.assert_array_equal(part.images[:], data.splits[split].images)
        np.testing.assert_array_equal(part.labels, data.splits[split].labels)
        assert isinstance(part.labels, np.memmap)
    assert explore_source(str(root)).dataset.map_values["train"].keys() == {0, 1, 2, 255}
    mask(root / "masks" / "00.png", numbers([0, 1]), palette=True)
    assert cnnjax.load_dataset(str(root)).fingerprint != data.fingerprint


@pytest.mark.parametrize("damage", ["bit", "cut", "gone"])
def test_damaged_maps_of_streamed_images_are_made_again(plain, cache, damage):
    options = {"name": str(plain[0]), "streaming": True}
    expected = cnnjax.load_dataset(options)
    [path] = (cache / "cache" / "arrays").rglob("index-train-*.npy")
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "cut" else bytes([*content[:-1], content[-1] ^ 1]))
    said = []
    again = cnnjax.load_dataset(options, said.append)
    assert again.fingerprint == expected.fingerprint and path.read_bytes() == content
    assert said == [f"indexing 9 images of {plain[0]} (train) again, since the index is damaged"]
    assert cnnjax.load_dataset(options, pytest.fail).fingerprint == expected.fingerprint


@pytest.mark.parametrize("outer", [True, False])
def test_folders_of_splits_within_or_around(tmp_path, outer):
    expected = {}
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for index in range(count):
            place = ("{0}/{1}" if outer else "{1}/{0}").format(split, "{}")
            picture(tmp_path / place.format("images") / "deep" / f"{index}.png")
            kept = mask(tmp_path / place.format("masks") / "deep" / f"{index}.png", numbers([0, 3]))
            expected.setdefault(split, []).append(kept)
    data = cnnjax.load_dataset({"name": str(tmp_path), "resize": (12, 10)})
    assert data.label_names == ()
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        np.testing.assert_array_equal(data.splits[name].labels, expected[split])
    assert Segmentation().outputs(data) == {"num_classes": 4}


def test_the_pascal_voc_layout(tmp_path):
    root, kept = tmp_path / "VOC2012", {}
    for split in ("train", "val"):
        for index in range(2):
            picture(root / "JPEGImages" / f"2007_{split}{index}.jpg")
            kept[split, index] = mask(
                root / "SegmentationClass" / f"2007_{split}{index}.png", numbers([0, 15, 20, 255]), palette=True
            )
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(f"2007_{split}0\n2007_{split}1\n")
    picture(root / "JPEGImages" / "2008_unlisted.jpg")
    data = cnnjax.load_dataset(
        {"name": str(root), "train_split": "train", "valid_split": "train", "test_split": "validation"}
    )
    assert data.label_names == VOC_CLASSES and len(VOC_CLASSES) == 21
    np.testing.assert_array_equal(data.splits["train"].labels, [kept["train", 0], kept["train", 1]])
    np.testing.assert_array_equal(data.splits["test"].labels, [kept["val", 0], kept["val", 1]])


def test_the_oxford_pets_layout(tmp_path):
    kept = {}
    for name in ("Abyssinian_1", "beagle_10", "pug_3"):
        picture(tmp_path / "images" / f"{name}.jpg")
        kept[name] = mask(tmp_path / "annotations" / "trimaps" / f"{name}.png", numbers([1, 2, 3]))
    (tmp_path / "images" / "Abyssinian_1.mat").write_bytes(b"")  # as the archive has some
    (tmp_path / "annotations" / "trimaps" / "._beagle_10.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "annotations" / "trainval.txt").write_text("Abyssinian_1 1 1 1\nbeagle_10 5 2 1\n")
    (tmp_path / "annotations" / "test.txt").write_text("pug_3 25 2 17\n")
    data = cnnjax.load_dataset({"name": str(tmp_path), "train_split": "train[:1]", "valid_split": "train[1:]"})
    assert data.label_names == ("background", "pet")
    number = np.array([255, 1, 0, 255])  # 1 the pet, 2 background, 3 not classified
    for split, name in (("train", "Abyssinian_1"), ("valid", "beagle_10"), ("test", "pug_3")):
        np.testing.assert_array_equal(data.splits[split].labels, [number[kept[name]]])


def test_the_camvid_layout_of_segnet(tmp_path):
    kept = {}
    for split in ("train", "val", "test"):
        picture(tmp_path / split / "0001TP.png")
        kept[split] = mask(tmp_path / f"{split}annot" / "0001TP.png", numbers(range(12)))
    data = cnnjax.load_dataset(str(tmp_path))
    assert len(data.label_names) == 11 and data.label_names[3] == "road"
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        np.testing.assert_array_equal(data.splits[name].labels[0], np.where(kept[split] == 11, 255, kept[split]))


def test_the_camvid_layout_of_the_original(tmp_path):
    colours = {"Animal": (64, 128, 64), "Archway": (192, 0, 128), "Void": (0, 0, 0), "Wall": (64, 192, 0)}
    (tmp_path / "label_colors.txt").write_text("".join(f"{r} {g} {b}\t{name}\n" for name, (r, g, b) in colours.items()))
    (tmp_path / "LabeledApproved_full").mkdir()
    for index in range(8):
        picture(tmp_path / "701_StillsRaw_full" / f"0001TP_{index}.png")
        shown = np.array([*colours.values()], np.uint8)[np.full((12, 10), index % 4)]
        Image.fromarray(shown).save(tmp_path / "LabeledApproved_full" / f"0001TP_{index}_L.png")
    data = cnnjax.load_dataset(str(tmp_path))
    assert data.label_names == ("Animal", "Archway", "Wall")
    values = [int(value) for split in data.splits.values() for value in np.unique(split.labels)]
    assert set(values) == {0, 1, 2, 255}


def test_the_ade20k_layout(tmp_path):
    kept = {}
    for split, short in (("training", "train"), ("validation", "val")):
        for index in (1, 2):
            picture(tmp_path / "images" / split / f"ADE_{short}_{index:08}.jpg")
            kept[split, index] = mask(
                tmp_path / "annotations" / split / f"ADE_{short}_{index:08}.png", numbers([0, 1, 3])
            )
    (tmp_path / "objectInfo150.txt").write_text(
        "Idx\tRatio\tTrain\tVal\tName\n1\t0.1576\t11664\t1172\twall\n2\t0.1072\t6046\t612\tbuilding, edifice\n"
        "3\t0.0878\t8265\t796\tsky\n"
    )
    data = cnnjax.load_dataset({"name": str(tmp_path), "train_split": "train", "valid_split": "train"})
    assert data.label_names == ("wall", "building", "sky")
    number = np.array([255, 0, 1, 2])
    for place, index in enumerate((1, 2)):
        np.testing.assert_array_equal(data.splits["train"].labels[place], number[kept["training", index]])
        np.testing.assert_array_equal(data.splits["test"].labels[place], number[kept["validation", index]])


def test_what_is_wrong_is_said_in_a_line(plain, tmp_path):
    root, _ = plain
    assert list_map_folder(tmp_path, 0) is None
    extra = root / "images" / "extra.png"
    picture(extra)
    with pytest.raises(ValueError, match=r"1 files have no mask of the same name in .*masks, such as .*extra.png"):
        cnnjax.load_dataset(str(root))
    mask(root / "masks" / "extra.png", numbers([0], (3, 3)))
    with pytest.raises(
        ValueError, match=r"1 of 1. images cannot be read: .*extra.png: the mask is 3x3 and its image 12x10"
    ):
        cnnjax.load_dataset(str(root))
    with pytest.raises(ValueError, match=r"the mask is 3x3 and its image 12x10"):
        cnnjax.load_dataset({"name": str(root), "streaming": True})
    skipped = cnnjax.load_dataset({"name": str(root), "unreadable": "skip"})
    assert sum(map(len, skipped.splits.values())) == 12
    mask(root / "masks" / "extra.png", numbers([7]))
    data = cnnjax.load_dataset(str(root))
    with pytest.raises(
        ValueError, match="the maps contain 7, which is neither a class number of 0 to 2 nor task.ignore, 255"
    ):
        Segmentation().outputs(data)
    extra.rename(extra.with_suffix(".bmp"))
    picture(extra)
    with pytest.raises(ValueError, match="extra.bmp and extra.png differ only in their extensions"):
        cnnjax.load_dataset(str(root))
    extra.with_suffix(".bmp").unlink()
    extra.unlink()
    with pytest.raises(ValueError, match="1 files have no image of the same name in"):
        cnnjax.load_dataset(str(root))


def test_a_table_of_images_and_masks(plain):
    root, kept = plain
    rows = [
        f"images/{index:02}.jpg,masks/{index:02}.png,{'train' if index < 8 else 'valid' if index < 10 else 'test'}"
        for index in kept
    ]
    (root / "maps.csv").write_text("path,mask_path,split\n" + "\n".join(rows))
    data = cnnjax.from_csv(root / "maps.csv", label="mask_path", split="split")
    assert data.label_names == ("sky", "land", "sea")
    np.testing.assert_array_equal(data.splits["train"].labels, [kept[index] for index in range(8)])
    np.testing.assert_array_equal(data.splits["test"].labels, [kept[10], kept[11]])
    drawn = cnnjax.from_csv(root / "maps.csv", label="mask_path", resize=(6, 5))
    assert drawn.splits["train"].labels.shape == (9, 6, 5)
    streamed = cnnjax.from_csv(root / "maps.csv", label="mask_path", split="split", streaming=True)
    np.testing.assert_array_equal(streamed.splits["train"].labels, data.splits["train"].labels)
    (root / "maps.csv").write_text("path,mask_path,split\n" + "\n".join(rows).replace("masks/03", "masks/absent"))
    with pytest.raises(
        FileNotFoundError, match=r"1 of 12 masks do not exist in the table's folder, .*: masks/absent.png"
    ):
        cnnjax.from_csv(root / "maps.csv", label="mask_path")
