"""erlang.async_call for asyncio. Imported when async_call is used for the first time, as asyncio is large.

One notifier per event loop: an eventfd that is readable when answers have come, or a call that is nested in this one.
"""
import asyncio
import weakref

import erlang

_loops = weakref.WeakKeyDictionary()


class _Loop:
    def __init__(self, loop):
        # No reference to the loop: the dictionary would keep it alive.
        self._notifier = erlang._loop_open()
        loop.add_reader(erlang._loop_fd(self._notifier), self._ready)

    def ask(self, loop, name, args):
        future = loop.create_future()
        number = erlang._loop_ask(self._notifier, future, name, *args)
        future.add_done_callback(lambda done: done.cancelled() and erlang._loop_cancel(self._notifier, number))
        return future

    def _settled(self):
        """What has been answered. Calls that are nested in this one run in there: outside of a loop, as any others."""
        loop = asyncio._get_running_loop()
        try:
            asyncio._set_running_loop(None)
            return erlang._loop_ready(self._notifier)
        finally:
            asyncio._set_running_loop(loop)

    def close(self, loop):
        loop.remove_reader(erlang._loop_fd(self._notifier))

    def _ready(self):
        for future, value, error in self._settled():
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)


def async_call(name, *args):
    loop = asyncio.get_running_loop()
    ours = _loops.get(loop)
    if ours is None:
        ours = _loops[loop] = _Loop(loop)
    return ours.ask(loop, name, args)


def forget(loop):
    """The loop is going to be closed: what waits there is called off."""
    ours = _loops.pop(loop, None)
    if ours is not None:
        ours.close(loop)
