"""Ending on SIGINT and SIGTERM at the next step, with everything saved."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal; the run is saved and can be resumed."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number  # of the signal


class Requests:
    """Which signal has come, if any."""

    number: int | None = None


@contextlib.contextmanager
def stop_requests() -> Iterator[Requests]:
    """Within the block SIGINT and SIGTERM are noted; a second SIGINT interrupts at once.

    Python gives signals to the main thread alone: in another nothing is changed.
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
