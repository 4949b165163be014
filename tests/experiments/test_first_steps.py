"""The notebook runs from its first cell to its last, as a reader would run it."""

import os
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "first_steps.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the notebook's machinery
def test_every_cell_runs_and_draws(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, 4)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, "PYTHONPATH": str(NOTEBOOK.parents[1])})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
    printed = "".join(output.get("text", "") for output in outputs)
    assert "near-duplicates across splits" in printed and "'accuracy': 0.9" in printed
    assert (tmp_path / "runs" / "first_steps" / "quickstart" / "DONE").exists()
    [table] = [output["data"]["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]
    assert table.count("| learning_rate=0.0") == 2
    assert "report/index.html" in outputs[-1]["data"]["text/plain"]
    assert (tmp_path / "runs" / "first_steps" / "quickstart" / "report" / "index.html").stat().st_size > 100_000


def test_it_is_stored_small_and_without_outputs():
    nbformat = pytest.importorskip("nbformat")
    cells = [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    assert len(cells) == 10
    assert NOTEBOOK.stat().st_size < 300_000 and not any(cell.outputs for cell in cells)
