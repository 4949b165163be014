"""A small network for segmentation, named by tests as "tests.tasks.segmenter:Segmenter"."""

import flax.linen as nn


class Segmenter(nn.Module):
    """Three convolutions of 5x5 at the image's size: each logit sees 13x13 pixels (`RADIUS` to every side)."""

    num_classes: int = 2
    features: int = 8

    @nn.compact
    def __call__(self, x, train=False):
        for _ in range(2):
            x = nn.relu(nn.Conv(self.features, (5, 5))(x))
        return nn.Conv(self.num_classes, (5, 5))(x)


class TwoHeads(nn.Module):
    """The same with an auxiliary output, as torchvision's networks for segmentation have one."""

    num_classes: int = 2
    auxiliary_weight: float = 0.5

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        if train or self.is_initializing():
            self.sow("auxiliary", "output", nn.Conv(self.num_classes, (1, 1), name="head")(x))
        return nn.Conv(self.num_classes, (3, 3))(x)


RADIUS = 6
