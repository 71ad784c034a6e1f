"""A module that nobody has is looked for by a slow finder, while the import system holds the locks of that name."""
import sys
import time

NAME = "t_module_that_nobody_has"


class Finder:
    def __init__(self, path, seconds):
        self.path = path
        self.seconds = seconds

    def mark(self, text):
        with open(self.path, "a") as f:
            f.write(text)

    def find_spec(self, name, path=None, target=None):
        if name == NAME:
            self.mark("begun ")
            until = time.monotonic() + self.seconds
            while time.monotonic() < until:
                pass
            self.mark("ended")


def look(path, seconds):
    finder = Finder(path, seconds)
    sys.meta_path.insert(0, finder)
    try:
        __import__(NAME)
    finally:
        sys.meta_path.remove(finder)


async def look_in_loop(path, seconds):
    look(path, seconds)
