"""The versions, the devices and the time spent."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cnnjax.report.blocks import Details, Section, Table
from cnnjax.report.contents import RunContents
from cnnjax.report.words import duration

NEEDS = ()


def section(contents: RunContents) -> Section:
    """The environment of one run."""
    return Section("Environment", [environment_table(contents)])


def compare(runs: Mapping[str, RunContents]) -> Section:
    """The environments of several runs, folded away."""
    return Section("Environment", [Details(name, [environment_table(contents)]) for name, contents in runs.items()])


def environment_table(contents: RunContents) -> Table:
    """The table of where and how a run was trained."""
    found, described = contents.environment or {}, contents.described or {}
    devices = [f"{device.get('kind')} ({device.get('platform')})" for device in found.get("devices", [])]
    sizes = ", ".join(f"{split} {count:,}" for split, count in described.get("examples", {}).items())
    steps, whole = contents.training_seconds, contents.wall_seconds
    rows = [
        ("run directory", str(contents.workdir)),
        ("data set", f"{described.get('name')} ({sizes})" if described else None),
        ("data fingerprint", described.get("fingerprint")),
        ("training steps took", duration(steps) if steps is not None else None),
        ("from start to end", duration(whole) if whole is not None else None),
        ("devices", ", ".join(dict.fromkeys(devices)) + (f", {len(devices)}" if len(devices) > 1 else "")),
        ("Python", found.get("python")),
        ("platform", found.get("platform")),
        *((name, version) for name, version in found.get("packages", {}).items()),
        ("git commit", found.get("git_commit")),
        ("command", _typed(found.get("command", []))),
    ]
    return Table(("", ""), [(name, value) for name, value in rows if value])


def _typed(command: Sequence[str]) -> str:
    """A command as it is typed, without the folder of its program."""
    program, *words = map(str, command) if command else [""]
    name = Path(program).name
    return " ".join(["python -m cnnjax" if name == "__main__.py" else name, *words])
