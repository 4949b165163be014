"""Losses: logits and labels -> one value an example."""

from collections.abc import Callable

import optax
from jaxtyping import Array, Float, Int

Loss = Callable[[Float[Array, "batch class"], Int[Array, "batch"]], Float[Array, "batch"]]


def cross_entropy() -> Loss:
    """-log softmax(logits)[label], in nats."""
    return optax.losses.softmax_cross_entropy_with_integer_labels


LOSSES: dict[str, Callable[..., Loss]] = {"cross_entropy": cross_entropy}
