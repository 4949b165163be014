"""The table of the network's layers."""

from cnnjax.analysis.summary import summarize
from cnnjax.report.blocks import Details, Section, Table
from cnnjax.report.contents import RunContents

NEEDS = ("model", "config")
# Rows of a table that is not folded away.
ROWS = 30


def section(contents: RunContents) -> Section:
    """The layers' shapes, parameters and operations."""
    columns, rows = summarize(contents.model, contents.input_shape).table()
    columns[3] = "height of the output"
    table = Table(columns, rows, (4, 5, 6, 7))
    if len(rows) <= ROWS:
        return Section("Network", [table])
    folded = Details(f"{contents.config.model.name}: {len(rows) - 1} layers", [table])
    return Section("Network", [folded])
