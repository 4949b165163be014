"""Loads, overrides and checks configs, whose fields are declared by the components themselves.

A config file defines `get_config()`, which returns a dict or a ConfigDict with the fields that it sets. All other fields have
the components' defaults::

    def get_config():
        return {
            "dataset": {"name": "digits"},
            "model": {"name": "lenet5", "activation": "relu"},
            "optimizer": {"learning_rate": 0.05},
        }

`load_config` returns a locked `ConfigDict` with every field. A component of your own is named by its location,
`"package.module:Attribute"` or `"./file.py:Attribute"` (see `core.locate`). Its options are declared, checked, listed,
overridden and varied like those of built-in components.
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
from cnnjax.core.locate import OBJECT, shipped_configs
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
from cnnjax.transfer.published_weights import model_options

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
# ... and sections that choose a component by `name`, whose options are the section's other fields.
COMPONENTS: Mapping[str, tuple[Mapping[str, Callable[..., Any]], str]] = {
    "task": (TASKS, "classification"),
    "model": ({name: model.build for name, model in MODELS.items()}, "lenet5"),
    "loss": (LOSSES, "cross_entropy"),
    "optimizer": (OPTIMIZERS, "sgd"),
    "schedule": (SCHEDULES, "constant"),
}
# Fields outside any section, and fields that all components of a section have.
TOP: Mapping[str, Option] = {
    "seed": Option("seed", int, 0, "the seed of all random numbers", lambda seed: (
        None if 0 <= seed < 2**32 else "a whole number from 0 to 2**32 - 1")),
    "devices": Option("devices", int | None, None, "number of devices that share each batch; None for all", lambda count: (
        None if count >= 1 else "at least 1")),
    "folder": Option("folder", str | None, None, "folder in which ./file.py is looked up before the working directory; by default that of the config file"),
}  # fmt: skip
SHARED: Mapping[str, Mapping[str, Option]] = {"optimizer": declared(OptimizerOptions)}
# Fields that may differ when a run is resumed, because they do not affect what was trained so far. (With a schedule that
# decays over the whole run, more epochs change the learning rates of the epochs to come.)
RESUMABLE = (
    "devices",
    "folder",
    "train.epochs",
    "train.parallel",
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
    """The component that a section chooses by name: a built-in one, one of an installed package, or the user's own.

    Raises:
      ValueError: the name is unknown; the message has the nearest names.
    """
    ours, offered = COMPONENTS[section][0], offered_components(section)
    reference = offered[name][0] if name in offered else name
    try:
        return locate.locate(f"{section}.name", reference, ours, folder)
    except ValueError as error:
        raise ValueError(f"config: {error}") from error


@functools.cache
def offered_components(section: str) -> Mapping[str, tuple[str, str]]:
    """The components that installed packages provide for a section, as returned by `core.locate.installed`."""
    return locate.installed(f"cnnjax.{section}s", COMPONENTS[section][0])


def section_options(section: str, name: str | None = None, folder: str | None = None) -> dict[str, Option]:
    """The fields of a section with their defaults; `name` is the component's name, if the section has a component."""
    if section in SECTIONS:
        return declared(SECTIONS[section])
    name = COMPONENTS[section][1] if name is None else name
    if not isinstance(name, str):
        raise TypeError(f"config: {section}.name: expected a name, got {name!r}")
    if name.startswith(OBJECT):  # an object passed from Python instead of a name
        return SHARED.get(section, {})
    chosen = component(section, name, folder)
    return optimizer_options(chosen) if section == "optimizer" else declared(chosen)


