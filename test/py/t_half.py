"""A module whose first import fails half way, when it is told to."""
import sys
import time

_told = sys.t_half
_told["tries"] += 1
if _told["tries"] == 1:
    while not _told["go"]:
        time.sleep(0.005)
    raise RuntimeError("half way")


def whole():
    return "whole"
