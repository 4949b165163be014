"""Seeing what a network is and what it learned.

Each function takes a run, a model with its variables, a data set or plain arrays, and returns arrays or a matplotlib
figure. The names are those of `__init__.pyi`; each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
