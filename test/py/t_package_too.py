"""A module that takes its time."""
import time

_end = time.monotonic() + 0.5
while time.monotonic() < _end:
    pass
