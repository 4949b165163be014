"""Waits for all processes before JAX connects them.

If a process does not connect, `jax.distributed.initialize` ends the others with SIGABRT and a C++ stack trace. Therefore the
first process waits for the others on the coordinator's port, sends each the outcome, and then releases the port for JAX.
"""

import contextlib
import re
import socket
import time
from collections.abc import Iterator

# A process sends its index and the number of processes it expects. The answer is GO, or an error message.
HELLO, GO = b"cnnjax process %d of %d\n", b"go\n"


def meet(coordinator: str, count: int, index: int, wait: float) -> None:
    """Returns in every process once all `count` processes have called it.

    Args:
      coordinator: the address of process 0, as host:port.
      count: the number of processes.
      index: the index of this process.
      wait: seconds to wait for the others.

    Raises:
      ValueError: the coordinator is not host:port.
      RuntimeError: some processes did not connect in time (the message names them), two processes have the same index, or
        they expect different numbers of processes.
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
            except OSError:  # the time is up, or the connection was closed again
                if time.monotonic() >= end:
                    missing = ", ".join(str(other) for other in range(1, count) if other not in came)
                    reason = (
                        f"these of {count} processes did not connect within {wait:g} s: {missing}. Start all of them, with the "
                        "same --coordinator and --processes, or wait longer with --wait SECONDS"
                    )
                continue
            if hello is None:  # a connection from another program
                continue
            other, told = map(int, hello.groups())
            if told != count:
                reason = f"process 0 was started with --processes {count}, process {other} with --processes {told}: expected the same"
            elif other in came:
                reason = f"two processes have --process-id {other}: expected each of 0 to {count - 1} once"
            came.append(other)
            asking.append(connection)
        for connection in asking:
            with contextlib.suppress(OSError):
                connection.sendall(GO if reason is None else reason.encode())
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)  # lets the other side close first, so that the port is free at once
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
                f"process 0 was not found at {host}:{port} within {wait:g} s ({trouble}): start it with this --coordinator, or "
                "wait longer with --wait SECONDS"
            )
        time.sleep(0.2)
    with connection:
        connection.settimeout(None)  # process 0 answers at the latest when its own time is up, or closes the connection
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
