"""Calls that take their time, for deadline_SUITE. Side effects go to files, which every interpreter sees."""
import os
import shlex
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


def until_there(path):
    """Until somebody makes that file; says in which process."""
    while not os.path.exists(path):
        time.sleep(0.005)
    return os.getpid()


def marked_until(path, go):
    mark(path)
    return until_there(go)


def marked_wait(path, gate):
    """Is in C, in one call, when the file is there, until somebody opens the fifo for writing. What makes the file is in
    that call: after a mark by Python there are instructions that an interrupt may still hit."""
    os.system(f"exec </dev/null >/dev/null 2>&1; printf x >>{shlex.quote(path)}; : <{shlex.quote(gate)}")
    return "slept"


def meet(folder, name, number):
    """Until so many have come, each by another name, to a folder that was empty: none ends before all have a worker."""
    mark(os.path.join(folder, name))
    while len(os.listdir(folder)) < number:
        time.sleep(0.002)


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
    """Ignores so many interrupts, for some seconds."""
    mark(path, "s")
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            while time.monotonic() < end:
                pass
        except KeyboardInterrupt:
            mark(path, "i")
            times -= 1
            if times < 0:
                return "gave in"


def timeout_error():
    raise TimeoutError("my own")


def wait_for_file(path):
    """Stays in C, in one call, until somebody opens the fifo for writing."""
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
