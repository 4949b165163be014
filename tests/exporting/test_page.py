"""The page that classifies, in a browser: digits that are drawn with the mouse, and photographs that are chosen."""

import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax.exporting import page

pytest.importorskip("onnx", reason="pip install 'cnnjax[test]'")
CHROMIUM = Path("/usr/bin/chromium")
# Lines of the digits as they are written by hand, in a square of 1.
DIGITS = {
    0: [[(0.5, 0.1), (0.3, 0.2), (0.24, 0.5), (0.3, 0.8), (0.5, 0.9), (0.7, 0.8), (0.76, 0.5), (0.7, 0.2), (0.5, 0.1)]],
    1: [[(0.38, 0.25), (0.55, 0.1), (0.55, 0.9)]],
    2: [[(0.28, 0.25), (0.4, 0.12), (0.6, 0.12), (0.7, 0.28), (0.6, 0.5), (0.3, 0.88), (0.74, 0.88)]],
    3: [[(0.3, 0.14), (0.55, 0.1), (0.68, 0.25), (0.5, 0.46), (0.7, 0.66), (0.58, 0.88), (0.3, 0.86)]],
    4: [[(0.6, 0.1), (0.25, 0.6), (0.75, 0.6)], [(0.6, 0.35), (0.6, 0.9)]],
    6: [[(0.6, 0.1), (0.4, 0.3), (0.3, 0.65), (0.42, 0.88), (0.62, 0.85), (0.66, 0.65), (0.5, 0.55), (0.32, 0.66)]],
    7: [[(0.27, 0.13), (0.72, 0.13), (0.45, 0.9)], [(0.34, 0.52), (0.66, 0.52)]],
}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    try:
        return page.find_runtime(None)
    except (FileNotFoundError, ConnectionError) as error:
        pytest.skip(f"needs npm and a network: {error}")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser's driver: pip install 'cnnjax[test]'")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def opened(browser, runtime):
    """A function that opens a page, and complaints of the browser, which there must not be."""
    complaints = []

    def show(path, **settings):
        tab = browser.new_context(**{"viewport": {"width": 1000, "height": 800}, **settings}).new_page()
        tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda asked: complaints.append(asked.url) if asked.url.startswith("http") else None)
        tab.goto(path.resolve().as_uri())
        tab.wait_for_function(
            "document.getElementById('status').textContent.includes('hoose an image')", timeout=60_000
        )
        return tab

    yield show
    assert not complaints


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    config = {
        "dataset": {"name": "digits"}, "model": {"name": "lenet5"}, "devices": 1, "augment": {"shift": 2},
        "optimizer": {"name": "adam", "learning_rate": 2e-3}, "train": {"epochs": 20, "batch_size": 64},
        "log": {"progress": "off", "tensorboard": False},
    }  # fmt: skip
    return cnnjax.train(config, tmp_path_factory.mktemp("digits") / "run")


def ranked(tab):
    """The classes that the page lists, most probable first."""
    return tab.eval_on_selector_all("#classes li", "rows => rows.map(row => row.children[0].textContent)")


def draw(tab, lines):
    tab.click("#clear")
    box = tab.locator("#board").bounding_box()
    for line in lines:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in line]
        tab.mouse.move(*points[0])
        tab.mouse.down()
        for point in points[1:]:
            tab.mouse.move(*point, steps=8)
        tab.mouse.up()
    tab.wait_for_function("document.querySelectorAll('#classes li').length === 10")
    tab.wait_for_timeout(100)
    return ranked(tab)[0]


@pytest.mark.slow
def test_digits_drawn_with_the_mouse_are_recognised(digits_run, opened, tmp_path):
    path = cnnjax.export(digits_run, tmp_path / "digits.html").path
    tab = opened(path)
    found = {digit: draw(tab, lines) for digit, lines in DIGITS.items()}
    assert found == {digit: str(digit) for digit in DIGITS}
    phone = opened(path, viewport={"width": 360, "height": 640}, color_scheme="dark", has_touch=True)
    assert draw(phone, DIGITS[2]) == "2"
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    assert phone.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(25, 25, 24)"


def prepared_in(tab, content):
    """An image file as the page prepares it, and its prediction."""
    found = tab.evaluate(
        """async bytes => {
            const {prepared, decoded, predict} = window.cnnjax;
            const {image} = prepared(await decoded(new Blob([new Uint8Array(bytes)])));
            return {pixels: [...image.data], probabilities: [...await predict(image)]};
        }""",
        list(content),
    )
    return np.array(found["pixels"], np.uint8), np.array(found["probabilities"])


