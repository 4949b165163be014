"""One training step of torchvision's networks, in double precision.

`python tests/transfer/torchvision_step.py`, with torchvision==0.29.1 and its torch, writes torchvision_step.npz, so that the tests need
neither. Weights and batches are made from their names, here as in the test. Of each tensor's change two numbers are kept: its norm, and
its product with a random tensor.
"""

import zlib
from pathlib import Path

import numpy as np

STORED = Path(__file__).with_suffix(".npz")
NETWORKS = ("densenet121",)
SHAPE, CLASSES, LEARNING_RATE = (4, 64, 64, 3), 10, 0.01


def drawn(network, name, shape):
    """Numbers of a normal distribution, repeatable."""
    return np.random.Generator(
        np.random.PCG64([zlib.crc32(network.encode()), zlib.crc32(name.encode())])
    ).standard_normal(shape)


def scaled(z, name):
    """A tensor from normally distributed numbers: scales and variances near 1, kernels by their inputs, everything else small."""
    if name.endswith("running_var"):
        z = 1 + 0.1 * np.abs(z)
    elif name.endswith(("running_mean", "bias")):
        z = 0.1 * z
    elif z.ndim == 1:
        z = 1 + 0.1 * z
    else:
        z = z * np.sqrt(2 / np.prod(z.shape[1:]))
    return z.astype(np.float32)


def tensor(network, name, shape):
    """A network's tensor by torchvision's name."""
    return scaled(drawn(network, name, shape), name)


def batch(network):
    """Images, channels last, and labels."""
    labels = np.abs(drawn(network, "labels", SHAPE[:1]) * 1000).astype(np.int32) % CLASSES
    return drawn(network, "images", SHAPE).astype(np.float32), labels


def summarized(network, name, change):
    """The norm of a tensor's change, and its product with a random tensor."""
    change = np.asarray(change, np.float64)
    return np.linalg.norm(change), np.sum(change * drawn(network, f"{name} direction", change.shape))


def step(network):
    """The loss and each tensor's change in a step of gradient descent, by PyTorch."""
    import torch
    import torchvision

    model = torchvision.models.get_model(network, weights=None, num_classes=CLASSES)
    before = {
        name: tensor(network, name, tuple(value.shape))
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    model.load_state_dict({name: torch.tensor(value) for name, value in before.items()}, strict=False)
    model = model.double().train()
    images, labels = batch(network)
    logits = model(torch.tensor(images.transpose(0, 3, 1, 2)).double())
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels).long())
    loss.backward()
    torch.optim.SGD(model.parameters(), LEARNING_RATE).step()
    after = {name: value.detach().numpy() for name, value in model.state_dict().items() if name in before}
    changes = np.array([summarized(network, name, after[name] - before[name]) for name in sorted(before)])
    return {f"{network}/loss": loss.item(), f"{network}/changes": changes}


if __name__ == "__main__":
    np.savez_compressed(STORED, **{key: value for network in NETWORKS for key, value in step(network).items()})
