"""The config: gathers what each component declares beside its own code; loads, overrides, checks.

A config file defines `get_config()`, which returns what it sets and nothing else, as a dict or a ConfigDict. What it
leaves out takes the components' defaults::

    def get_config():
        return {
            "dataset": {"name": "digits"},
            "model": {"name": "lenet5", "activation": "relu"},
            "optimizer": {"learning_rate": 0.05},
        }

`load_config` returns a locked `ConfigDict` with every field. A component of your own is named by where it is,
`"package.module:Attribute"` or `"./file.py:Attribute"` (see `core.locate`): its options are declared, checked, listed,
overridden and varied as ours are.
"""

import ast
import copy
import difflib
import functools
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cnnjax.core import files, locate
from cnnjax.core.locate import OBJECT
from cnnjax.core.options import REQUIRED, Option, checked, declared, describe, unknown
from cnnjax.data.augment import AugmentOptions, find_extra
from cnnjax.data.datasets import DatasetOptions, beside
from cnnjax.models import MODELS
from cnnjax.tasks.losses import LOSSES
from cnnjax.tasks.registry import TASKS
from cnnjax.training.checkpoints import CheckpointOptions
from cnnjax.training.evaluation import EvaluateOptions
from cnnjax.training.experiment import TrainOptions
from cnnjax.training.logs import LogOptions
from cnnjax.training.optimizers import OPTIMIZERS, OptimizerOptions, optimizer_options
from cnnjax.training.schedules import SCHEDULES
from cnnjax.transfer.initial import InitialOptions

# Sections whose fields are fixed ...
SECTIONS: Mapping[str, type] = {
    "dataset": DatasetOptions,
    "augment": AugmentOptions,
    "initial": InitialOptions,
    "train": TrainOptions,
    "evaluate": EvaluateOptions,
    "checkpoint": CheckpointOptions,
    "log": LogOptions,
}
# ... and those that choose a component by `name`, whose options are the section's other fields.
COMPONENTS: Mapping[str, tuple[Mapping[str, Callable[..., Any]], str]] = {
    "task": (TASKS, "classification"),
    "model": ({name: model.build for name, model in MODELS.items()}, "lenet5"),
    "loss": (LOSSES, "cross_entropy"),
    "optimizer": (OPTIMIZERS, "sgd"),
    "schedule": (SCHEDULES, "constant"),
}
# Fields that belong to no section, and those every component of a section has.
TOP: Mapping[str, Option] = {
    "seed": Option("seed", int, 0, "everything random follows from it", lambda seed: (
        None if 0 <= seed < 2**32 else "a whole number from 0 to 2**32 - 1")),
    "devices": Option("devices", int | None, None, "how many devices share each batch; None is all", lambda count: (
        None if count >= 1 else "at least 1")),
    "folder": Option("folder", str | None, None, "where ./file.py is looked for before the working directory; a config file's own folder"),
}  # fmt: skip
SHARED: Mapping[str, Mapping[str, Option]] = {"optimizer": declared(OptimizerOptions)}
# What may differ when a run is resumed: none of these changes what was trained so far. (With a schedule that falls over
# the whole run, more epochs change the rates of those to come.)
RESUMABLE = (
    "devices",
    "folder",
    "train.epochs",
    "checkpoint",
    "log",
    "dataset.data_dir",
    "dataset.manual_dir",
    "dataset.resident",
    "dataset.workers",
)


def is_resumable(path: str) -> bool:
    """Whether a field may differ when a run is resumed.

    >>> [is_resumable(path) for path in ("devices", "log.progress", "train.batch_size")]
    [True, True, False]
    """
    return any(path == name or path.startswith(f"{name}.") for name in RESUMABLE)


def component(section: str, name: str, folder: str | None = None) -> Callable[..., Any]:
    """The component that a section chooses by name: ours, an installed package's, or one of the user's own.

    Raises:
      ValueError: there is none; the message has the nearest names.
    """
    ours, offered = COMPONENTS[section][0], offered_components(section)
    reference = offered[name][0] if name in offered else name
    try:
        return locate.locate(f"{section}.name", reference, ours, folder)
    except ValueError as error:
        raise ValueError(f"config: {error}") from error


