"""Folders of images with boxes: the layouts of published data sets, as tiny archives in their true format, and one's own."""

import json

import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax.data.box_folders import list_box_folder
from cnnjax.data.boxes import CLASS, CROWD, IGNORED, STATUS, present
from cnnjax.data.map_folders import VOC_CLASSES
from tests.data.test_box_files import PENN, VOC

HEIGHT, WIDTH = 12, 16
generator = np.random.RandomState(0)


def picture(path, size=(HEIGHT, WIDTH)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator.randint(0, 256, (*size, 3)).astype(np.uint8)).save(path)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def coco(names, boxes=((2, 3, 5, 4),), **fields):
    """A COCO file with the same boxes on each image; categories as COCO numbers them, with gaps."""
    images = [
        {"id": 7 * place, "file_name": name, "height": HEIGHT, "width": WIDTH} for place, name in enumerate(names)
    ]
    pairs = [(image["id"], box) for image in images for box in boxes]
    annotations = [
        {"id": place, "image_id": image, "category_id": 18, "bbox": list(box), **fields}
        for place, (image, box) in enumerate(pairs)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    }


def sizes(data):
    return {name: len(split) for name, split in data.splits.items()}


def publish_coco(root):
    """COCO's own layout: 12 images to train on, 3 to validate."""
    for split, count in (("train2017", 12), ("val2017", 3)):
        names = [f"{number:012}.jpg" for number in range(count)]
        for name in names:
            picture(root / split / name)
        text(root / "annotations" / f"instances_{split}.json", coco(names))
        text(root / "annotations" / f"captions_{split}.json", {"annotations": []})
    return root


@pytest.fixture
def published(tmp_path):
    return publish_coco(tmp_path / "coco")


def test_coco_as_published(published, tmp_path):
    data = cnnjax.load_dataset(str(published))
    assert data.label_names == ("person", "dog") and data.image_shape == (HEIGHT, WIDTH, 3)
    assert sizes(data) == {"train": 11, "valid": 1, "test": 3}  # the published validation split is the test
    assert data.splits["test"].labels.tolist() == [[[2, 3, 7, 7, 1, 0]]] * 3
    smaller = cnnjax.load_dataset({"name": str(published), "resize": (6, 8), "streaming": True})
    assert smaller.splits["test"].labels.tolist() == [[[1, 1.5, 3.5, 3.5, 1, 0]]] * 3
    assert smaller.splits["test"].images[:].shape == (3, 6, 8, 3)
    text(published / "annotations" / "instances_train2017.json", coco([f"{number:012}.jpg" for number in range(11)]))
    assert cnnjax.load_dataset(str(published)).fingerprint != data.fingerprint
    text(published / "annotations" / "instances_train2017.json", coco(["lost.jpg"]))
    with pytest.raises(ValueError, match=r"instances_train2017\.json: its image lost\.jpg is in none of"):
        cnnjax.load_dataset(str(published))


def test_a_folder_of_ones_own_with_a_coco_file(tmp_path):
    names = [f"{number}.png" for number in range(12)]
    for name in names:
        picture(tmp_path / "own" / "images" / name)
    boxes = [(0, 0, 4, 4), (-3, 2, 30, 5), (5, 5, 0, 3), (1, 1, 2, 9)]
    content = coco(names, boxes)
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 7]  # one image has none
    content["annotations"][1]["iscrowd"] = 1
    text(tmp_path / "own" / "annotations.json", content)
    lines = []
    data = cnnjax.load_dataset({"name": str(tmp_path / "own"), "most_objects": 2}, report=lines.append)
    assert any("11 boxes reach beyond their image and are cut (the first in" in line for line in lines)
    assert any("11 boxes have no area and are left out" in line for line in lines)
    assert any("11 images have more than dataset.most_objects=2 objects (up to 3)" in line for line in lines)
    assert sizes(data) == {"train": 9, "valid": 1, "test": 2}
    rows = np.concatenate([split.labels for split in data.splits.values()])
    assert rows.shape == (12, 2, 6) and (~present(rows).any(1)).sum() == 1
    full = rows[present(rows).all(1)]
    assert full[:, 0, :4].tolist() == [[0, 2, 16, 7]] * 11  # cut
    assert full[:, 1, :4].tolist() == [[1, 1, 3, 10]] * 11  # larger than the first
    assert (rows[..., STATUS] == CROWD).sum() == 1
    whole = cnnjax.load_dataset(str(tmp_path / "own"))
    assert whole.splits["train"].labels.shape == (9, 3, 6)  # what the fullest image needs


def test_roboflows_export(tmp_path):
    for split, count in (("train", 3), ("valid", 2), ("test", 2)):
        names = [f"{split}{number}.jpg" for number in range(count)]
        for name in names:
            picture(tmp_path / split / name)
        text(tmp_path / split / "_annotations.coco.json", coco(names))
    assert sizes(cnnjax.load_dataset(str(tmp_path))) == {"train": 3, "valid": 2, "test": 2}
    text(tmp_path / "valid" / "_annotations.coco.json", {**coco([]), "categories": [{"id": 1, "name": "cat"}]})
    with pytest.raises(ValueError, match="its categories are not those of"):
        cnnjax.load_dataset(str(tmp_path))


