"""Processes that Python code forks, and what becomes of them."""
import multiprocessing
import os
import sys
import time

import erlang


def exit_code(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def returns():
    pid = os.fork()
    if pid == 0:
        print("from the child")
        return "the child's"
    time.sleep(0.2)
    return exit_code(pid)


def raises():
    pid = os.fork()
    if pid == 0:
        raise ValueError("of the child")
    return exit_code(pid)


def exits(code):
    pid = os.fork()
    if pid == 0:
        sys.exit(code)
    return exit_code(pid)


def yields():
    pid = os.fork()
    if pid == 0:
        yield "child"
        os._exit(3)
    yield "parent"
    yield exit_code(pid)


class Runs:
    def __str__(self):
        os._exit(5)


def returns_what_runs_code():
    pid = os.fork()
    return Runs() if pid == 0 else exit_code(pid)


async def in_coroutine():
    return raises()


def asks():
    """What the child gets that asks Erlang."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            erlang.state_get("key")
        except Exception as e:
            os.write(w, type(e).__name__.encode())
        os._exit(0)
    os.close(w)
    try:
        os.waitpid(pid, 0)
        return os.read(r, 100).decode()
    finally:
        os.close(r)


def terminated():
    p = multiprocessing.get_context("fork").Process(target=time.sleep, args=(100,))
    p.start()
    p.terminate()
    p.join()
    return p.exitcode


def pool():
    with multiprocessing.get_context("fork").Pool(2) as p:
        return p.map(abs, [1, -2, 3])


def lives_on():
    """A child that stays."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    return pid