@functools.cache
def offered_components(section: str) -> Mapping[str, tuple[str, str]]:
    """What installed packages offer for a section by entry points, as `core.locate.installed` returns it."""
    return locate.installed(f"cnnjax.{section}s", COMPONENTS[section][0])


def section_options(section: str, name: str | None = None, folder: str | None = None) -> dict[str, Option]:
    """The fields of a section, with their defaults; `name` is the component's for a section that has one."""
    if section in SECTIONS:
        return declared(SECTIONS[section])
    name = COMPONENTS[section][1] if name is None else name
    if not isinstance(name, str):
        raise TypeError(f"config: {section}.name: expected a name, got {name!r}")
    if name.startswith(OBJECT):  # given from Python in the place of a name
        return SHARED.get(section, {})
    chosen = component(section, name, folder)
    return optimizer_options(chosen) if section == "optimizer" else declared(chosen)


def resolve(
    given: Mapping[str, Any] | ConfigDict | None = None, overrides: Mapping[str, Any] | None = None
) -> ConfigDict:
    """The whole config from what was set: overrides go in, defaults fill the rest, every value is checked.

    Choosing another component (`model.name`, say) by an override starts from that component's options: what was set
    for the old one is kept where the new one has a field of that name, and dropped where it has not.

    Args:
      given: sections and fields, as a config file returns them.
      overrides: {"section.field": value}.

    Raises:
      ValueError: an unknown field or component, or a value that is not allowed.
      TypeError: a value of the wrong type.
    """
    for key in given or {}:
        if "." in str(key):
            raise ValueError(f"config: {key!r} is a field of a section: nest it, or give it as an override")
    # A copy, in which a ConfigDict's references between fields stay alive while the overrides go in.
    config = copy.deepcopy(given) if isinstance(given, ConfigDict) else ConfigDict(dict(given or {}))
    config.unlock()
    for path, value in sorted((overrides or {}).items(), key=lambda item: not item[0].endswith(".name")):
        _set(config, path, value)
    values = config.copy_and_resolve_references().to_dict()

    resolved: dict[str, Any] = {}
    sections = [*TOP, *SECTIONS, *COMPONENTS]
    for key in values:
        if key not in sections:
            raise ValueError(_unknown_field(str(key), sections))
    for key, field in TOP.items():
        resolved[key] = checked(key, values.get(key, field.default), field)
    for section in (*SECTIONS, *COMPONENTS):
        fields = dict(values.get(section) or {}) if isinstance(values.get(section, {}), Mapping) else None
        if fields is None:
            raise TypeError(f"config: {section}: expected a section with fields, got {values[section]!r}")
        name = {}
        if section in COMPONENTS:
            chosen = fields.pop("name", _default(section, resolved))
            offered = offered_components(section)  # a package's name is written as where it is
            name = {"name": offered[chosen][0] if isinstance(chosen, str) and chosen in offered else chosen}
        options = section_options(section, name.get("name"), resolved["folder"])
        for key in fields:
            if key not in options:
                where = f" of {section} {name['name']!r}" if name else ""
                raise ValueError(_unknown_field(f"{section}.{key}", [f"{section}.{field}" for field in options], where))
        resolved[section] = {
            **name,
            **{
                key: checked(f"{section}.{key}", fields.get(key, field.default), field)
                for key, field in options.items()
                if not _is_missing(section, name, key, field, fields)
            },
        }
        if section == "dataset":
            resolved[section]["name"] = beside(resolved[section]["name"], resolved["folder"])
        if section in SECTIONS:
            SECTIONS[section](**resolved[section])  # the section's own checks across fields
    find_extra(AugmentOptions(**resolved["augment"]), resolved["folder"])  # a name that is wrong is said at once
    return ConfigDict(resolved).lock()


def _default(section: str, resolved: Mapping[str, Any]) -> str:
    """The component that a section has where none is named; a loss is the task's usual one."""
    if section != "loss" or resolved["task"]["name"].startswith(OBJECT):
        return COMPONENTS[section][1]
    return component("task", resolved["task"]["name"], resolved["folder"]).default_loss


