"""Components by name: a built-in one, one provided by an installed package, or an attribute of a module or file.

    locate("model.name", "lenet5", MODELS)
    locate("model.name", "mylab.nets:Net", MODELS)
    locate("model.name", "./mynet.py:MyNet", MODELS, folder)      # `folder` first, then the working directory

A file is loaded once per process, so that a config, its task and its model share their classes. The original file and its
copy in a run are the same module as long as their contents are equal.
"""

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from cnnjax.core.options import unknown

# The prefix under which a run records an object that was passed from Python instead of being named.
OBJECT = "object:"
# The folder of a run that holds copies of the user's files, without their original folders.
COPIES = "files"

# Modules loaded from files, by the digest of the file and of the neighbouring files that it imports.
_LOADED: dict[str, ModuleType] = {}


def locate(
    field: str, name: str, ours: Mapping[str, Callable[..., Any]], folder: str | Path | None = None
) -> Callable[..., Any]:
    """The component that a name refers to.

    Args:
      field: the config field that holds the name, for error messages: "model.name".
      name: the name of a built-in component, "package.module:Attribute" or "./file.py:Attribute".
      ours: the built-in components, by name.
      folder: the folder that is searched for a file before the working directory.

    Raises:
      ValueError: the name, module, file or attribute does not exist or cannot be imported; the message lists the nearest
        names.
    """
    if name in ours:
        return ours[name]
    if ":" not in name:
        line = unknown(field, name, ours)
        own = "" if "did you mean" in line else "; one of your own is package.module:Attribute or ./file.py:Attribute"
        raise ValueError(line + own)
    place, _, attribute = name.partition(":") if not is_file(name) else name.rpartition(":")
    module = load_file(find_file(field, place, folder), field) if is_file(name) else _imported(field, place)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = [key for key in vars(found) if not key.startswith("_") and callable(getattr(found, key))]
            raise ValueError(f"{field}={name!r}: {unknown(f'attribute of {place}', part, near)}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{field}={name!r}: expected a class or a function, got {type(found).__name__}")
    return found


def is_reference(name: Any) -> bool:
    """Whether a name refers to a component outside cnnjax.

    Other config values may contain a colon too: a folder, a version, a slice.

    >>> [is_reference(name) for name in ("lenet5", "mylab.nets:Net", "./mynet.py:MyNet")]
    [False, True, True]
    >>> [is_reference(name) for name in ("C:/photos", "mnist:3.0.1", "train[:80%]")]
    [False, False, False]
    """
    pattern = r"(.*\.py|[A-Za-z_][\w.]*):[A-Za-z_][\w.]*"
    return isinstance(name, str) and not name.startswith(OBJECT) and re.fullmatch(pattern, name) is not None


def is_file(name: Any) -> bool:
    """Whether a name refers to an attribute of a file.

    >>> [is_file(name) for name in ("mylab.nets:Net", "./mynet.py:MyNet", "lenet5")]
    [False, True, False]
    """
    return is_reference(name) and name.rpartition(":")[0].endswith(".py")


def find_file(field: str, place: str, folder: str | Path | None = None) -> Path:
    """The file that a name such as "./mynet.py" refers to, relative to the folder or else to the working directory.

    Raises:
      ValueError: neither contains the file; the message lists the files with the nearest names.
    """
    path = Path(place).expanduser()
    folders = [Path.cwd()] if folder is None else [Path(folder), Path.cwd()]
    if folder is not None and Path(folder).name == COPIES and (Path(folder) / path.name).is_file():
        return (Path(folder) / path.name).resolve()
    for base in folders:
        if (base / path).is_file():
            return (base / path).resolve()
    near = {f"./{file.name}": file for base in folders for file in (base / path).parent.glob("*.py")}
    where = " or ".join(dict.fromkeys(str((base / path).parent.resolve()) for base in folders))
    raise ValueError(f"{field}: {unknown('file', place, near) if near else f'no file {place}'} (looked in {where})")


def source_files(field: str, name: str, folder: str | Path | None = None) -> dict[str, Path]:
    """The source files of a component: name in the run's copy -> path; {} for a built-in component.

    "./file.py:Attribute" gives the files of `own_files`, "package.module:Attribute" the module's own file. An installed
    package gives none, as for cnnjax's own dependencies: it changes by an upgrade, not by an edit.
    """
    if not is_reference(name):
        return {}
    if is_file(name):
        first = find_file(field, name.rpartition(":")[0], folder)
        return {str(file.relative_to(first.parent)): file for file in own_files(first)}
    module = _imported(field, name.partition(":")[0])
    source = getattr(module, "__file__", None)
    return {} if source is None or _is_installed(Path(source)) else {f"{module.__name__} (module)": Path(source)}


