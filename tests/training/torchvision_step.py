"""Two training steps of torchvision's MobileNetV2, EfficientNet, ConvNeXt and DenseNet of a few blocks each, dropout and stochastic depth off.

`python -m tests.training.torchvision_step`, with torchvision==0.29.1, writes torchvision_step.npz, so that the tests need neither it nor
PyTorch. Of each tensor it has two numbers: the norm of its change, and the product of its change and a random tensor.
"""

import zlib
from pathlib import Path

import numpy as np

from tests.training.pytorch_step import CLASSES, LEARNING_RATE, MOMENTUM, STEPS, WEIGHT_DECAY, own_kernels
from tests.transfer.made_tensors import tensor

STORED = Path(__file__).with_suffix(".npz")
SALT = 20261127


def batch(step):
    """Images, channels last, and labels."""
    generator = np.random.Generator(np.random.PCG64([SALT, step]))
    images = generator.integers(0, 256, (6, 32, 32, 3), np.uint8)
    return images, generator.integers(0, CLASSES, len(images)).astype(np.int32)


def made(name, shape):
    return tensor(name, shape, SALT)


def figures(name, before, after):
    """The norm of a tensor's change, and its product with a random tensor."""
    change = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return np.linalg.norm(change), (change * generator.standard_normal(change.shape)).sum()


def networks():
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt
    from torchvision.models.densenet import DenseNet
    from torchvision.models.efficientnet import EfficientNet, FusedMBConvConfig, MBConvConfig
    from torchvision.models.mobilenetv2 import MobileNetV2

    blocks = [FusedMBConvConfig(1, 3, 1, 32, 16, 1), MBConvConfig(6, 3, 2, 16, 24, 2)]
    rows = [[1, 16, 1, 1], [6, 24, 2, 2]]
    return {
        "mobilenet_v2": MobileNetV2(CLASSES, inverted_residual_setting=rows, dropout=0.0),
        "efficientnet": EfficientNet(blocks, 0.0, stochastic_depth_prob=0.0, num_classes=CLASSES),
        "convnext": ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 2)], num_classes=CLASSES),
        "densenet": DenseNet(8, (1, 2), 16, num_classes=CLASSES),
    }


@own_kernels
def steps():
    """{network/tensor: its figures after the steps}, and the loss of each."""
    import torch

    result = {}
    for network, model in networks().items():
        names = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
        before = {name: made(name, tuple(model.state_dict()[name].shape)) for name in names}
        model.load_state_dict({name: torch.tensor(value) for name, value in before.items()}, strict=False)
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
        for step in range(STEPS):
            images, labels = batch(step)
            logits = model(torch.tensor(images).permute(0, 3, 1, 2) / 255)
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            result[f"{network}/loss{step}"] = loss.detach().numpy()
        after = model.state_dict()
        result |= {f"{network}/{name}": figures(name, before[name], after[name].numpy()) for name in names}
    return result


if __name__ == "__main__":
    np.savez_compressed(STORED, **steps())
