"""The notebook runs from its first cell to its last, as a reader would run it, and is stored with outputs of the kind that it has then."""

import os
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "first_steps.ipynb"


def kinds(cells):
    """The kind of each output, by cell: as HTML, as a picture, as text."""
    chosen = ("text/html", "image/png", "text/plain")
    return [
        [next(kind for kind in chosen if kind in output["data"]) for output in cell.outputs if "data" in output]
        for cell in cells
        if cell.cell_type == "code"
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("default_compiler")
@pytest.mark.filterwarnings("ignore")  # those of the notebook's machinery
def test_every_cell_runs_and_shows_what_is_stored(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, 4)
    stored = kinds(notebook.cells)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, "PYTHONPATH": str(NOTEBOOK.parents[1])})
    assert kinds(notebook.cells) == stored
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "'accuracy': 0.9" in printed
    folder = tmp_path / "runs" / "first_steps" / "quickstart"
    assert (folder / "DONE").exists()
    assert (folder / "report" / "index.html").stat().st_size > 100_000


def test_it_is_stored_small_with_its_outputs_and_without_folders_of_a_machine():
    nbformat = pytest.importorskip("nbformat")
    cells = [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    assert len(cells) == 11 and all(cell.outputs for cell in cells)
    assert sum(kind == "text/html" for of_cell in kinds(cells) for kind in of_cell) >= 5  # cards
    assert sum(kind == "image/png" for of_cell in kinds(cells) for kind in of_cell) == 3
    text = NOTEBOOK.read_text("utf-8")
    assert len(text) < 300_000
    assert not re.search(r"/(work|tmp|root|home|Users)/", text)
