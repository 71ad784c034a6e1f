"""Runs the coroutines of requests: one event loop per worker, on a thread of its own.

A loop is made when the first coroutine comes to it. Imported then, as asyncio is large. What a worker hands over goes
into a deque; the loop is told by an eventfd, which stands for what the node has to tell it as well (tasks to be
cancelled, the end). The answer is sent by the step that ends the coroutine (erlang._step).
"""
import asyncio
import contextvars
import sys
import threading
from collections import deque

import erlang

# So many coroutines are begun in one go; others that run already get their turn in between.
_AT_ONCE = 200
# Seconds that what still runs at the end of the loop has for its finally blocks.
_GRACE = 0.5

_runners = {}
_lock = threading.Lock()


class _Runner:
    def __init__(self, place):
        self._place = place
        self._incoming = deque()
        self._tasks = {}
        self._flushing = False
        self._stopped = False
        self._retired = False
        self._loop = None
        self._served = False
        self._handle, self.number = erlang._runner_open(place)
        if self._handle is not None:
            self._start()

    @property
    def is_new(self):
        return self._handle is not None

    def _start(self):
        # Not a daemon: a sub-interpreter allows none. The node stops it before the interpreter ends.
        thread = threading.Thread(target=self._main, name=f"pyn-loop-{self._place}", daemon=False)
        try:
            # Here, and not on its thread: who has the first coroutine is told why there is no loop for it.
            self._loop = asyncio.new_event_loop()
            thread.start()
        except BaseException:
            if self._loop is not None:
                self._loop.close()
            erlang._runner_close(self._handle)
            raise

    def submit(self, item):
        """On a worker's thread. False: the loop has ended."""
        self._incoming.append(item)
        if erlang._runner_wake(self.number):
            return True
        try:
            self._incoming.remove(item)
        except ValueError:
            return True  # the loop, at its end, has seen to it
        return False

    # On the loop's thread.

    def _main(self):
        erlang._adopt(0)
        try:
            self._serve()
        finally:
            erlang._runner_close(self._handle)
            _runners.pop(self.number, None)
            self._pass_on()

    def _pass_on(self):
        """What came after the end goes to another loop, unless the node stops, or no loop would run."""
        while self._incoming:
            try:
                item = self._incoming.popleft()
            except IndexError:
                return
            try:
                if not self._served:
                    raise RuntimeError("the loop did not begin")
                _hand_over(self._place, 0, item)
            except Exception:
                _discard(item[1])
                erlang._runner_drop(item[0])

    def _serve(self):
        descriptor = erlang._runner_enter(self._handle, self._place)
        loop = self._loop
        asyncio.set_event_loop(loop)
        loop.set_task_factory(self._make_task)
        loop.add_reader(descriptor, self._ready)
        self._served = True
        while not self._stopped:
            _run(loop.run_forever)
        loop.remove_reader(descriptor)
        _run(self._end_tasks)
        # What waits for Erlang is called off while there is a node to do it.
        aio = sys.modules.get("_pynode_aio")
        if aio is not None:
            aio.forget(loop)
        loop.close()

    def _end_tasks(self):
        loop = self._loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=_GRACE))
        loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), _GRACE))

    def _make_task(self, loop, coro, **options):
        return asyncio.Task(erlang._step(self._handle, coro), loop=loop, **options)

    def _ready(self):
        """The eventfd is readable."""
        self._stopped, self._retired, cancelled = erlang._runner_take(self._handle)
        self._begin_some()
        for request in cancelled:
            task = self._tasks.get(request)
            if task is not None:
                task.cancel()
        self._stop_if_over()

    def _begin_some(self):
        for _ in range(_AT_ONCE):
            try:
                item = self._incoming.popleft()
            except IndexError:
                return
            self._begin(*item)
        self._loop.call_soon(self._begin_some)

    def _begin(self, request, awaitable, traceback, span):
        if not erlang._runner_begin(self._handle, request):
            _discard(awaitable)
            return
        if not asyncio.iscoroutine(awaitable):
            awaitable = _awaited(awaitable)
        context = contextvars.Context()
        context.run(erlang._request.set, request)
        if span is not None:  # the caller's, while there is tracing
            context.run(erlang._span.set, span)
        step = erlang._step(self._handle, awaitable, request, traceback, self)
        self._tasks[request] = self._loop.create_task(step, context=context)

    def _ended(self, request):
        """The coroutine has ended and its answer waits to be written, with those of others that end now."""
        self._tasks.pop(request, None)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self):
        self._flushing = False
        erlang._runner_flush(self._handle)
        self._stop_if_over()

    def _stop_if_over(self):
        if self._retired and not self._tasks and not self._incoming:
            self._stopped = True
        if self._stopped:
            self._loop.stop()


def _run(function):
    # A task that ends by one of these stops the loop; nothing else does that, and so it goes on.
    try:
        function()
    except (KeyboardInterrupt, SystemExit):
        pass


def _discard(awaitable):
    if asyncio.iscoroutine(awaitable):
        awaitable.close()


async def _awaited(awaitable):
    return await awaitable


# For py/later.c, on a worker's thread.


def start(place, loop, request, awaitable, traceback):
    """Gives the coroutine of a request to the loop of that number, or to a new one."""
    _hand_over(place, loop, (request, awaitable, traceback, erlang._span.get()))


def _hand_over(place, loop, item):
    runner = _runners.get(loop) or _open(place)
    while not runner.submit(item):
        runner = _open(place)


def _open(place):
    while True:
        with _lock:
            runner = _Runner(place)
            if not runner.is_new:
                runner = _runners.get(runner.number)  # it was made meanwhile; None: and has ended again
            else:
                _runners[runner.number] = runner
        if runner is not None:
            return runner


def gathered(value):
    """All that an iterator gives, as a list, or something to be awaited that gives the list."""
    kind = type(value)
    if hasattr(kind, "__aiter__"):
        return _collect(value)
    if hasattr(kind, "__await__"):
        return _collect_awaited(value)
    return _plain(value)


def _plain(value):
    kind = type(value)
    if not (hasattr(kind, "__next__") and hasattr(kind, "__iter__")):
        return [value]
    return [item for item in value]  # not list(value): nothing interrupts that in an endless iterator of C


async def _collect(source):
    iterator = aiter(source)
    try:
        return [item async for item in iterator]
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


async def _collect_awaited(awaitable):
    value = await awaitable
    return await _collect(value) if hasattr(type(value), "__aiter__") else _plain(value)
