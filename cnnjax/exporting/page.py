"""A page that classifies in a browser: one HTML file with the network, and onnxruntime-web to compute it.

onnxruntime-web's program for browsers has 14 MB (4 MB in the page, compressed) and comes from npm, not from the Python package index. It is
not part of cnnjax, since most users do not need it: it is read from the npm package, which is found in a `node_modules` folder, given as
a file, or fetched once by the user's own npm with its configured mirror and proxy. Without a network, a file that was fetched elsewhere
can be given.
"""

import base64
import gzip
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from cnnjax import __version__
from cnnjax.core import files
from cnnjax.core.runtime import cache_directory
from cnnjax.core.terminal import say
from cnnjax.data import catalogue
from cnnjax.data.datasets import DatasetOptions
from cnnjax.exporting.prediction import output_name, preparation
from cnnjax.runs.run import Run
from cnnjax.tasks.classification import Classification
from cnnjax.tasks.multilabel import MultiLabel
from cnnjax.training import run_directory

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# The parts of the package that a page needs.
SCRIPT, WASM = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"
# For images up to this size the page has a board to draw on; larger ones are chosen as files.
LARGEST_DRAWING = 64


class Runtime(NamedTuple):
    """onnxruntime-web: its version, its script and its WebAssembly."""

    version: str
    script: bytes
    wasm: bytes


class Drawing(NamedTuple):
    """The placement of the drawings of a data set in their images.

    Attributes:
      fill: the longer side of the ink's bounding box as a fraction of the image's side.
      centre: the point in the middle of the image: the ink's centre of mass, or the centre of its box.
      via: the size in which the data set was published, before it was enlarged.
      pen: the width of a line as a fraction of the board's width.
    """

    fill: float = (
        20 / 28
    )  # as MNIST, whose digits lie in a box of 20x20 pixels of 28x28, centred by mass (its authors' page)
    centre: str = "mass"
    via: tuple[int, int] | None = None
    pen: float = 0.08


# The embedded digits' bitmaps were scaled to 32x32 and counted in blocks of 4x4 (UCI, optdigits); their lines are two blocks wide.
DRAWINGS = {"digits": Drawing(fill=1.0, centre="box", via=(8, 8), pen=0.18)}


def check(run: Run) -> None:
    """Raises ValueError for a run whose images or predictions a page cannot show; the message says what is expected."""
    task, shape = run.task, tuple(run.described["image_shape"])
    if not isinstance(task, Classification | MultiLabel):
        raise ValueError(
            f"a page shows the probabilities of classes, and the run's task is {type(task).__name__}: export to .onnx"
        )
    options = DatasetOptions(**run.config.dataset)
    space = options.color_space or {1: "grey", 3: "rgb"}.get(shape[-1])
    if len(shape) != 3 or run.facts.image_dtype != "uint8" or space not in ("grey", "rgb"):
        raise ValueError(
            f"a page takes photographs, grey or RGB with 8 bits, and the run's images are {run.facts.image_dtype} of shape {shape}"
            f"{f' in {space}' if space not in (None, 'grey', 'rgb') else ''}: export to .onnx"
        )


def find_runtime(given: Path | None) -> Runtime:
    """onnxruntime-web from the given file or folder, a node_modules folder, the cache, or npm.

    Raises:
      FileNotFoundError: it was not found, and there is no npm; the message says what to do.
      ConnectionError: npm cannot fetch it.
      ValueError: the given file or folder is not onnxruntime-web.
    """
    if given is not None:
        return _read(given)
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "node_modules" / PACKAGE / WASM).is_file():
            return _read(folder / "node_modules" / PACKAGE)
    kept = cache_directory() / PACKAGE / f"{PACKAGE}-{VERSION}.tgz"
    if not kept.is_file():
        _fetch(kept)
    return _read(kept)