def test_voc_with_maps_beside_the_boxes(tmp_path):
    root = tmp_path / "VOC2007"
    stems = [f"{number:06}" for number in range(10)]
    for stem in stems:
        picture(root / "JPEGImages" / f"{stem}.jpg", (375, 500))
        text(root / "Annotations" / f"{stem}.xml", VOC)
    text(root / "ImageSets" / "Main" / "trainval.txt", "".join(f"{stem}\n" for stem in stems[:8]))
    text(root / "ImageSets" / "Main" / "train.txt", "".join(f"{stem}\n" for stem in stems[:5]))
    text(root / "ImageSets" / "Main" / "val.txt", "".join(f"{stem}\n" for stem in stems[5:8]))
    text(root / "ImageSets" / "Main" / "test.txt", "".join(f"{stem}\n" for stem in stems[8:]))
    options = {"name": str(root), "resize": (30, 50), "resize_mode": "stretch"}
    data = cnnjax.load_dataset(options)
    assert data.label_names == VOC_CLASSES[1:] and sizes(data) == {"train": 5, "valid": 3, "test": 2}
    chair, person = data.splits["test"].labels[0]
    np.testing.assert_allclose(chair, [26.2, 16.8, 32.4, 27.12, VOC_CLASSES.index("chair") - 1, 0], rtol=1e-5)
    assert person.tolist() == [0, 0, 50, 30, VOC_CLASSES.index("person") - 1, IGNORED]
    # A year that has maps too is read as maps unless boxes are asked for.
    for name, own in (("train", stems[:8]), ("val", stems[8:])):
        text(root / "ImageSets" / "Segmentation" / f"{name}.txt", "".join(f"{stem}\n" for stem in own))
    for stem in stems:
        (root / "SegmentationClass").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((375, 500), np.uint8)).save(root / "SegmentationClass" / f"{stem}.png")
    assert cnnjax.load_dataset(options).splits["train"].labels.ndim == 3
    assert cnnjax.load_dataset(options).label_names == VOC_CLASSES
    assert cnnjax.load_dataset({**options, "labels": "boxes"}).label_names == VOC_CLASSES[1:]
    (root / "Annotations" / "000003.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"000003\.xml: not an XML file"):
        cnnjax.load_dataset({**options, "labels": "boxes"})


def test_penn_fudan(tmp_path):
    for number in range(10):
        picture(tmp_path / "PNGImages" / f"FudanPed{number:05}.png", (536, 559))
        text(tmp_path / "Annotation" / f"FudanPed{number:05}.txt", PENN)
    (tmp_path / "PedMasks").mkdir()
    found = list_box_folder(tmp_path, 0)
    assert found.classes == ("person",) and sum(map(len, found.splits.values())) == 10 and set(found.splits) == {
        "train", "validation", "test"
    }  # fmt: skip
    assert found.splits["test"][0].rows.tolist() == [[159, 181, 302, 431, 0, 0], [419, 170, 535, 486, 0, 0]]


@pytest.mark.parametrize("inside", [True, False])
def test_yolo(tmp_path, inside):
    for split in ("train", "val", "test"):
        images, labels = (
            tmp_path / ("/".join((kind, split) if inside else (split, kind))) for kind in ("images", "labels")
        )
        for number in range(3):
            picture(images / f"{number}.jpg")
        text(labels / "0.txt", "1 0.5 0.5 0.25 0.5\n0 0.125 0.25 0.25 0.5\n")
        text(labels / "1.txt", "")  # and none for 2.jpg: neither has objects
    text(tmp_path / "data.yaml", "train: images/train\nnc: 2\nnames: [cat, dog]\n")
    data = cnnjax.load_dataset(str(tmp_path))
    assert data.label_names == ("cat", "dog") and sizes(data) == {"train": 3, "valid": 3, "test": 3}
    assert data.splits["train"].labels[0].tolist() == [[6, 3, 10, 9, 1, 0], [0, 0, 4, 6, 0, 0]]
    assert (data.splits["train"].labels[1:, :, CLASS] == -1).all()
    text(tmp_path / "data.yaml", "names: {0: cat}\n")
    with pytest.raises(ValueError, match="its labels have the class 1, but 1 classes are named"):
        cnnjax.load_dataset(str(tmp_path))


def test_boxes_of_folders_turned_by_a_camera_follow_the_upright_image(tmp_path):
    turned = Image.fromarray(generator.randint(0, 256, (WIDTH, HEIGHT, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    for split in ("train", "val", "test"):
        (tmp_path / "images" / split).mkdir(parents=True)
        turned.save(tmp_path / "images" / split / "a.jpg", exif=exif)
        text(tmp_path / "labels" / split / "a.txt", "0 0.5 0.5 0.5 1.0\n")
    data = cnnjax.load_dataset(str(tmp_path))
    assert data.image_shape == (HEIGHT, WIDTH, 3) and data.splits["train"].labels[0, 0, :4].tolist() == [4, 0, 12, 12]


def test_what_has_no_boxes_is_refused_where_they_are_asked_for(tmp_path):
    picture(tmp_path / "cat" / "a.png")
    with pytest.raises(ValueError, match="there are no boxes: expected the files of COCO"):
        cnnjax.load_dataset({"name": str(tmp_path), "labels": "boxes"})
    with pytest.raises(ValueError, match=r"dataset\.labels is for scenes and folders"):
        cnnjax.load_dataset({"name": "digits", "labels": "boxes"})


def test_arrays_with_boxes():
    rows = np.zeros((20, 3, 6), np.float32)
    rows[..., CLASS] = -1
    rows[:, 0] = [1, 1, 5, 6, 1, 0]
    images = np.arange(20 * 64, dtype=np.uint16).reshape(20, 8, 8, 1)
    data = cnnjax.from_arrays((images, rows), label_names=["cat", "dog"])
    assert data.label_names == ("cat", "dog") and data.splits["train"].labels.dtype == np.float32
    assert data.class_counts is None
