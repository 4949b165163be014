"""A module's variables and outputs for tests, in one program or none: outside `jit` each operation would be compiled alone."""

import functools

import jax
import numpy as np


def init(module, *arguments, seed=0, **options):
    """The variables that a module begins with."""
    return jax.jit(functools.partial(module.init, **options))(jax.random.key(seed), *arguments)


def draw(module, *arguments, seed=0, **options):
    """Variables of a module, drawn by NumPy, for tests to which its own initialisation does not matter."""
    generator = np.random.default_rng(seed)

    def drawn(path, leaf):
        if (name := path[-1].key) in ("bias", "mean", "scale", "var"):
            return np.full(leaf.shape, name in ("scale", "var"), leaf.dtype)
        return (generator.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))).astype(leaf.dtype)

    shapes = jax.eval_shape(functools.partial(module.init, **options), jax.random.key(0), *arguments)
    return jax.tree_util.tree_map_with_path(drawn, shapes)


def apply(module, variables, *arguments, rngs=None, **options):
    """The output of a module; its options are the keyword arguments, its arrays the others."""

    def output(variables, rngs, *arguments):
        return module.apply(variables, *arguments, rngs=rngs, **options)

    return jax.jit(output)(variables, rngs, *arguments)
