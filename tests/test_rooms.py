"""The house: data flows from top to bottom, and a room uses only the rooms above it."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "cnnjax"
# From top to bottom. `config` gathers what the rooms above it declare; `runs` are configs trained.
ROOMS = (
    "core", "ops", "layers", "detection", "models", "data", "tasks", "transfer", "training", "config", "runs", "analysis", "report",
    "ablation", "exporting", "ahead", "commands", "cli", "__main__",
)  # fmt: skip


def imports(path):
    """The modules of the package that a file imports, within functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("cnnjax."))
        elif isinstance(node, ast.ImportFrom) and node.module == "cnnjax":
            yield from (f"cnnjax.{alias.name}" for alias in node.names if not alias.name.startswith("__"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cnnjax."):
            yield node.module


def room_of(path):
    first, *_ = path.relative_to(PACKAGE).parts
    return first.removesuffix(".py")


def test_every_file_is_in_a_room():
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms == set(ROOMS)


def test_a_room_uses_only_the_rooms_above_it():
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if (room := room_of(path)) != "__init__"
        for module in imports(path)
        if ROOMS.index(module.split(".")[1]) > ROOMS.index(room)
    ]
    assert not wrong
