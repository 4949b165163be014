"""One training step of LeNet-5 and of a small residual network in PyTorch.

`python tests/training/pytorch_step.py`, with torch==2.13.0, writes pytorch_step.npz, so that the tests need no PyTorch.
Weights and batches are made from their names, here as in the test.
"""

import functools
import zlib
from pathlib import Path

import numpy as np

STORED = Path(__file__).with_suffix(".npz")
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 5e-4
SHAPES = {"lenet5": (8, 32, 32, 1), "resnet": (6, 12, 12, 3)}
CLASSES = 10
STEPS = 2  # the second has a momentum


def array(name, shape):
    """A repeatable array; variances are near 1, kernels scaled by their inputs, everything else small."""
    drawn = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape)
    if name.endswith(("scale", "var")):
        return (1 + 0.1 * np.abs(drawn)).astype(np.float32)
    scale = np.sqrt(2 / np.prod(shape[:-1])) if name.endswith("kernel") else 0.1
    return (scale * drawn).astype(np.float32)


def batch(network, step):
    """Images, channels last, and labels."""
    generator = np.random.Generator(np.random.PCG64([zlib.crc32(network.encode()), step]))
    images = generator.integers(0, 256, SHAPES[network], np.uint8)
    return images, generator.integers(0, CLASSES, len(images)).astype(np.int32)


def networks():
    """{network: (forward, parameters and running statistics by our names)}, in PyTorch."""
    import torch
    import torch.nn.functional as F

    def tensors(network, shapes):
        return {name: torch.tensor(array(f"{network}/{name}", shape)) for name, shape in shapes.items()}

    def conv(x, arrays, name, **options):
        return F.conv2d(x, arrays[f"{name}/kernel"].permute(3, 2, 0, 1), arrays.get(f"{name}/bias"), **options)

    def dense(x, arrays, name):
        return x @ arrays[f"{name}/kernel"] + arrays[f"{name}/bias"]

    def norm(x, arrays, name):
        statistics = arrays[f"{name}/mean"], arrays[f"{name}/var"]
        return F.batch_norm(x, *statistics, arrays[f"{name}/scale"], arrays[f"{name}/bias"], True, 0.1, 1e-5)

    def lenet5(arrays, x):
        x = F.avg_pool2d(torch.tanh(conv(x, arrays, "c1")), 2)
        x = F.avg_pool2d(torch.tanh(conv(x, arrays, "c3")), 2)
        x = x.permute(0, 2, 3, 1).flatten(1)  # channels last, as ours are flattened
        x = torch.tanh(dense(x, arrays, "c5"))
        return dense(torch.tanh(dense(x, arrays, "f6")), arrays, "output")

    def resnet(arrays, x):
        x = F.relu(norm(conv(x, arrays, "conv1", padding=1), arrays, "bn1"))
        for block, stride in (("conv2_1", 1), ("conv3_1", 2)):
            y = F.relu(norm(conv(x, arrays, f"{block}/conv1", padding=1, stride=stride), arrays, f"{block}/bn1"))
            y = norm(conv(y, arrays, f"{block}/conv2", padding=1), arrays, f"{block}/bn2")
            if stride > 1:
                x = norm(conv(x, arrays, f"{block}/shortcut_conv", stride=stride), arrays, f"{block}/shortcut_bn")
            x = F.relu(x + y)
        return dense(x.mean((2, 3)), arrays, "fc")

    kernels = {
        "lenet5": {"c1": (5, 5, 1, 6), "c3": (5, 5, 6, 16), "c5": (400, 120), "f6": (120, 84), "output": (84, CLASSES)},
        "resnet": {
            "conv1": (3, 3, 3, 4), "conv2_1/conv1": (3, 3, 4, 4), "conv2_1/conv2": (3, 3, 4, 4),
            "conv3_1/conv1": (3, 3, 4, 8), "conv3_1/conv2": (3, 3, 8, 8), "conv3_1/shortcut_conv": (1, 1, 4, 8),
            "fc": (8, CLASSES),
        },
    }  # fmt: skip
    shapes = {"lenet5": {}, "resnet": {}}
    for network, found in kernels.items():
        for name, shape in found.items():
            shapes[network][f"{name}/kernel"] = shape
            if network == "lenet5" or name == "fc":
                shapes[network][f"{name}/bias"] = shape[-1:]
            else:
                block, _, last = name.rpartition("/")
                norm_name = f"{block}/{last.replace('conv', 'bn')}".removeprefix("/")
                shapes[network] |= {f"{norm_name}/{leaf}": shape[-1:] for leaf in ("scale", "bias", "mean", "var")}
    return {
        "lenet5": (lenet5, tensors("lenet5", shapes["lenet5"])),
        "resnet": (resnet, tensors("resnet", shapes["resnet"])),
    }


def own_kernels(function):
    """A function that PyTorch computes without oneDNN.

    With it the weight gradient of the 1x1 convolution of stride 2 here is wrong on some processors, and the process may end with a
    damaged heap (PyTorch 2.13.0 and 2.14.1 on an AMD EPYC, 27 November 2026).
    """

    @functools.wraps(function)
    def without(*arguments):
        import torch

        before = torch.backends.mkldnn.enabled
        torch.backends.mkldnn.enabled = False
        try:
            return function(*arguments)
        finally:
            torch.backends.mkldnn.enabled = before

    return without


@own_kernels
def steps():
    """{network/array: value} after the steps, and the loss of each."""
    import torch

    result = {}
    for network, (forward, arrays) in networks().items():
        params = {name: value.requires_grad_() for name, value in arrays.items() if not name.endswith(("mean", "var"))}
        optimizer = torch.optim.SGD(params.values(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
        for step in range(STEPS):
            images, labels = batch(network, step)
            x = torch.tensor(images).permute(0, 3, 1, 2) / 255
            loss = torch.nn.functional.cross_entropy(forward(arrays, x), torch.tensor(labels).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            result[f"{network}/loss{step}"] = loss.detach().numpy()
        result |= {f"{network}/{name}": value.detach().numpy() for name, value in arrays.items()}
    return result


if __name__ == "__main__":
    np.savez_compressed(STORED, **steps())