def _is_missing(section: str, name: Mapping[str, str], key: str, field: Option, fields: Mapping[str, Any]) -> bool:
    """Raises ValueError if a field that has no default is not set."""
    if field.default is REQUIRED and key not in fields:
        raise ValueError(f"config: {section}.{key} is not set, and {name['name']} has no default for it: set it")
    return False


def _unknown_field(path: str, choices: list[str], where: str = "") -> str:
    # Nearest within the section first: a typo in the last word is the usual case. Then that word in another section.
    section, _, last = path.rpartition(".")
    same = [choice for choice in choices if choice.startswith(f"{section}.")]
    for candidates in (same, choices):
        words = {choice.rpartition(".")[2]: choice for choice in reversed(candidates)}
        near = difflib.get_close_matches(last, words, n=2, cutoff=0.6)
        if near:
            return f"config: unknown field {path!r}{where}: did you mean {' or '.join(repr(words[word]) for word in near)}?"
    return f"config: unknown field {path!r}{where}: choose from {', '.join(same or choices)}"


def _paths() -> list[str]:
    """Every field of every section and component."""
    found = list(TOP)
    for section in SECTIONS:
        found += [f"{section}.{key}" for key in section_options(section)]
    for section, (registry, _) in COMPONENTS.items():
        found += [
            f"{section}.name",
            *(f"{section}.{key}" for name in registry for key in section_options(section, name)),
        ]
    return list(dict.fromkeys(found))


def _set(config: ConfigDict, path: str, value: Any) -> None:
    section, _, key = path.partition(".")
    if path in SECTIONS or path in COMPONENTS:
        raise ValueError(
            f"config: {path} is a section: set its fields, such as {path}.{next(iter(section_options(path)))}"
        )
    if section not in COMPONENTS and path not in _paths():
        raise ValueError(_unknown_field(path, _paths()))
    if not key:
        config[section] = value
        return
    if section not in config:
        config[section] = ConfigDict()
    fields = config[section]
    if section in COMPONENTS:
        folder = config.get("folder")
        if key == "name":
            _change_component(section, fields, value, folder)
            return
        # Of a component that is chosen, its own; of ours, any: `resolve` says which component has no such field.
        own = section_options(section, fields.get("name"), folder)
        if key not in own and path not in _paths():
            raise ValueError(_unknown_field(path, [*(f"{section}.{field}" for field in own), *_paths()]))
    with fields.ignore_type():
        fields[key] = value


def _change_component(section: str, fields: ConfigDict, name: str, folder: str | None) -> None:
    _, default = COMPONENTS[section]
    old = section_options(section, fields.get("name", default), folder)
    new = section_options(section, name, folder)
    for key in [key for key in fields if key != "name"]:
        was_default = key in old and fields[key] == old[key].default
        if key not in new or (was_default and name != fields.get("name", default)):
            del fields[key]
    fields["name"] = name


def load_config(
    source: str | Path | Mapping[str, Any] | ConfigDict, overrides: Mapping[str, Any] | None = None
) -> ConfigDict:
    """A whole, checked, locked config.

    Args:
      source: a config file's path, as `file.py` or `file.py:ARGUMENT` for `get_config(ARGUMENT)`; the bare name of one
        that comes with cnnjax (`quickstart`); a run's `config.json`; or the fields themselves.
      overrides: {"optimizer.learning_rate": 0.05}; they go before the file, the file before the defaults.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file has no `get_config`, or as in `resolve`.
      TypeError: a value of the wrong type.
    """
    given = _read(str(source)) if isinstance(source, str | Path) else source
    if not isinstance(given, Mapping | ConfigDict):
        raise TypeError(f"config: expected a file's path, a dict or a ConfigDict, got {given!r}")
    return resolve(given, overrides)


