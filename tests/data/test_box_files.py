"""Files of boxes are read, and written so that they read the same; damaged ones are refused by name."""

import json

import numpy as np
import pytest

from cnnjax.data.box_files import coco_text, read_coco, read_penn_fudan, read_voc, read_yolo, voc_text, yolo_text
from cnnjax.data.boxes import CROWD, IGNORED, as_rows

COCO = {
    "info": {"year": 2017},
    "images": [
        {"id": 9, "file_name": "a.jpg", "height": 40, "width": 60},
        {"id": 4, "file_name": "b.jpg", "height": 40, "width": 60},
        {"id": 5, "file_name": "empty.jpg", "height": 40, "width": 60},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
    "annotations": [
        {"id": 1, "image_id": 4, "category_id": 1, "bbox": [10, 5, 20, 30.5], "area": 400, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 18, "bbox": [0, 0, 60, 40], "iscrowd": 1},
        {"id": 3, "image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4], "ignore": 1},
    ],
}
VOC = """<annotation>
  <folder>VOC2007</folder>
  <filename>000005.jpg</filename>
  <size><width>500</width><height>375</height><depth>3</depth></size>
  <object><name>chair</name><pose>Rear</pose><truncated>0</truncated><difficult>0</difficult>
    <bndbox><xmin>263</xmin><ymin>211</ymin><xmax>324</xmax><ymax>339</ymax></bndbox></object>
  <object><name>person</name><difficult>1</difficult>
    <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>500</xmax><ymax>375</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></part></object>
</annotation>
"""
PENN = """# Compatible with PASCAL Annotation Version 1.00
Image filename : "PennFudanPed/PNGImages/FudanPed00001.png"
Image size (X x Y x C) : 559 x 536 x 3
Database : "The Penn-Fudan-Pedestrian Database"
Objects with ground truth : 2 { "PASpersonWalking" "PASpersonWalking" }
# Note there may be some objects not included in the ground truth list for they are severe-occluded
# or have very small size.
# Top left pixel co-ordinates : (1, 1)
# Details for pedestrian 1 ("PASpersonWalking")
Original label for object 1 "PASpersonWalking" : "PennFudanPed"
Bounding box for object 1 "PASpersonWalking" (Xmin, Ymin) - (Xmax, Ymax) : (160, 182) - (302, 431)
Pixel mask for object 1 "PASpersonWalking" : "PennFudanPed/PedMasks/FudanPed00001_mask.png"

# Details for pedestrian 2 ("PASpersonWalking")
Original label for object 2 "PASpersonWalking" : "PennFudanPed"
Bounding box for object 2 "PASpersonWalking" (Xmin, Ymin) - (Xmax, Ymax) : (420, 171) - (535, 486)
"""


def written(tmp_path, content, name="boxes.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_coco(tmp_path):
    found = read_coco(written(tmp_path, COCO))
    assert found.classes == ("person", "dog") and [*found.images] == ["a.jpg", "b.jpg", "empty.jpg"]
    assert found.images["b.jpg"].rows({"person": 0, "dog": 1}).tolist() == [[10, 5, 30, 35.5, 0, 0]]
    assert found.images["a.jpg"].status == [CROWD, IGNORED] and found.images["a.jpg"].size == (40, 60)
    assert found.images["empty.jpg"].boxes.shape == (0, 4)


def test_voc_and_its_parts(tmp_path):
    found = read_voc(written(tmp_path, VOC, "000005.xml"))
    assert found.names == ["chair", "person"] and found.status == [0, IGNORED] and found.size == (375, 500)
    assert found.boxes.tolist() == [[262, 210, 324, 339], [0, 0, 500, 375]]


def test_penn_fudan(tmp_path):
    found = read_penn_fudan(written(tmp_path, PENN, "FudanPed00001.txt"))
    assert found.names == ["person"] * 2 and found.size == (536, 559)
    assert found.boxes.tolist() == [[159, 181, 302, 431], [419, 170, 535, 486]]


def test_yolo(tmp_path):
    found = read_yolo(written(tmp_path, "3 0.5 0.5 0.25 1.0\n\n0 0.1 0.2 0.2 0.4\n", "a.txt"))
    assert found.names == [3, 0]
    np.testing.assert_allclose(found.boxes, [[0.375, 0, 0.625, 1], [0, 0, 0.2, 0.4]], atol=1e-12)
    assert read_yolo(written(tmp_path, "", "b.txt")).boxes.shape == (0, 4)


def test_what_is_written_reads_the_same(tmp_path):
    rows = as_rows([[10, 5, 30, 35], [0, 0, 60, 40]], [1, 0])
    names, size, scores = ("person", "dog"), (40, 60), [0.9, 0.25]
    images = [("a.png", size), ("none.png", size)]
    content = coco_text(images, [rows, rows[:0]], [scores, []], names)
    assert [one["score"] for one in json.loads(content)["annotations"]] == scores
    coco = read_coco(written(tmp_path, content))
    numbers = {name: number for number, name in enumerate(coco.classes)}
    assert coco.classes == names and coco.images["none.png"].boxes.size == 0
    np.testing.assert_array_equal(coco.images["a.png"].rows(numbers), rows)
    voc = read_voc(written(tmp_path, voc_text("a.png", size, rows, scores, names), "a.xml"))
    np.testing.assert_array_equal(voc.rows(numbers), rows)
    assert voc.size == size
    yolo = yolo_text(size, rows, scores)
    words = [line.rsplit(" ", 1) for line in yolo.splitlines()]
    assert [float(score) for _, score in words] == scores
    read = read_yolo(written(tmp_path, "\n".join(line for line, _ in words), "a.txt"))
    np.testing.assert_allclose(read.boxes * [60, 40, 60, 40], rows[:, :4], atol=1e-4)
    assert read.names == [1, 0]


def changed(part, **fields):
    first, *rest = COCO[part]
    return {**COCO, part: [{**first, **fields}, *rest]}


@pytest.mark.parametrize(
    ("read", "content", "said"),
    [
        (read_coco, "{", "not a JSON file"),
        (read_coco, {"images": []}, "expected COCO's lists images, annotations, categories"),
        (read_coco, changed("annotations", image_id=7), "annotation 1 is of image 7, which is not among the images"),
        (read_coco, changed("annotations", category_id=2), "annotation 1 is of category 2, which has no name"),
        (read_coco, changed("annotations", bbox=[1, 2, 3]), r"a bbox is \[1, 2, 3\]"),
        (read_coco, changed("annotations", bbox=[1, 2, -3, 4]), "annotation 1 ends before it begins"),
        (read_coco, changed("annotations", bbox=[1, 2, float("nan"), 4]), "the box of annotation 1 is"),
        (read_coco, {**COCO, "images": [{"id": 1}]}, "lacks 'file_name'"),
        (read_coco, changed("images", file_name="b.jpg"), "two images have the same file_name"),
        (read_coco, changed("categories", name="person"), "two categories have the same name"),
        (read_voc, "<annotation>", "not an XML file"),
        (read_voc, "<html/>", "expected VOC's <annotation>, found <html>"),
        (read_voc, VOC.replace("<name>chair</name>", ""), "object 0 has no name"),
        (read_voc, VOC.replace("<xmin>263</xmin>", ""), "the box of chair is"),
        (read_voc, VOC.replace("<xmax>324</xmax>", "<xmax>24</xmax>"), "the box of chair ends before it begins"),
        (read_penn_fudan, "1 0.5 0.5 0.5 0.5", "expected a file of PASCAL Annotation Version 1.00"),
        (read_penn_fudan, PENN.replace("(160, 182)", "(160)"), "a line 'Bounding box for object' cannot be read"),
        (read_yolo, "0 0.5 0.5 0.5", "line 1 is '0 0.5 0.5 0.5'"),
        (read_yolo, "0 0.5 0.5 0.5 0.5\n0 50 50 10 10", "line 2 is"),
        (read_yolo, "dog 0.5 0.5 0.5 0.5", "expected a class number"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_by_name(tmp_path, read, content, said):
    with pytest.raises(ValueError, match=rf"damaged\.ann: .*{said}") as caught:
        read(written(tmp_path, content, "damaged.ann"))
    assert "\n" not in str(caught.value)
