"""Augmentation: random changes of training images, on the device, inside the compiled step.

`AugmentOptions` describes the operations, and `augment` applies them to a batch with a key for each example. Geometry, colours,
occlusion and mixing each have a file; operations are applied in the order of their options. `__init__.pyi` lists the public names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
