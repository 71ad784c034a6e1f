"""Types of the module `erlang_asyncio`, which is part of pynode: asyncio's own functions, but for create_task."""
from asyncio import Future
from asyncio import gather as gather
from asyncio import run as run
from asyncio import sleep as sleep
from asyncio import wait_for as wait_for
from typing import Any, Awaitable, TypeVar

_T = TypeVar("_T")


def create_task(awaitable: Awaitable[_T], **options: Any) -> Future[_T]: ...
