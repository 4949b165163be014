"""What the source of an architecture says of it; each model file ends with the rows of its networks."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn

IMAGENET, CIFAR = ((224, 224, 3), 1000), ((32, 32, 3), 10)  # image shape and number of classes


@dataclasses.dataclass(frozen=True)
class Published:
    """A model as its source has it.

    Attributes:
      build: the Flax module's class, or one with some of its fields set.
      image_shape: the image's height, width and channels.
      num_classes: the number of classes.
      source: where the model is from.
      parameters: the parameters when predicting that the source gives, if it does, in as many digits.
      macs: the multiply-adds for one image that the source gives, if it does, in as many digits.
      result: the accuracy or error that the source gives, if it does, with the data that it is of.
      counts: the parameters when predicting and the multiply-adds that this implementation has for such an image, as
        `cnnjax.summarize(name)` counts them; None: the listing of models counts them anew each time.
    """

    build: Callable[..., nn.Module]
    image_shape: tuple[int, int, int]
    num_classes: int
    source: str
    parameters: int | None = None
    macs: int | None = None
    result: str = ""
    counts: tuple[int, int] | None = None
