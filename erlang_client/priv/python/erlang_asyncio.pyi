"""Types of the module `erlang_asyncio`, which is part of pynode: asyncio's own functions."""
from asyncio import create_task as create_task
from asyncio import gather as gather
from asyncio import run as run
from asyncio import sleep as sleep
from asyncio import wait_for as wait_for
