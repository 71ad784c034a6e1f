"""asyncio for code that Erlang calls. These are asyncio's own functions: whatever works with asyncio works with them.

A coroutine function of a module is run by py:async_call, on the event loop of a worker. `run` is for the code of plain
functions, which have no loop; it makes one on the calling thread and waits.
"""
from asyncio import create_task, gather, run, sleep, wait_for

__all__ = ["create_task", "gather", "run", "sleep", "wait_for"]
