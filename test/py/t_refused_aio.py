"""Coroutines of a module that needs one that sub-interpreters refuse."""
import asyncio
import readline
import threading


async def where():
    await asyncio.sleep(0)
    return [readline.get_current_history_length(), threading.current_thread().name.startswith("pyn-loop")]
