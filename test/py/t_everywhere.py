"""For everywhere_SUITE: what a call did in each interpreter is seen by what it appended to a file."""
import os

COUNT = 0


def mark(path, text="x"):
    with open(path, "a") as f:
        f.write(text)


def count():
    global COUNT
    COUNT += 1
    return COUNT


def counted():
    return COUNT


def bulk(size):
    return b"x" * size


def fail_where(path, needle):
    """Fails in all interpreters but the first one that comes here."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        raise ValueError(needle) from None


def ask(name, *args):
    import erlang

    return erlang.call(name, *args)


def ask_in_loop(name, *args):
    import asyncio

    import erlang

    async def main():
        return await erlang.async_call(name, *args)

    return asyncio.run(main())
