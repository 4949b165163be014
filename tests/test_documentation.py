"""The documentation: it builds without a warning, its links lead somewhere, and its search works on pages opened as files."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "experiments").glob("*.md")),
    *(ROOT / "docs").rglob("*.md"),
]
WRITTEN = [path for path in PAGES if not {"studies", "_build", "api", "models"} & set(path.parts)]


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = set(), set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors.add(values.get("id"))
        self.links |= {values[name] for name in ("href", "src") if values.get(name)}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` does, or as it has just built it: then CNNJAX_SITE says where."""
    if built := os.environ.get("CNNJAX_SITE"):
        return Path(built).resolve(strict=True)
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    command = ["-q", "-W", "--keep-going", "-n", "-b", "html", "-d", str(folder / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *command, str(ROOT / "docs"), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_the_pages_of_the_gallery_have_the_style_and_script_of_today():
    pages = sorted((ROOT / "docs/static/gallery").glob("*.html"))
    templates = [(ROOT / "cnnjax/report/templates" / name).read_text("utf-8") for name in ("style.css", "script.js")]
    old = [page.name for page in pages if not all(text in page.read_text("utf-8") for text in templates)]
    assert len(pages) == 2 and not old, "`make gallery` writes them again"


def test_a_familys_page_has_the_newest_times_with_pytorchs_fastest(tmp_path, monkeypatch):
    pytest.importorskip("sphinx")
    from cnnjax.models import densenet, mobilenet_v2

    spec = importlib.util.spec_from_file_location("generated_pages", ROOT / "docs/generated_pages.py")
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    results = tmp_path / "experiments/benchmarks/results"
    results.mkdir(parents=True)

    def store(name, title, date, network, **seconds):
        modes = {mode.replace("_", "-"): {"device": "cpu", "median_seconds": value} for mode, value in seconds.items()}
        row = {"network": network, "what": "train", "precision": "float32", "images": 16, "modes": modes}
        versions = {"jax": "0.10.2", "torch": "2.13.0+cpu"}
        machine = {"cores": 2, "processor": "AMD EPYC", "packages": versions, "date": date}
        (results / name).write_text(json.dumps({"title": title, "machine": machine, "results": [row]}))

    steps, families = pages.SPEED_TITLES
    store("b.json", families, "2026-11-27", "mobilenet_v2", cnnjax=0.6, flax=1.9, torch=1.1, torch_channels_last=0.65)
    store("c.json", steps, "2026-11-22", "mobilenet_v2", cnnjax=0.7)
    store("d.json", families, "2026-11-27", "drawn-0-0", cnnjax=0.1)
    store("e.json", "Starts", "2026-11-28", "mobilenet_v2", cnnjax=0.1)
    *_, table = pages.speed(mobilenet_v2)
    row = "`mobilenet_v2` | 224x224x3 | training step | 16 | float32 | 2 cores of AMD EPYC | 600 | 650 | 0.10.2 | 2.13.0 | 2026-11-27"
    assert table.splitlines()[2:] == [f"| {row} |"]
    title, words = pages.speed(densenet)
    assert title == "## Speed" and words.startswith("The speed of these networks has not been measured.")


@pytest.mark.slow
def test_every_link_within_the_site_leads_to_a_page_and_a_place_on_it(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 60
    broken = []
    for path, page in pages.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            found = target.exists() and (
                not address.fragment or target not in pages or unquote(address.fragment) in pages[target].anchors
            )
            if not found:
                broken.append((path.relative_to(site).as_posix(), link))
    assert not broken


@pytest.mark.slow
def test_the_list_for_language_models_has_pages_that_exist(site):
    links = re.findall(r"\]\(([^)]+)\)", (site / "llms.txt").read_text("utf-8"))
    assert len(links) > 60 and all((site / link).is_file() for link in links)


@pytest.mark.slow
def test_nothing_on_a_page_is_fetched_from_a_network(site):
    for path in site.rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|img|iframe)[^>]* src="(https?:[^"]*)|<link rel="stylesheet"[^>]*href="(https?:[^"]*)',
            path.read_text("utf-8"),
        )
        assert not fetched, path


@pytest.mark.slow
def test_every_model_config_field_command_and_public_name_has_its_place(site):
    import cnnjax
    from cnnjax.cli import COMMANDS
    from cnnjax.config import describe_options

    text = {path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("*.html")}
    models = "".join(page for name, page in text.items() if name.startswith("reference/models/"))
    for name in cnnjax.list_models():
        assert f'<span class="pre">{name}</span>' in models, name
    for field, _, _ in describe_options():
        page = models if field.startswith("model.") and field != "model.name" else text["reference/config.html"]
        assert f'<span class="pre">{field}</span>' in page, field
    for group in COMMANDS.values():
        for name in group:
            assert f"cnnjax {name}<" in text["reference/commands.html"], name
    for name in cnnjax.__all__:
        assert f'id="cnnjax.{name}"' in text["reference/api/cnnjax.html"], name


@pytest.mark.slow
def test_the_search_finds_pages_that_are_opened_as_files(site):
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{(site / 'search.html').as_uri()}?q=grad_cam")
        page.wait_for_selector("ul.search li a")
        found = page.eval_on_selector_all("ul.search li a", "links => links.map(link => link.getAttribute('href'))")
        browser.close()
    assert any("cnnjax.analysis.html" in link for link in found)


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_files_that_a_page_links_to_exist(path):
    generated = ("reference/", "commands.md", "config.md", "configs.md", "models/", "api/", "studies/")
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)|<img src=\"([^\"]+)\"", path.read_text("utf-8"))
    for link in ("".join(pair) for pair in links):
        if "://" in link or any(re.sub(r"^(\.\./)+", "", link).startswith(start) for start in generated):
            continue
        assert (path.parent / link).exists(), link


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_addresses_of_other_sites_are_whole(path):
    """By their form: no network is asked."""
    for link in re.findall(r"\]\((\w+:[^)]*)\)|<(\w+:[^>]*)>", path.read_text("utf-8")):
        address = urlsplit("".join(link))
        assert address.scheme in ("https", "http", "mailto"), link
        assert address.scheme == "mailto" or re.fullmatch(r"([\w-]+\.)+[a-z]{2,}", address.netloc), link
        assert not re.search(r"\s", address.geturl()), link
