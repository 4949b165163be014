"""Augmentation: random changes of training images, on the device, inside the compiled step.

`AugmentOptions` says what is done, `augment` does it to a batch with a key for each example. Geometry, colours, occlusion and
mixing each have a file; operations are applied in the order of the options that name them. The names are those of `__init__.pyi`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
