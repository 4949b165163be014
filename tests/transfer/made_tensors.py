"""Repeatable weights and images, made from tensors' names with a salt, so that other libraries' scripts make the same."""

import zlib

import numpy as np


def images(size, salt, count=2):
    """Images with channels first."""
    generator = np.random.Generator(np.random.PCG64([salt, 0]))
    return generator.standard_normal((count, 3, size, size)).astype(np.float32)


def tensor(name, shape, salt):
    """A tensor by torchvision's name: variances near 1, kernels scaled by their inputs, shifts small."""
    z = np.random.Generator(np.random.PCG64([salt, zlib.crc32(name.encode())])).standard_normal(shape)
    if name.endswith("running_var"):
        z = 1 + 0.1 * np.abs(z)
    elif name.endswith(("running_mean", "bias")):
        z = 0.1 * z
    elif name.endswith("layer_scale"):
        z = 0.1 * (1 + 0.1 * z)
    elif len(shape) == 1:
        z = 1 + 0.1 * z
    else:
        z = z * np.sqrt(2 / np.prod(shape[1:]))
    return z.astype(np.float32)


def tensors(equal, shapes, made):
    """The tensors of a network by name, each made of its name and shape.

    Args:
      equal: the equal network of torchvision.
      shapes: the shapes of the network's variables.
      made: the function from a tensor's name and shape to its values.
    """
    import jax

    from cnnjax.transfer.torchvision import to_torchvision

    empty = jax.tree.map(lambda leaf: np.broadcast_to(np.int8(0), leaf.shape), shapes)
    return {name: made(name, array.shape) for name, array in to_torchvision(equal, empty).items()}
