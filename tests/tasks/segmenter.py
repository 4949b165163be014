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


RADIUS = 6
