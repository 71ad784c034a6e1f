"""Generators for stream_SUITE. What became of one goes to the shared state."""
import asyncio
import os
import time

import erlang


def count(n):
    yield from range(n)


def named(first, *, last):
    yield first
    yield last


def closing(key, n=10**9):
    """Says when it was closed, and how many items it had given then."""
    given = 0
    try:
        while given < n:
            given += 1
            yield given
    finally:
        erlang.state_set(key, given)


def spinning(key, pid=None):
    """One item, then none for ever, after a word to the process."""
    try:
        yield 1
        if pid is not None:
            erlang.send(pid, "spins")
        while True:
            pass
    finally:
        erlang.state_set(key, "closed")


def tidying(path):
    """Leaves a mark at its start, and another one when it was closed in order."""
    with open(path, "a") as f:
        f.write("o")
    try:
        while True:
            yield 1
    finally:
        text = ""
        for part in "x", "":
            text += part
        with open(path, "a") as f:
            f.write(text)


def sleeping(times):
    for seconds in times:
        time.sleep(seconds)
        yield seconds


def burst(n, path):
    """Some items at once; the last one when there is such a file."""
    yield from range(n)
    while not os.path.exists(path):
        time.sleep(0.005)
    yield "late"


def failing(n):
    yield from range(n)
    raise ValueError("enough")


def unconvertible(key):
    try:
        yield 1
        yield "\ud800"
        yield 3
    finally:
        erlang.state_set(key, "closed")


def unclosable(key):
    try:
        yield 1
        yield 2
    finally:
        erlang.state_set(key, "closed")
        raise ValueError("in finally")


def stubborn(key):
    """Does not end when it is closed."""
    try:
        yield 1
    finally:
        erlang.state_set(key, "closing")
        while True:
            pass


def big(n, size):
    for i in range(n):
        yield bytes([i % 256]) * size


def asking(name, n):
    """Each item is what Erlang says."""
    for i in range(n):
        yield erlang.call(name, i)


class Countdown:
    """An iterator that is no generator."""

    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return self

    def __next__(self):
        if self.n == 0:
            raise StopIteration
        self.n -= 1
        return self.n


async def acount(n, pause=0.0):
    for i in range(n):
        await asyncio.sleep(pause)
        yield i


async def aclosing(key, pause):
    given = 0
    try:
        while True:
            given += 1
            yield given
            await asyncio.sleep(pause)
    finally:
        await asyncio.sleep(0.01)
        erlang.state_set(key, given)


async def afailing():
    yield 1
    raise ValueError("enough")


async def coroutine(value):
    await asyncio.sleep(0)
    return value


async def background(n):
    """Works on between its items."""
    queue = asyncio.Queue()

    async def fill():
        for i in range(n):
            await asyncio.sleep(0.001)
            await queue.put(i)

    task = asyncio.create_task(fill())
    for _ in range(n):
        yield await queue.get()
    await task


def identity(value):
    return value


def starts(name):
    """Has Erlang start a stream and read it while this call waits."""
    return erlang.call(name)
