"""Analysis of networks: their layers and what they have learned.

Each function takes a run, a model with its variables, a data set or plain arrays, and returns arrays or a matplotlib figure. The
public names are listed in `__init__.pyi`; each is imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
