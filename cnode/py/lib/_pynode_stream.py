"""The iterators of streams, by number. The node lets no two threads work at the same one at a time."""
import sys

import erlang

_streams = {}


def iterator(value):
    """What the items of a stream come from: an iterator itself, or the value as its only item."""
    kind = type(value)
    if hasattr(kind, "__next__"):
        return value
    if hasattr(kind, "__anext__") or hasattr(kind, "__aiter__") or hasattr(kind, "__await__"):
        from _pynode_astream import Items  # asyncio is large

        return Items(value)
    return iter((value,))


def keep(number, value):
    items = iterator(value)
    if erlang._tracing():
        from _pynode_tracing import Steps

        items = Steps(items)
    _streams[number] = items


def find(number):
    return _streams[number]


def close(number):
    """Runs the `finally` of a generator. A number that is not there, any more or yet, is fine."""
    items = _streams.get(number)
    try:
        if hasattr(items, "close"):
            items.close()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        print(f"closing a stream failed: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        _streams.pop(number, None)
