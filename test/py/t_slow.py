"""Calls that take their time, for deadline_SUITE. Side effects go to files, which every interpreter sees."""
import os
import time


def mark(path, text="x"):
    with open(path, "a") as f:
        f.write(text)


def sleep(seconds):
    time.sleep(seconds)
    return "slept"


def marked_sleep(path, seconds):
    mark(path)
    time.sleep(seconds)
    return "slept"


def spin():
    while True:
        pass


def spin_counting(path):
    """A pure Python loop that leaves a trace of its going on: grows the file until it is ended."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while True:
            os.write(fd, b"x")
    finally:
        os.close(fd)


def spin_for(seconds):
    end = time.monotonic() + seconds
    n = 0
    while time.monotonic() < end:
        n += 1
    return "done"


def spin_with_cleanup(path):
    try:
        while True:
            pass
    finally:
        mark(path, "clean")


def swallow(path, times):
    """Ignores so many interrupts."""
    mark(path, "s")
    while True:
        try:
            while True:
                pass
        except KeyboardInterrupt:
            mark(path, "i")
            times -= 1
            if times < 0:
                return "gave in"


def timeout_error():
    raise TimeoutError("my own")


def until_there(path):
    """Computes until there is such a file."""
    while not os.path.exists(path):
        pass
    return "done"


def marked_until_there(path, other):
    mark(path)
    return until_there(other)


def wait_for_file(path, begun):
    """Says that it has begun; then it stays in C, in one call, until somebody writes to the fifo."""
    mark(begun)
    with open(path) as f:
        return f.read()


def interp():
    import _thread

    return _thread.get_ident()


def echo(x):
    return x


def pid_after(seconds):
    time.sleep(seconds)
    return os.getpid()
