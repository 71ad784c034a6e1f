"""A package that takes its time, after a part of it is there. Like asyncio it uses that part by its name, which the
statement below binds only when the part is imported anew."""
import sys
import time

sys.times_imported = getattr(sys, "times_imported", 0) + 1
from .part import *  # noqa: E402, F403

_end = time.monotonic() + 0.5
while time.monotonic() < _end:
    pass


def f():
    return part.WHERE  # noqa: F405


def times_imported():
    return sys.times_imported
