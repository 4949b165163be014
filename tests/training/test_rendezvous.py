"""The meeting before JAX joins processes: all are there, or each is told in one line who is not."""

import socket
import threading
import time

import pytest

from cnnjax.training import rendezvous


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def meeting(port, *processes, wait=20.0):
    """What each (index, count) of the processes gets: None, or the error."""
    outcomes = [None] * len(processes)

    def one(place, index, count):
        try:
            rendezvous.meet(f"localhost:{port}", count, index, wait)
        except (RuntimeError, ValueError) as error:
            outcomes[place] = str(error)

    threads = [threading.Thread(target=one, args=(place, *process)) for place, process in enumerate(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_all_meet_and_the_port_is_free_at_once(port):
    for _ in range(2):  # as when the same commands are given again
        assert meeting(port, (2, 3), (0, 3), (1, 3)) == [None, None, None]
        with socket.create_server(("localhost", port)):
            pass


def test_each_is_told_which_did_not_come(port):
    start = time.monotonic()
    said = meeting(port, (0, 4), (2, 4), wait=1)
    assert time.monotonic() - start < 5
    assert said[0] == said[1]
    assert said[0].startswith("these of 4 processes did not connect within 1 s: 1, 3. Start all of them")


def test_without_the_first_the_others_say_so(port):
    (said,) = meeting(port, (1, 2), wait=0.5)
    assert said.startswith(f"process 0 was not found at localhost:{port} within 0.5 s (Connection refused): start it")


def test_what_does_not_fit_together_is_named(port):
    assert set(meeting(port, (0, 3), (1, 3), (1, 3))) == {
        "two processes have --process-id 1: expected each of 0 to 2 once"
    }
    assert set(meeting(port, (0, 2), (1, 3))) == {
        "process 0 was started with --processes 2, process 1 with --processes 3: expected the same"
    }
    with pytest.raises(ValueError, match="--coordinator host0: expected HOST:PORT"):
        rendezvous.meet("host0", 2, 0, 1)
    with (
        socket.create_server(("", port)),
        pytest.raises(RuntimeError, match=f"process 0 cannot listen on port {port} .*choose another"),
    ):
        rendezvous.meet(f"localhost:{port}", 2, 0, 1)


def test_messages_of_other_programs_are_ignored(port):
    def stranger():
        with socket.create_connection(("localhost", port), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")

    first = threading.Thread(target=lambda: outcomes.extend(meeting(port, (0, 2))))
    outcomes = []
    first.start()
    time.sleep(0.3)
    stranger()
    assert meeting(port, (1, 2)) == [None]
    first.join()
    assert outcomes == [None]
