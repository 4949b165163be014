"""An output of a notebook's cell that is updated in place."""

import sys
import time
from collections.abc import Callable
from typing import Any


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this process: Jupyter's, VS Code's, Colab's.

    >>> in_notebook()
    False
    """
    shell = sys.modules.get("ipykernel.zmqshell")
    return shell is not None and shell.ZMQInteractiveShell.initialized()


class Area:
    """One output of the cell that is executed, replaced each time something is shown in it."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = 0.0

    def show(self, make: Callable[[], str], every: float = 0.0) -> None:
        """Shows HTML.

        Args:
          make: returns the HTML; called only where it is shown.
          every: nothing is done where the output was updated less than this number of seconds ago.
        """
        if time.monotonic() - self._shown < every:
            return
        from IPython.display import HTML, display

        if self._handle is None:
            self._handle = display(HTML(make()), display_id=True)
        else:
            self._handle.update(HTML(make()))
        self._shown = time.monotonic()