def _read(source: str) -> Mapping[str, Any]:
    path = _find(source)[0]
    if path.suffix == ".json":
        given, copies = files.read_json(path), path.parent.resolve() / locate.COPIES
        return {**given, "folder": str(copies)} if isinstance(given, dict) and copies.is_dir() else given
    module, argument = load_module(source)
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise ValueError(f"config file {path} has no function get_config()")
    takes = len(inspect.signature(get_config).parameters)
    if argument is not None and not takes:
        raise ValueError(f"config file {path}: get_config takes no argument, so {source} cannot give it one")
    given = get_config(argument) if argument is not None else get_config()
    if not isinstance(given, Mapping | ConfigDict):
        raise ValueError(
            f"config file {path}: get_config() returned {type(given).__name__}, expected a dict or a ConfigDict"
        )
    if "folder" not in given:
        given = given.copy_and_resolve_references() if isinstance(given, ConfigDict) else dict(given)
        if isinstance(given, ConfigDict):
            given.unlock()
        given["folder"] = str(path.parent.resolve())
    return given


def load_module(source: str) -> tuple[types.ModuleType, str | None]:
    """A config file run as a Python module, and the argument that `file.py:ARGUMENT` gives.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not Python, or fails.
    """
    path, argument = _find(source)
    if path.suffix != ".py":
        raise ValueError(f"config file {path}: expected a Python file (.py) or a run's config.json")
    return locate.load_file(path, "config file"), argument


def config_name(source: str) -> str:
    """What a config is called: its file's name, without suffix and argument.

    >>> [config_name(source) for source in ("quickstart", "configs/quickstart.py")]
    ['quickstart', 'quickstart']
    """
    return _find(source)[0].stem


def is_config_file(source: str) -> bool:
    """Whether a text names a config file, as `file.py`, `file.py:ARGUMENT` or `config.json`.

    >>> [is_config_file(source) for source in ("own.py:0.5", "runs/a/config.json", "C:/own.py", "photos/")]
    [True, True, True, False]
    """
    return re.fullmatch(r".*\.(py(:.*)?|json)", source) is not None


def _find(source: str) -> tuple[Path, str | None]:
    path, argument = Path(source).expanduser(), None
    if not path.exists() and ":" in source:
        head, argument = source.rsplit(":", 1)
        path = Path(head).expanduser()
    if not path.is_file() and path.suffix != ".py" and len(path.parts) == 1:
        path = shipped_configs().get(str(path), path)
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder: expected a config file")
    if not path.exists():
        nearby = {str(file): file for file in path.parent.glob("*.py")} if path.parent.is_dir() else {}
        raise FileNotFoundError(unknown("config file", str(path), {**shipped_configs(), **nearby}))
    return path, argument


def shipped_configs() -> dict[str, Path]:
    """The configs that come with cnnjax, by name: from the checkout, or from the installed package."""
    package = Path(__file__).parent
    folder = package / "configs" if (package / "configs").is_dir() else package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}


def parse_value(text: str) -> Any:
    """A command-line value as Python reads it, or as the text it is: "0.05" -> 0.05, "(2, 3)", "relu" -> "relu"."""
    words = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for read in (ast.literal_eval, float):  # float knows nan and inf
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return text