def _fetch(path: Path) -> None:
    """Fetches the package by npm."""
    advice = (
        f"fetch https://registry.npmjs.org/{PACKAGE}/-/{path.name} elsewhere (or `npm pack {PACKAGE}`) and give --runtime FILE, or put it "
        f"into {path.parent}"
    )
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError(f"a page needs {PACKAGE} (33 MB), and there is no npm to fetch it: {advice}")
    with files.locked(path.parent / ".lock", f"the folder of {PACKAGE}", wait=True):
        if path.is_file():
            return
        say(f"fetching {PACKAGE} {VERSION} with npm (33 MB, once)", error=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".npm-") as folder:
            command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", folder, "--silent"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = " ".join(done.stderr.split())[:200]
                raise ConnectionError(f"npm cannot fetch {PACKAGE}: {reason}; {advice}")
            (Path(folder) / path.name).replace(path)


def _read(place: Path) -> Runtime:
    """onnxruntime-web of a .tgz, of the folder that it unpacks to, or of a folder that holds this."""
    if not place.exists():
        raise FileNotFoundError(f"--runtime {place}: there is no such file or folder")
    wrong = ValueError(
        f"--runtime {place}: expected the npm package {PACKAGE}, as .tgz (`npm pack {PACKAGE}`) or unpacked"
    )
    if place.is_dir():
        inner = [place, place / "package", place / PACKAGE, place / "node_modules" / PACKAGE]
        folder = next((folder for folder in inner if (folder / WASM).is_file()), None)
        if folder is None:
            raise wrong
        return _runtime(lambda name: (folder / name).read_bytes(), wrong)
    try:
        with tarfile.open(place) as archive:

            def member(name: str) -> bytes:
                file = archive.extractfile(f"package/{name}")
                assert file is not None
                return file.read()

            return _runtime(member, wrong)
    except tarfile.TarError:
        raise wrong from None


def _runtime(read: Callable[[str], bytes], wrong: ValueError) -> Runtime:
    try:
        described = json.loads(read("package.json"))
        if described.get("name") != PACKAGE:
            raise wrong
        return Runtime(described["version"], read(SCRIPT), read(WASM))
    except (OSError, KeyError):
        raise wrong from None


def rendered(run: Run, network: bytes, runtime: Runtime) -> str:
    """The page.

    Args:
      run: the run.
      network: its ONNX file, which takes prepared images.
      runtime: onnxruntime-web.
    """
    templates = jinja2.Environment(loader=jinja2.PackageLoader("cnnjax", "exporting/templates"), autoescape=True)
    source = lambda name: templates.loader.get_source(templates, name)[0]  # noqa: E731
    settings = _settings(run)
    return templates.get_template("classify.html").render(
        title=f"{run.config.model.name} on {run.config.dataset.name}",
        subtitle=_subtitle(run),
        drawing=settings["drawing"],
        version=__version__,
        runtime_version=runtime.version,
        settings=Markup(json.dumps(settings).replace("<", "\\u003c")),
        runtime_script=_packed(runtime.script),
        runtime_wasm=_packed(runtime.wasm),
        network=_packed(network),
        style=Markup(source("classify.css")),
        script=Markup(source("classify.js")),
    )


def _subtitle(run: Run) -> str:
    classes = f"{len(run.label_names)} classes" if run.label_names else "images"
    accuracy = run.metrics.get("test/accuracy")
    return classes if accuracy is None else f"{classes}; accuracy on the test split {100 * accuracy:.1f} %"


def _packed(content: bytes) -> str:
    # The same bytes each time: no time of day in the header.
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _settings(run: Run) -> dict[str, Any]:
    """What the page's script needs to prepare images and to name classes."""
    shape, entry = tuple(run.described["image_shape"]), catalogue.find(run.config.dataset.name)
    prepared = preparation(run)
    raw = entry.shape[:2] if entry and entry.shape and not prepared["resize"] else None
    drawing, statistics = None, run_directory.read_statistics(run.described)
    if shape[-1] == 1 and max(shape[:-1]) <= LARGEST_DRAWING:
        kind = DRAWINGS.get(run.config.dataset.name, Drawing())
        bright = statistics is None or statistics.mean[0] < 255 / 2  # ink on a dark ground
        drawing = {**kind._asdict(), "bright": bright, "size": raw or prepared["resize"] or shape[:2]}
    return {
        "image_shape": shape,
        "classes": list(run.label_names),
        "output": output_name(run.task),
        "raw": raw,
        "drawing": drawing,
        **{name: prepared[name] for name in ("resize", "resize_mode", "crop", "pad")},
    }