@pytest.mark.slow
def test_a_chosen_image_is_prepared_and_classified_as_the_run_does(digits_run, opened, tmp_path):
    tab = opened(cnnjax.export(digits_run, tmp_path / "digits.html").path)
    random = np.random.default_rng(0)
    for height, width, mode in ((32, 32, "L"), (57, 41, "RGB"), (20, 90, "L")):
        shape = (height, width) if mode == "L" else (height, width, 3)
        picture = Image.fromarray(random.integers(0, 256, shape, np.uint8))
        file = io.BytesIO()
        picture.save(file, "png")
        pixels, probabilities = prepared_in(tab, file.getvalue())
        expected = digits_run.prepare(picture)
        assert (pixels.reshape(expected.shape) == expected).all()
        np.testing.assert_allclose(probabilities, digits_run.predict_prepared(expected[None])[0], atol=1e-5)
    chosen = tmp_path / "chosen.png"
    chosen.write_bytes(file.getvalue())
    tab.set_input_files("#file", chosen)
    tab.wait_for_function("document.getElementById('status').textContent.includes('central crop')")
    assert ranked(tab)[0] == digits_run.label_names[probabilities.argmax()]
    broken = tmp_path / "broken.png"
    broken.write_text("text")
    tab.set_input_files("#file", broken)
    tab.wait_for_function("document.getElementById('status').textContent === 'broken.png cannot be read as an image'")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{"resize": (24, 28), "resize_mode": "fit"}, {"resize": (20, 28), "resize_mode": "stretch", "pad": (32, 32)}],
)
def test_photographs_are_resized_as_in_training(settings, opened, tmp_path):
    random = np.random.default_rng(1)
    for index in range(12):
        (tmp_path / f"photos/{'ab'[index % 2]}<{index % 2}>").mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{'ab'[index % 2]}<{index % 2}>/{index}.png")
    config = {
        "dataset": {"name": str(tmp_path / "photos"), **settings}, "model": {"name": "pattern", "plan": "conv 4 pool"},
        "train": {"epochs": 1, "batch_size": 4}, "devices": 1, "log": {"progress": "off", "tensorboard": False},
    }  # fmt: skip
    run = cnnjax.train(config, tmp_path / "run")
    tab = opened(cnnjax.export(run, tmp_path / "photos.html").path)
    assert tab.query_selector("#board") is None
    for height, width in ((60, 80), (201, 133), (30, 17)):
        picture = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
        file = io.BytesIO()
        picture.save(file, "png")
        pixels, probabilities = prepared_in(tab, file.getvalue())
        expected = run.prepare(picture)
        pixels = pixels.reshape(expected.shape)
        assert abs(pixels.astype(int) - expected).max() <= 1  # versions of Pillow differ by that, see classify.js
        np.testing.assert_allclose(probabilities, run.predict_prepared(pixels[None])[0], atol=1e-5)


def package(folder, name="onnxruntime-web"):
    for part, content in (
        ("package.json", json.dumps({"name": name, "version": "1.2.3"})), (page.SCRIPT, "script"), (page.WASM, "wasm"),
    ):  # fmt: skip
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).write_text(content)


def test_the_runtime_is_found_as_archive_and_as_folder(tmp_path, monkeypatch):
    package(tmp_path / "package")
    subprocess.run(["tar", "czf", "it.tgz", "package"], cwd=tmp_path, check=True)
    expected = page.Runtime("1.2.3", b"script", b"wasm")
    assert (
        page.find_runtime(tmp_path / "it.tgz")
        == page.find_runtime(tmp_path)
        == page.find_runtime(tmp_path / "package")
        == expected
    )
    package(tmp_path / "node_modules/onnxruntime-web")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert page.find_runtime(None) == expected
    package(tmp_path / "other", "left-pad")
    with pytest.raises(ValueError, match="expected the npm package onnxruntime-web"):
        page.find_runtime(tmp_path / "other")


def test_npm_fetches_it_once(tmp_path, monkeypatch):
    package(tmp_path / "package")
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    npm = tmp_path / "bin/npm"
    npm.parent.mkdir()
    npm.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\ntar czf "$4/{page.PACKAGE}-{page.VERSION}.tgz" -C {tmp_path} package\n'
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path / "bin")
    assert page.find_runtime(None) == page.find_runtime(None) == page.Runtime("1.2.3", b"script", b"wasm")
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    npm.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(ConnectionError, match="npm cannot fetch onnxruntime-web: no network; fetch https://"):
        page.find_runtime(None)


def test_the_page_holds_everything_and_escapes_names(finished_run, tmp_path):
    package(tmp_path / "package")
    text = cnnjax.export(finished_run, tmp_path / "it.html", runtime=tmp_path / "package").path.read_text()
    assert "src=" not in text and "http" not in text.split('id="runtime"')[0] and 'id="board"' in text
    again = cnnjax.export(finished_run, tmp_path / "again.html", runtime=tmp_path / "package").path.read_text()
    assert again == text
