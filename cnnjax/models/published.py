"""Published figures of architectures; each model file ends with the rows of its networks."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn

# Image shape and number of classes; 520 is the size that torchvision's networks for segmentation are measured at, 21 are VOC's
# twenty and the background.
IMAGENET, CIFAR, VOC = ((224, 224, 3), 1000), ((32, 32, 3), 10), ((520, 520, 3), 21)


@dataclasses.dataclass(frozen=True)
class Published:
    """A model with the figures of its source.

    Attributes:
      build: the class of the Flax module, possibly with some of its fields set.
      image_shape: the height, width and channels of an image.
      num_classes: the number of classes.
      source: the source of the model.
      parameters: the published number of parameters in prediction, with the published precision.
      macs: the published number of multiply-adds for one image, with the published precision.
      result: the published accuracy or error, with its data set.
      counts: the parameters in prediction and the multiply-adds of this implementation for such an image, as counted by
        `cnnjax.summarize(name)`; with None the listing of models counts them each time.
      task: the task of the network: "classification", with logits (batch, class), or "segmentation", with logits (batch, height,
        width, class) of the size of the images.
      encoder: the name of the network whose feature maps a network for segmentation is built on, if it is one of ours.
    """

    build: Callable[..., nn.Module]
    image_shape: tuple[int, int, int]
    num_classes: int
    source: str
    parameters: int | None = None
    macs: int | None = None
    result: str = ""
    counts: tuple[int, int] | None = None
    task: str = "classification"
    encoder: str = ""
