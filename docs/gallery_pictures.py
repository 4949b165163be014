"""Writes the pages of the gallery again and takes their pictures: `make gallery`, after a change of reports. Needs Chromium.

The photographs are parts of scikit-image's and scikit-learn's, among them planted copies, a planted wrong label and a file that cannot
be read.
"""

import io
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from sklearn.datasets import load_sample_image

from experiments.benchmarks.photographs import photographs

DOCS = Path(__file__).parent
FOLDER = DOCS / "_build" / "gallery"
CHROMIUM = "/usr/bin/chromium"
PARTS, SIDE, COPIES = 72, 96, 5
WIDTH, COLOURS = 1000, 256
WIDE = 1280, 1070
STUDY = "--config.train.epochs=6 --vary model.name=lenet5,mlp --vary optimizer.learning_rate=0.02,0.05 --seeds 3 --page study.html"


def cnnjax(*arguments: str) -> None:
    """Runs a command of cnnjax in the gallery's folder."""
    subprocess.run([sys.executable, "-m", "cnnjax", *arguments], check=True, cwd=FOLDER)


def write_photographs(folder: Path) -> None:
    """Writes a folder of square parts of six photographs, the same each time."""
    names = {"chelsea": "cat"}
    whole = {names.get(name, name): picture for name, picture in photographs()}
    whole |= {
        name: Image.fromarray(load_sample_image(file))
        for name, file in (("temple", "china.jpg"), ("flower", "flower.jpg"))
    }
    generator = np.random.RandomState(0)
    for name, picture in sorted(whole.items()):
        (folder / name).mkdir(parents=True)
        for number in range(PARTS):
            side = int(generator.uniform(0.3, 0.7) * min(picture.size))
            left, top = (generator.randint(size - side + 1) for size in picture.size)
            part = picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
            part.save(folder / name / f"IMG_{number:04}.jpg", quality=92)
    for number in range(COPIES):
        shutil.copyfile(folder / "cat" / f"IMG_{number:04}.jpg", folder / "cat" / f"IMG_{number:04}_copy.jpg")
    shutil.copyfile(folder / "flower" / "IMG_0007.jpg", folder / "coffee" / "IMG_0107.jpg")
    (folder / "coffee" / "IMG_0108.jpg").write_bytes((folder / "coffee" / "IMG_0008.jpg").read_bytes()[:500])


def write_pages() -> dict[str, Path]:
    """Writes all pages into the gallery's folder."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    cnnjax("train", "--config", "quickstart")
    cnnjax("report", "runs/quickstart")
    cnnjax("ablate", "--config", "quickstart", *STUDY.split())
    for name, rate in (("slower", "0.005"), ("faster", "0.05")):
        cnnjax(
            "train", "--config", "quickstart", "--workdir", f"runs/{name}", f"--config.optimizer.learning_rate={rate}",
            "--config.train.epochs=10",
        )  # fmt: skip
    cnnjax("report", "runs/slower", "runs/faster", "--out", "two.html")
    write_photographs(FOLDER / "photos")
    cnnjax("explore", "photos", "--out", "exploration")
    small = ("--config.dataset.resize=(64, 64)", "--config.augment.crop=(56, 56)", "--config.train.epochs=8")
    cnnjax("train", "--data", "photos", *small)
    cnnjax("report", "runs/photos")
    return {
        "run": FOLDER / "runs/quickstart/report/index.html",
        "study": FOLDER / "study.html",
        "comparison": FOLDER / "two.html",
        "photographs": FOLDER / "exploration" / "index.html",
        "labels": FOLDER / "runs/photos/report/index.html",
    }


def save(pictures: Sequence[bytes], path: Path) -> None:
    """Writes pictures, one below the other, as a PNG file of few colours."""
    parts = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    whole = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)))
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    whole.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def taken(page: Page, height: int, heading: str | None = None) -> bytes:
    """The picture of a part of the page: from its top, or from a heading on."""
    top = 0 if heading is None else page.locator(f"h2:has-text('{heading}')").first.bounding_box()["y"] - 24
    return page.screenshot(full_page=True, clip={"x": 0, "y": top, "width": WIDTH, "height": height})


def main() -> None:
    """Writes the pages and takes the pictures."""
    pages = write_pages()
    for name in ("run", "study"):
        shutil.copyfile(pages[name], DOCS / "static" / "gallery" / f"{name}.html")
    views = {
        "run": ((1080, None),),
        "study": ((1040, None),),
        "comparison": ((970, None),),
        "photographs": ((780, None), (500, "Equal images")),
        "labels": ((670, "Labels that look wrong"),),
    }
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name, parts in views.items():
            page = browser.new_page(viewport={"width": WIDTH, "height": 1080})
            page.goto(pages[name].as_uri())
            page.add_style_tag(content=".up { display: none }")  # it stands where the window ends
            save([taken(page, *part) for part in parts], DOCS / "pictures" / f"gallery_{name}.png")
        page = browser.new_page(
            viewport={"width": WIDE[0], "height": WIDE[1]}
        )  # the picture of the README, with the sections beside
        page.goto(pages["run"].as_uri())
        save([page.screenshot()], DOCS / "pictures" / "report.png")
        browser.close()


if __name__ == "__main__":
    main()
