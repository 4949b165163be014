"""The config of a run, and the differences between the configs of several runs."""

import json
from collections.abc import Mapping

from cnnjax.config import chosen, flatten, to_json
from cnnjax.report.blocks import Details, Section, Table, Template, Text
from cnnjax.report.contents import RunContents
from cnnjax.report.words import config_value

NEEDS = ("config",)


def section(contents: RunContents) -> Section:
    """The fields that differ from their defaults, and the whole config folded away."""
    config = contents.config
    rows = [(path, config_value(value)) for path, value in sorted(chosen(config).items())]
    whole = json.dumps(to_json(config), indent=2)
    code = Template("code.html", {"code": whole}, [Text(f"```json\n{whole}\n```")])
    return Section(
        "Config",
        [
            Text("The components, and the fields that differ from their defaults."),
            Table(("field", "value"), rows),
            Details("The whole resolved config", [code]),
        ],
    )


def compare(runs: Mapping[str, RunContents]) -> Section:
    """The fields in which the configs differ."""
    found = {name: flatten(to_json(contents.config)) for name, contents in runs.items()}
    rows = []
    for path in sorted({path for config in found.values() for path in config}):
        values = [config_value(config[path]) if path in config else "—" for config in found.values()]
        if len(set(values)) > 1:
            rows.append((path, *values))
    if not rows:
        return Section("Configs", [Text("The configs are equal.")])
    return Section("Differences between the configs", [Table(("field", *found), rows)])
