"""What runs at once, observed in Python: by the shared state, which all interpreters and nodes see."""
import os
import time

import erlang


def meet(key, number, seconds):
    """Returns when that many calls are in here at the same time; false when they never are."""
    erlang.state_incr(key)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if erlang.state_get(key) >= number:
            return os.getpid()
        time.sleep(0.002)
    return False


def inside(key, seconds):
    """How many were in here when this one came in."""
    now = erlang.state_incr(key)
    try:
        time.sleep(seconds)
        return now
    finally:
        erlang.state_decr(key)


def inside_phase(seconds):
    """The same, by the key that holds now."""
    key = erlang.state_get('phase')
    return (key, inside(key, seconds))
