"""The user's own augmentation: one more operation, by reference, after ours and before normalisation.

It is a function of one example, `(key, {"image", "label"}) -> the same`, which is mapped over the batch; its key is a stream of
its own. The image is a float32 array of the stored values, 0 to 255 of uint8, as ours left it.
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
    """The function that `augment.extra` names; None where it names none.

    Args:
      options: the config's `augment` section.
      folder: the folder in which "./file.py" is looked for before the working directory.

    Raises:
      ValueError: there is no such module, file or function.
    """
    return None if options.extra is None else locate("config: augment.extra", options.extra, {}, folder)


def apply_extra(extra: Extra, examples: Example, keys: Key[Array, "batch"]) -> Example:
    """A batch of examples, each changed by the user's function.

    Raises:
      ValueError: the function returns something else than such an example, or asks for what examples do not have.
    """
    try:
        changed = jax.vmap(lambda key, example: extra(stream_key(key, "extra"), example))(keys, examples)
    except KeyError as error:
        raise ValueError(
            f"{_name(extra)}: it asks for {error}, and an example has {', '.join(sorted(examples))} here"
        ) from error
    expected, found = _shapes(examples), _shapes(changed) if isinstance(changed, Mapping) else type(changed).__name__
    if found != expected:
        raise ValueError(f"{_name(extra)}: expected an example of the shapes it was given, {expected}, got {found}")
    return {name: value.astype(examples[name].dtype) for name, value in changed.items()}


def _name(extra: Extra) -> str:
    return f"augment.extra {getattr(extra, '__name__', extra)}"


def _shapes(examples: Example) -> dict[str, tuple[int, ...]]:
    return {name: jnp.shape(value)[1:] for name, value in sorted(examples.items())}