def to_json(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON has it, without the folder it was read in; `load_config` makes lists tuples again."""
    return json.loads(json.dumps({key: value for key, value in config.to_dict().items() if key != "folder"}))


def flatten(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """{"section.field": value} of a whole config."""
    return dict(_walk(config.to_dict() if isinstance(config, ConfigDict) else config))


def _walk(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def options_of(config: ConfigDict) -> dict[str, Option]:
    """Every option of a resolved config by its path, but its components' names: {"seed": ..., "model.activation": ...}."""
    found = dict(TOP)
    for section in (*SECTIONS, *COMPONENTS):
        name = config[section].name if section in COMPONENTS else None
        found |= {f"{section}.{key}": option for key, option in section_options(section, name, config.folder).items()}
    return found


def chosen(config: ConfigDict) -> dict[str, Any]:
    """The fields of a resolved config that are not at their defaults, and its components' names."""
    found = {f"{section}.name": config[section].name for section in COMPONENTS}
    options, fields = options_of(config), flatten(config)
    return found | {
        path: fields[path] for path, option in options.items() if path != "folder" and fields[path] != option.default
    }


def differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """The fields in which two configs differ, as {"section.field": (old, new)}; "(absent)" stands for no such field."""
    before, after = flatten(old), flatten(new)
    return {
        path: (before.get(path, "(absent)"), after.get(path, "(absent)"))
        for path in {**before, **after}
        if before.get(path, "(absent)") != after.get(path, "(absent)")
    }


def user_files(config: ConfigDict) -> dict[str, Path]:
    """The files of the user's own components: name in a run's copy -> path.

    Raises:
      ValueError: a file is missing, or two of one name come from different folders.
    """
    found: dict[str, Path] = {}
    references = [(f"{section}.name", config[section].name) for section in COMPONENTS]
    references += [(f"{section}.{key}", value) for section in SECTIONS for key, value in config[section].items()]
    for field, name in references:
        if not locate.is_reference(name):
            continue
        for key, path in locate.source_files(field, name, config.folder).items():
            if found.setdefault(key, path) != path:
                raise ValueError(f"config: {field}: {path} and {found[key]} have one name: rename one of them")
    return found


def referenced_runs(config: ConfigDict) -> dict[str, Path]:
    """The directories of the runs that components read: field -> path (see `core.options.RunPath`)."""
    fields = flatten(config)
    return {path: Path(fields[path]) for path, option in options_of(config).items() if option.is_run and fields[path]}


def describe_options(part: str | None = None, config: ConfigDict | None = None) -> list[tuple[str, Any, str]]:
    """(field, default, meaning) of every field, for help; a field that components share is there once.

    Args:
      part: a section, as "optimizer"; a component's own fields, as "optimizer.sgd"; or one field; None is all.
      config: whose chosen components are described, with the values it has; None describes all of ours.

    Raises:
      ValueError: there is no such part; the message has the nearest.
    """
    if config is not None:
        rows = _rows_of(config)
    else:
        rows = [(key, field.default, field.meaning) for key, field in TOP.items()]
        for section in SECTIONS:
            rows += [(f"{section}.{key}", o.default, o.meaning) for key, o in section_options(section).items()]
        for section, (registry, default) in COMPONENTS.items():
            offered = [f"{name} (of {package})" for name, (_, package) in offered_components(section).items()]
            rows.append((f"{section}.name", default, "one of " + ", ".join([*registry, *offered])))
            rows += _component_rows(section, list(registry))
    if part is None:
        return rows
    section, _, name = part.partition(".")
    if section in COMPONENTS and name in COMPONENTS[section][0]:
        return _component_rows(section, [name])
    found = [row for row in rows if row[0] == part or row[0].startswith(f"{part}.")]
    if not found:
        components = [f"{section}.{name}" for section, (registry, _) in COMPONENTS.items() for name in registry]
        parts = [*SECTIONS, *COMPONENTS] if "." not in part else [*components, *(row[0] for row in rows)]
        raise ValueError(unknown("section" if "." not in part else "field", part, dict.fromkeys(parts)))
    return found


def _rows_of(config: ConfigDict) -> list[tuple[str, Any, str]]:
    rows = [(key, config[key], field.meaning) for key, field in TOP.items()]
    for section in (*SECTIONS, *COMPONENTS):
        name = config[section].name if section in COMPONENTS else None
        if name is not None:
            rows.append((f"{section}.name", name, "the component that is chosen"))
        options = section_options(section, name, config.folder)
        rows += [
            (f"{section}.{key}", config[section][key], o.meaning or describe(o.type)) for key, o in options.items()
        ]
    return rows


def _component_rows(section: str, names: list[str]) -> list[tuple[str, Any, str]]:
    """A section's fields; of those that some of several components have, with these components' names."""
    having: dict[tuple[str, str, str], tuple[Any, list[str]]] = {}
    for name in names:
        for key, option in section_options(section, name).items():
            choices = typing.get_args(option.type) if typing.get_origin(option.type) is typing.Literal else ()
            meaning = option.meaning or ", ".join(map(str, choices)) or describe(option.type)
            having.setdefault((key, repr(option.default), meaning), (option.default, []))[1].append(name)
    return [
        (f"{section}.{key}", default, meaning if owners == names else f"{meaning} ({', '.join(owners)})")
        for (key, _, meaning), (default, owners) in sorted(having.items(), key=lambda item: -len(item[1][1]))
    ]
