"""What the tests' workers time."""

import os
import sys
import time

from experiments.benchmarks.subject import Subject


def counting(end_at=None):
    """A subject whose task counts; at `end_at` its process ends, as one does that is out of memory."""
    done = 0

    def count(times):
        nonlocal done
        done += times
        print("libraries print, too")
        if done == 13:
            raise ValueError("thirteen\nis not computed")
        if end_at is not None and done >= end_at:
            print("no memory left", file=sys.stderr, flush=True)
            os._exit(3)
        time.sleep(0.01 * times)

    return Subject({"count": count}, 7, "abacus", lambda: None)


def other():
    """A subject with one parameter more than `counting` has."""
    return Subject({"count": lambda times: None}, 8, "abacus", lambda: None)