def resolve(
    given: Mapping[str, Any] | ConfigDict | None = None, overrides: Mapping[str, Any] | None = None
) -> ConfigDict:
    """The complete config: the given fields with overrides applied, all others at their defaults, every value checked.

    If an override chooses another component (such as `model.name`), options set for the old component are kept if the new
    component has them too, and dropped otherwise.

    Args:
      given: the sections and fields, as a config file returns them.
      overrides: fields to override, as {"section.field": value}.

    Raises:
      ValueError: a field or component is unknown, or a value is not allowed.
      TypeError: a value has the wrong type.
    """
    for key in given or {}:
        if "." in str(key):
            raise ValueError(f"config: {key!r} is a field of a section: nest it, or pass it as an override")
    # A copy, in which references between fields of a ConfigDict remain active while overrides are applied.
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
            offered = offered_components(section)  # the name of a package's component is replaced by its location
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
    find_extra(AugmentOptions(**resolved["augment"]), resolved["folder"])  # reports a wrong name at once
    for key, value in _of_published_weights(resolved).items():
        if resolved["model"][key] is None:
            resolved["model"][key] = value
    return ConfigDict(resolved).lock()


def _of_published_weights(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the model with which the weights that training starts from were trained."""
    network, weights = MODELS.get(resolved["model"]["name"]), resolved["initial"]["weights"]
    return model_options(network.torchvision.name, weights) if weights and network and network.torchvision else {}


def _default(section: str, resolved: Mapping[str, Any]) -> str:
    """The default component of a section; the default loss depends on the task."""
    if section != "loss" or resolved["task"]["name"].startswith(OBJECT):
        return COMPONENTS[section][1]
    return component("task", resolved["task"]["name"], resolved["folder"]).default_loss


def _is_missing(section: str, name: Mapping[str, str], key: str, field: Option, fields: Mapping[str, Any]) -> bool:
    """Raises ValueError if a field without a default is not set."""
    if field.default is REQUIRED and key not in fields:
        raise ValueError(f"config: {section}.{key} is not set, and {name['name']} has no default for it")
    return False


def _unknown_field(path: str, choices: list[str], where: str = "") -> str:
    # First the nearest names within the section, since a typo in the last word is the usual case; then in other sections.
    section, _, last = path.rpartition(".")
    same = [choice for choice in choices if choice.startswith(f"{section}.")]
    for candidates in (same, choices):
        words = {choice.rpartition(".")[2]: choice for choice in reversed(candidates)}
        near = difflib.get_close_matches(last, words, n=2, cutoff=0.6)
        if near:
            return f"config: unknown field {path!r}{where}: did you mean {' or '.join(repr(words[word]) for word in near)}?"
    return f"config: unknown field {path!r}{where}: choose from {', '.join(same or choices)}"


def _paths() -> list[str]:
    """Every field of every section and component: some hundreds, which take 20 ms to list."""
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
    known = path in TOP or section in COMPONENTS or (section in SECTIONS and key in section_options(section))
    if not known:
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
        # A field of the chosen component, or of any built-in one: `resolve` reports if the chosen one does not have it.
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
    """Loads a complete, checked and locked config.

    Args:
      source: the path of a config file, as `file.py` or `file.py:ARGUMENT` for `get_config(ARGUMENT)`; the name of a config
        that comes with cnnjax (`quickstart`); a run's `config.json`; or the fields themselves.
      overrides: fields to override, as {"optimizer.learning_rate": 0.05}. They take precedence over the file, and the file
        over the defaults.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file has no `get_config`, or as in `resolve`.
      TypeError: a value has the wrong type.
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
        raise ValueError(f"config file {path}: get_config takes no argument, but {source} has one")
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
    """A config file loaded as a Python module, and the argument in `file.py:ARGUMENT`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not Python, or running it fails.
    """
    path, argument = _find(source)
    if path.suffix != ".py":
        raise ValueError(f"config file {path}: expected a Python file (.py) or a run's config.json")
    return locate.load_file(path, "config file"), argument


def config_name(source: str) -> str:
    """The name of a config: its file name without suffix and argument.

    >>> [config_name(source) for source in ("quickstart", "configs/quickstart.py")]
    ['quickstart', 'quickstart']
    """
    return _find(source)[0].stem


def is_config_file(source: str) -> bool:
    """Whether a text names a config file: `file.py`, `file.py:ARGUMENT` or `config.json`.

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


def parse_value(text: str) -> Any:
    """Parses a command-line value as a Python literal, or else as text: "0.05" -> 0.05, "(2, 3)" -> (2, 3), "relu" -> "relu"."""
    words = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for read in (ast.literal_eval, float):  # float parses nan and inf
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return text


def to_json(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON data, without its folder; `load_config` converts lists back to tuples."""
    return json.loads(json.dumps({key: value for key, value in config.to_dict().items() if key != "folder"}))


def flatten(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """All fields of a config as {"section.field": value}."""
    return dict(_walk(config.to_dict() if isinstance(config, ConfigDict) else config))


def _walk(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def options_of(config: ConfigDict) -> dict[str, Option]:
    """Every option of a resolved config by its path, without component names: {"seed": ..., "model.activation": ...}."""
    found = dict(TOP)
    for section in (*SECTIONS, *COMPONENTS):
        name = config[section].name if section in COMPONENTS else None
        found |= {f"{section}.{key}": option for key, option in section_options(section, name, config.folder).items()}
    return found


def chosen(config: ConfigDict) -> dict[str, Any]:
    """The names of a resolved config's components and its fields that differ from their defaults."""
    found = {f"{section}.name": config[section].name for section in COMPONENTS}
    options, fields = options_of(config), flatten(config)
    return found | {
        path: fields[path] for path, option in options.items() if path != "folder" and fields[path] != option.default
    }


def differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """The fields in which two configs differ, as {"section.field": (old, new)}; "(absent)" if a config lacks the field."""
    before, after = flatten(old), flatten(new)
    return {
        path: (before.get(path, "(absent)"), after.get(path, "(absent)"))
        for path in {**before, **after}
        if before.get(path, "(absent)") != after.get(path, "(absent)")
    }


def user_files(config: ConfigDict) -> dict[str, Path]:
    """The files of the user's own components: name in the run's copy -> path.

    Raises:
      ValueError: a file is missing, or two files from different folders have the same name.
    """
    found: dict[str, Path] = {}
    references = [(f"{section}.name", config[section].name) for section in COMPONENTS]
    references += [(f"{section}.{key}", value) for section in SECTIONS for key, value in config[section].items()]
    for field, name in references:
        if not locate.is_reference(name):
            continue
        for key, path in locate.source_files(field, name, config.folder).items():
            if found.setdefault(key, path) != path:
                raise ValueError(f"config: {field}: {path} and {found[key]} have the same name: rename one of them")
    return found


def referenced_runs(config: ConfigDict) -> dict[str, Path]:
    """The directories of runs that components read: field -> path (see `core.options.RunPath`)."""
    fields = flatten(config)
    return {path: Path(fields[path]) for path, option in options_of(config).items() if option.is_run and fields[path]}


def describe_options(part: str | None = None, config: ConfigDict | None = None) -> list[tuple[str, Any, str]]:
    """The (field, default, meaning) of every field, for help texts; a field that components share is listed once.

    Args:
      part: a section such as "optimizer", a component such as "optimizer.sgd", or a single field; None for all.
      config: a config whose chosen components are described, with its values; None describes all built-in components.

    Raises:
      ValueError: there is no such part; the message has the nearest names.
    """
    if config is not None:
        rows = _rows_of(config)
    else:
        rows = [(key, field.default, field.meaning) for key, field in TOP.items()]
        for section in SECTIONS:
            rows += [(f"{section}.{key}", o.default, o.meaning) for key, o in name_first(section_options(section))]
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


def name_first(options: Mapping[str, Option]) -> list[tuple[str, Option]]:
    """The options in their order, but `name` before the others, since it decides what they mean."""
    return sorted(options.items(), key=lambda item: item[0] != "name")


def _rows_of(config: ConfigDict) -> list[tuple[str, Any, str]]:
    rows = [(key, config[key], field.meaning) for key, field in TOP.items()]
    for section in (*SECTIONS, *COMPONENTS):
        name = config[section].name if section in COMPONENTS else None
        if name is not None:
            rows.append((f"{section}.name", name, "the chosen component"))
        options = section_options(section, name, config.folder)
        rows += [
            (f"{section}.{key}", config[section][key], o.meaning or describe(o.type)) for key, o in name_first(options)
        ]
    return rows


def _component_rows(section: str, names: list[str]) -> list[tuple[str, Any, str]]:
    """The fields of a section; a field that only some components have is followed by their names."""
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
