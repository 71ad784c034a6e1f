# Run by --preload in every interpreter: no module that anybody imports.
import threading

preloaded = "yes"


def from_preload(x):
    return ("preloaded", x)
