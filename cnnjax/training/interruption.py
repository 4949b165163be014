"""Handling of SIGINT and SIGTERM: training ends at the next step and is saved."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal; the run is saved and can be resumed."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number  # the number of the signal


class Requests:
    """The signal received so far, if any."""

    number: int | None = None


@contextlib.contextmanager
def stop_requests() -> Iterator[Requests]:
    """Within the block, SIGINT and SIGTERM are recorded, and a second SIGINT interrupts at once.

    Python delivers signals only to the main thread; in other threads this does nothing.
    """
    requests = Requests()

    def note(number: int, frame: Any) -> None:
        if requests.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        requests.number = number

    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
