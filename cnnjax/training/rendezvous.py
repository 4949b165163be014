"""Whether all processes are there, asked before JAX joins them.

`jax.distributed.initialize` ends a process by SIGABRT, with a C++ stack, where another does not come. So the first process
waits for the others on the coordinator's port, tells each the outcome, and leaves the port to JAX.
"""

import contextlib
import re
import socket
import time
from collections.abc import Iterator

# What a process sends: its index and how many it was told there are. The answer is GO, or why not.
HELLO, GO = b"cnnjax process %d of %d\n", b"go\n"


def meet(coordinator: str, count: int, index: int, wait: float) -> None:
    """Returns in every process when all `count` of them have called it.

    Args:
      coordinator: host:port of process 0.
      count: of processes.
      index: of this one.
      wait: seconds to wait for the others.

    Raises:
      ValueError: the coordinator is not host:port, two processes have the same index, or they were told different counts.
      RuntimeError: some did not come in time; the message names them.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise ValueError(f"--coordinator {coordinator}: expected HOST:PORT, such as host0:1234")
    if index == 0:
        _gather(int(port), count, wait)
    else:
        _report(host.strip("[]"), int(port), count, index, wait)


def _gather(port: int, count: int, wait: float) -> None:
    end = time.monotonic() + wait
    came: list[int] = []
    asking: list[socket.socket] = []
    with contextlib.ExitStack() as connections:
        server = connections.enter_context(_listen(port))
        reason = None
        while reason is None and len(came) < count - 1:
            server.settimeout(max(end - time.monotonic(), 0.001))
            try:
                connection = connections.enter_context(server.accept()[0])
                connection.settimeout(5)
                hello = re.fullmatch(rb"cnnjax process (\d+) of (\d+)\n", connection.recv(64))
            except OSError:  # time is up, or the one that came has gone again
                if time.monotonic() >= end:
                    missing = ", ".join(str(other) for other in range(1, count) if other not in came)
                    reason = (
                        f"of {count} processes these did not come within {wait:g} s: {missing}. Start all of them, with the "
                        "same --coordinator and --processes; --wait SECONDS waits longer"
                    )
                continue
            if hello is None:  # not of ours
                continue
            other, told = map(int, hello.groups())
            if told != count:
                reason = (
                    f"process 0 was told --processes {count}, process {other} --processes {told}: expected the same"
                )
            elif other in came:
                reason = f"two processes have --process-id {other}: expected each of 0 to {count - 1} once"
            came.append(other)
            asking.append(connection)
        for connection in asking:
            with contextlib.suppress(OSError):
                connection.sendall(GO if reason is None else reason.encode())
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)  # the other closes first, so that the port is free at once
    if reason is not None:
        raise RuntimeError(reason)


@contextlib.contextmanager
def _listen(port: int) -> Iterator[socket.socket]:
    both = socket.has_dualstack_ipv6()
    try:
        server = socket.create_server(
            ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
        )
    except OSError as error:
        raise RuntimeError(
            f"process 0 cannot listen on port {port} ({error.strerror}): choose another one for --coordinator"
        ) from None
    with server:
        yield server


def _report(host: str, port: int, count: int, index: int, wait: float) -> None:
    end, trouble = time.monotonic() + wait, "no answer"
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=max(min(end - time.monotonic(), 5), 0.1))
            break
        except OSError as error:
            trouble = error.strerror or str(error)
        if time.monotonic() >= end:
            raise RuntimeError(
                f"process 0 was not found at {host}:{port} within {wait:g} s ({trouble}): start it, with this --coordinator; "
                "--wait SECONDS waits longer"
            )
        time.sleep(0.2)
    with connection:
        connection.settimeout(None)  # process 0 answers when its own time is up, or closes
        answer = b""
        try:
            connection.sendall(HELLO % (index, count))
            while part := connection.recv(1024):
                answer += part
        except OSError:
            answer = b""
    if answer != GO:
        raise RuntimeError(
            answer.decode() or "process 0 has ended while it waited for the others: start all of them again"
        )
