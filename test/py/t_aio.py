"""Coroutines for asyncio_SUITE. What ran and what did not is seen by files, and by messages to processes."""
import asyncio
import os
import resource
import threading
import time

import erlang
import t_slow


async def add(a, b, *, after=0):
    await asyncio.sleep(after)
    return a + b


async def at_once(value):
    return value


async def keywords(*args, **kwargs):
    return [list(args), kwargs]


async def fail(name, message):
    await asyncio.sleep(0)
    raise getattr(__import__("builtins"), name)(message)


async def cancel_itself():
    asyncio.current_task().cancel()
    await asyncio.sleep(1)


async def unconvertible():
    return "\ud800"


async def tell_and_wait(pid, what, seconds=60):
    """Says that it has begun, and at its end that it ends, and how."""
    erlang.send(pid, (erlang.Atom("began"), what))
    try:
        await asyncio.sleep(seconds)
        return what
    except asyncio.CancelledError:
        erlang.send(pid, (erlang.Atom("cancelled"), what))
        raise
    finally:
        erlang.send(pid, (erlang.Atom("finally"), what))


async def tidy_up(pid, key):
    """Asks Erlang for something, to tidy up, after it was cancelled."""
    erlang.send(pid, (erlang.Atom("began"), key))
    try:
        await asyncio.sleep(60)
    finally:
        erlang.state_set(key, await erlang.async_call("double", 21))


async def stubborn(pid, path):
    """Does not end when it is cancelled, but when there is the file."""
    erlang.send(pid, (erlang.Atom("began"), path))
    while not os.path.exists(path):
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            erlang.send(pid, (erlang.Atom("cancelled"), path))


async def when_there(path, value):
    """The value, when there is the file."""
    while not os.path.exists(path):
        await asyncio.sleep(0.02)
    return value


_gate = None


async def at_gate(a, b):
    """The sum, when open_gate is called in the same loop."""
    global _gate
    _gate = _gate or asyncio.Event()
    await _gate.wait()
    return a + b


async def open_gate():
    _gate.set()


async def where():
    return [erlang.node(), threading.current_thread().name, os.getpid()]


async def thread_name(after=0):
    await asyncio.sleep(after)
    return threading.current_thread().name


def loop_threads():
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("pyn-loop"))


async def block(seconds):
    time.sleep(seconds)


async def block_until(path):
    while not os.path.exists(path):
        time.sleep(0.005)
    return "blocked"


async def block_in_c(path, gate):
    return t_slow.marked_wait(path, gate)


async def spin():
    while True:
        pass


async def spin_in_task():
    async def spin_there():
        while True:
            pass

    await asyncio.gather(spin_there(), asyncio.sleep(0.01))


async def spin_after_cancel():
    try:
        await asyncio.sleep(60)
    finally:
        while True:
            pass


def spin_plain(file):
    while True:
        with open(file, "a") as f:
            f.write("x")


def plain(value):
    return value


_taken = []


def take_descriptors(spare):
    """Only so many more can be opened."""
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    _taken.append(resource.getrlimit(resource.RLIMIT_NOFILE))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, _taken[0][1]))
    try:
        while True:
            _taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for _ in range(spare):
        os.close(_taken.pop())


def give_descriptors():
    while len(_taken) > 1:
        os.close(_taken.pop())
    resource.setrlimit(resource.RLIMIT_NOFILE, _taken.pop())


def a_tuple(values):
    return tuple(values)


async def ask_as_task(name, values):
    from erlang_asyncio import create_task, gather
    return await gather(*(create_task(erlang.async_call(name, value)) for value in values))


def add_by_run(a, b):
    return asyncio.run(add(a, b))


def ask_by_run(name, *args):
    async def main():
        loop = asyncio.get_running_loop()
        value = await erlang.async_call(name, *args)
        return [value, asyncio.get_running_loop() is loop]

    return asyncio.run(main())


class Awaitable:
    def __init__(self, value):
        self.value = value

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self.value


def awaitable(value):
    return Awaitable(value)


async def numbers(count, after=0):
    for i in range(count):
        await asyncio.sleep(after)
        yield i


async def numbers_then(count, name):
    for i in range(count):
        yield i
    raise getattr(__import__("builtins"), name)("after all")


async def numbers_tell(pid, what, after):
    erlang.send(pid, (erlang.Atom("began"), what))
    try:
        while True:
            yield 1
            await asyncio.sleep(after)
    finally:
        erlang.send(pid, (erlang.Atom("finally"), what))


def plain_numbers(count):
    yield from range(count)


async def list_of(count):
    return list(range(count))


async def later_numbers(count):
    await asyncio.sleep(0)
    return numbers(count)


async def ask(name, *args):
    return await erlang.async_call(name, *args)


async def ask_many(name, count):
    return sum(await asyncio.gather(*(erlang.async_call(name, i) for i in range(count))))


async def ask_in_task(name, *args):
    return await asyncio.create_task(ask(name, *args))


async def ask_in_thread(name, *args):
    return await asyncio.to_thread(erlang.call, name, *args)


async def ask_blocking(name, *args):
    return erlang.call(name, *args)


async def ask_catching(name, *args):
    try:
        return await erlang.async_call(name, *args)
    except Exception as error:
        return [type(error).__name__, str(error)]


def ask_plain(name, *args):
    return erlang.call(name, *args)


async def state(key):
    erlang.state_set(key, 1)
    return [erlang.state_incr(key) for _ in range(3)]


async def with_timeout(seconds):
    import erlang_asyncio

    return await erlang_asyncio.wait_for(erlang_asyncio.sleep(60), seconds)


def facade():
    import erlang_asyncio as ea

    async def work(x):
        await ea.sleep(0.001)
        return x * x

    async def main():
        task = ea.create_task(work(5))
        future = asyncio.get_running_loop().create_future()
        assert ea.create_task(future) is future
        values = await ea.gather(work(2), work(3))
        return [*values, await ea.wait_for(task, 10), sorted(ea.__all__)]

    return ea.run(main())


_lock = None
_tasks = {}


async def keep_task(name):
    """Leaves a task behind that others can wait for."""
    async def work():
        await asyncio.sleep(0.05)
        return name

    _tasks[name] = asyncio.create_task(work())
    return name


async def await_kept(name):
    return await _tasks.pop(name)


async def stop_loop():
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    return "went on"


async def current(seconds):
    """How its own task looks from inside."""
    task = asyncio.current_task()
    await asyncio.sleep(seconds)
    coro = task.get_coro()
    return [coro.__name__, coro.cr_running, "current" in repr(task), asyncio.iscoroutine(coro)]


async def big(size):
    await asyncio.sleep(0)
    return bytes(size)


async def context(value):
    import contextvars

    var = contextvars.ContextVar("t", default="none")
    before = var.get()
    var.set(value)
    await asyncio.sleep(0.01)
    return [before, var.get()]


async def traced(name, child=None):
    with erlang.Span(name):
        await asyncio.sleep(0.01)
        if child:
            await asyncio.create_task(traced(child))


def traced_plain(name, callback, *args):
    with erlang.Span(name):
        return erlang.call(callback, *args)
