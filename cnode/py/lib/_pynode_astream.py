"""Asynchronous iterators as plain ones: each has an event loop of its own, which runs while an item is waited for."""
import asyncio
import contextvars

# A thread that waits in the selector feels an interrupt only when it comes back to Python code.
_BEAT = 0.02


class Items:
    def __init__(self, source):
        self._source = source
        self._items = None
        self._beat = None
        self._context = contextvars.copy_context()
        self._loop = asyncio.new_event_loop()

    def __iter__(self):
        return self

    def __next__(self):
        found, item = self._run(self._step())
        if not found:
            raise StopIteration
        return item

    def close(self):
        if self._loop.is_closed():
            return
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        try:
            self._run(self._end(tasks))
        finally:
            self._loop.close()

    def _run(self, coroutine):
        # A call that is nested in a coroutine runs on the thread of another loop, which waits meanwhile.
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            self._tick()
            return self._loop.run_until_complete(self._loop.create_task(coroutine, context=self._context))
        finally:
            if self._beat is not None:
                self._beat.cancel()
            asyncio._set_running_loop(outer)

    def _tick(self):
        self._beat = self._loop.call_later(_BEAT, self._tick)

    async def _step(self):
        if self._items is None:
            self._items = await _items_of(self._source)
        try:
            return True, await self._items.__anext__()
        except StopAsyncIteration:
            return False, None

    async def _end(self, tasks):
        await asyncio.gather(*tasks, return_exceptions=True)
        items = self._source if self._items is None else self._items
        if hasattr(items, "aclose"):
            await items.aclose()
        elif hasattr(items, "close"):  # a coroutine that was never awaited
            items.close()
        await self._loop.shutdown_asyncgens()


async def _items_of(source):
    """Of a coroutine: of what it returns."""
    if hasattr(type(source), "__await__"):
        source = await source
    if hasattr(type(source), "__aiter__"):
        return source.__aiter__()
    return _plain(source)


async def _plain(value):
    if not hasattr(type(value), "__next__"):
        yield value
        return
    try:
        for item in value:
            yield item
    finally:
        if hasattr(value, "close"):
            value.close()
