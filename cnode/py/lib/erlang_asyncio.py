"""asyncio for code that Erlang calls. These are asyncio's own functions: whatever works with asyncio works with them.
Only create_task takes more than asyncio's, which takes coroutines: anything that can be awaited.

A coroutine function of a module is run by py:async_call, on the event loop of a worker. `run` is for the code of plain
functions, which have no loop; it makes one on the calling thread and waits.
"""
import asyncio as _asyncio
from asyncio import gather, run, sleep, wait_for

__all__ = ["create_task", "gather", "run", "sleep", "wait_for"]


def create_task(awaitable, **options):
    """asyncio.create_task; what is no coroutine, as the future of erlang.async_call, is taken as well.

    A future is returned as it is: what it stands for runs already. Options are those of asyncio, for coroutines.
    """
    if _asyncio.iscoroutine(awaitable):
        return _asyncio.create_task(awaitable, **options)
    _asyncio.get_running_loop()  # without one, asyncio.ensure_future might make one
    if options and not _asyncio.isfuture(awaitable):
        return _asyncio.create_task(_awaited(awaitable), **options)
    return _asyncio.ensure_future(awaitable)


async def _awaited(awaitable):
    return await awaitable
