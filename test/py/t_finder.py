"""A module that nobody has is looked for by a slow finder, while the import system holds the locks of that name."""
import os
import sys
import time

NAME = "t_module_that_nobody_has"


class Finder:
    def __init__(self, path, seconds, go):
        self.path = path
        self.seconds = seconds
        self.go = go

    def mark(self, text):
        with open(self.path, "a") as f:
            f.write(text)

    def find_spec(self, name, path=None, target=None):
        if name == NAME:
            self.mark("begun ")
            until = time.monotonic() + self.seconds
            while time.monotonic() < until or self.go and not os.path.exists(self.go):
                pass
            self.mark("ended")


def look(path, seconds, go=None):
    """The finder takes so many seconds, and goes on until there is the other file."""
    finder = Finder(path, seconds, go)
    sys.meta_path.insert(0, finder)
    try:
        __import__(NAME)
    finally:
        sys.meta_path.remove(finder)


async def look_in_loop(path, go):
    look(path, 0, go)