def _is_installed(path: Path) -> bool:
    """Whether a file belongs to an installed package (the user's site-packages included), not to a working folder."""
    parents = path.resolve().parents
    packages = any(parent.name in ("site-packages", "dist-packages") for parent in parents)
    return packages or Path(sysconfig.get_path("stdlib")).resolve() in parents


def own_files(path: Path) -> list[Path]:
    """A file, followed by the Python files in its folder that it imports directly or indirectly."""
    found, waiting = [], [path.resolve()]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.append(file)
        for name in _imports(file):
            first = name.split(".")[0]
            candidates = [path.parent / f"{first}.py"]
            if (path.parent / first).is_dir():  # a package in the same folder: all of its files
                candidates = sorted((path.parent / first).rglob("*.py"))
            waiting += [file.resolve() for file in candidates if file.is_file()]
    return [found[0], *sorted(found[1:])]


def _imports(file: Path) -> list[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # reported when the file is run
        return []
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return names


def digest(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_file(path: Path, field: str = "config") -> ModuleType:
    """Loads a Python file as a module, with its folder on `sys.path` for its imports.

    Raises:
      ValueError: running the file raises an error; the message has the error and its line.
    """
    path = path.resolve()
    files = own_files(path)
    key = hashlib.sha256(
        "".join(f"{file.relative_to(path.parent)}{digest(file)}" for file in files).encode()
    ).hexdigest()
    if key in _LOADED:
        return _LOADED[key]
    for file in files[1:]:
        _forget_namesake(file)
    imported = sys.modules.get(path.stem)
    if imported not in (None, *_LOADED.values()) and getattr(imported, "__file__", None) == str(path):
        _LOADED[key] = imported  # already imported by the user, in a notebook
        return imported
    name = path.stem if path.stem.isidentifier() and not _is_importable(path) else f"cnnjax_file_{path.stem}_{key[:8]}"
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None and specification.loader is not None  # the suffix is .py
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(
            f"{field}: {path} cannot be run: {type(error).__name__}: {error}{_line(error, path)}"
        ) from error
    finally:
        sys.path.remove(str(path.parent))
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))  # for imports within functions
    _LOADED[key] = module
    return module


def _line(error: Exception, path: Path) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" (line {lines[-1]})" if lines else ""


def _is_importable(path: Path) -> bool:
    """Whether another module, of a library or loaded from another file, already has the file's name."""
    if path.stem in sys.modules:
        # A file that has changed, or a run's copy with other content, replaces the older module in imports.
        return path.stem not in {module.__name__ for module in _LOADED.values()}
    specification = importlib.util.find_spec(path.stem)
    return specification is not None and specification.origin != str(path)


def _forget_namesake(file: Path) -> None:
    """Removes a module with the same name from `sys.modules` if it was loaded from another file with other content."""
    module = sys.modules.get(file.stem)
    source = getattr(module, "__file__", None)
    if source and source != str(file) and Path(source).is_file() and digest(Path(source)) != digest(file):
        del sys.modules[file.stem]


def _imported(field: str, place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        missing = error.name or place
        if place != missing and not place.startswith(f"{missing}."):
            raise ValueError(f"{field}: module {place} cannot be imported: {error}") from error
        near = [
            name for name in (*sys.modules, *importlib.metadata.packages_distributions()) if not name.startswith("_")
        ]
        raise ValueError(
            f"{field}: {unknown('module', place, near) if _near(place, near) else f'no module {place}'}"
        ) from error
    except Exception as error:
        raise ValueError(f"{field}: module {place} cannot be imported: {type(error).__name__}: {error}") from error


def _near(name: str, names: list[str]) -> bool:
    return "did you mean" in unknown("module", name, names)


def installed(group: str, ours: Mapping[str, Callable[..., Any]]) -> dict[str, tuple[str, str]]:
    """Components that installed packages provide through entry points: name -> (reference, package).

    Args:
      group: the entry point group, such as "cnnjax.models".
      ours: the built-in components, by name.

    Raises:
      ValueError: a package uses the name of a built-in component, or two packages use the same name.
    """
    offered: dict[str, tuple[str, str]] = {}
    for point in importlib.metadata.entry_points(group=group):
        package = point.dist.name if point.dist else "an unnamed package"
        other = "cnnjax" if point.name in ours else offered[point.name][1] if point.name in offered else None
        if other and (other == "cnnjax" or offered[point.name] != (point.value, package)):
            raise ValueError(
                f"the entry point {point.name!r} of {group} is offered by {package} and by {other}: remove one"
            )
        offered[point.name] = (point.value, package)
    return offered


def shipped_configs() -> dict[str, Path]:
    """The configs that come with cnnjax by name, in the checkout or the installed package."""
    package = Path(__file__).parents[1]
    folder = package / "configs" if (package / "configs").is_dir() else package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}
