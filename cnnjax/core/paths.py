"""Parameters and layers by name: conv1/kernel, and patterns of such names."""

import fnmatch
from typing import Any

import jax


def path_name(path: Any) -> str:
    """A parameter's path in its tree as text: conv1/kernel."""
    return "/".join(str(part.key) for part in path)


def matches(name: str, pattern: str) -> bool:
    """Whether a shell pattern is of this parameter: of its path, or of a layer that it is in.

    >>> [matches("conv2_1/bn1/scale", pattern) for pattern in ("conv2*", "conv2_1/bn1", "*/scale", "conv1")]
    [True, True, True, False]
    """
    parts = name.split("/")
    return any(fnmatch.fnmatchcase("/".join(parts[:depth]), pattern) for depth in range(1, len(parts) + 1))


def check_pattern(pattern: str, params: Any, field: str) -> None:
    """Refuses a pattern that matches no parameter.

    Raises:
      ValueError: the message has the field of the config and some layers' names.
    """
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    if not any(matches(name, pattern) for name in names):
        layers = list(dict.fromkeys(name.rpartition("/")[0] for name in names))
        raise ValueError(
            f"config: {field}: {pattern!r} matches no layer or parameter: choose from {', '.join(layers[:12])}"
            f"{', ...' if len(layers) > 12 else ''}, or a pattern such as '{layers[0]}*'"
        )
