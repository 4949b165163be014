"""The user's own augmentation: an additional operation by name, after the built-in ones and before normalisation.

It is a function of one example, `(key, {"image", "label"}) -> the same`, which is mapped over the batch; its key has its own
random stream. The image is a float32 array in the stored unit (0 to 255 for uint8) after the built-in operations.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from cnnjax.core.locate import locate
from cnnjax.core.randomness import stream_key
from cnnjax.data.augment.options import AugmentOptions

Example = Mapping[str, Array]
Extra = Callable[[Key[Array, ""], Example], Example]


def find_extra(options: AugmentOptions, folder: str | Path | None = None) -> Extra | None:
    """The function that `augment.extra` names; None if it is not set.

    Args:
      options: the config's `augment` section.
      folder: the folder that is searched for "./file.py" before the working directory.

    Raises:
      ValueError: there is no such module, file or function.
    """
    return None if options.extra is None else locate("config: augment.extra", options.extra, {}, folder)


def apply_extra(extra: Extra, examples: Example, keys: Key[Array, "batch"]) -> Example:
    """Applies the user's function to every example of a batch.

    Raises:
      ValueError: the function does not return such an example, or uses a key that examples do not have.
    """
    try:
        changed = jax.vmap(lambda key, example: extra(stream_key(key, "extra"), example))(keys, examples)
    except KeyError as error:
        raise ValueError(
            f"{_name(extra)}: it uses the key {error}, but examples have {', '.join(sorted(examples))}"
        ) from error
    expected, found = _shapes(examples), _shapes(changed) if isinstance(changed, Mapping) else type(changed).__name__
    if found != expected:
        raise ValueError(f"{_name(extra)}: expected an example with unchanged shapes, {expected}, got {found}")
    return {name: value.astype(examples[name].dtype) for name, value in changed.items()}


def _name(extra: Extra) -> str:
    return f"augment.extra {getattr(extra, '__name__', extra)}"


def _shapes(examples: Example) -> dict[str, tuple[int, ...]]:
    return {name: jnp.shape(value)[1:] for name, value in sorted(examples.items())}
