"""What logging and tracing share: messages to the coordinator about user code, for which that code never waits and
from which it gets no exception, whatever values are in them."""
import itertools
import threading

import erlang

LOG, SPAN = 0, 1  # enum pyn_tell_target
_SENT, _DOWN = 0, 1  # enum pyn_tell_result
_TEXT_MAX = 200_000
_VALUE_TEXT_MAX = 4_000
_VALUES_MAX = 100
# A __str__ that logs is converted within a message of its own, and so on.
_NESTED_MAX = 3

_busy = threading.local()


def tell(target, tag, prepare, away=None):
    """Sends (tag, node, dropped, *build(convert)), where build = prepare() and convert is for dicts of the user's.

    away(dropped) is called when there is no coordinator, and says whether the message found another way.
    """
    depth = getattr(_busy, "depth", 0)
    dropped = -1
    _busy.depth = depth + 1
    try:
        if depth < _NESTED_MAX:
            dropped = erlang._tell_admit(target)
            if dropped < 0 or _send(target, tag, dropped, prepare(), away):
                return
        erlang._tell_lost(target, max(0, dropped) + 1)
    except Exception:
        erlang._tell_lost(target, max(0, dropped) + 1)
    finally:
        _busy.depth = depth


def _send(target, tag, dropped, build, away):
    head = (tag, erlang.node(), dropped)
    try:
        sent = erlang._tell(target, head + build(_attributes))
    except Exception:
        sent = erlang._tell(target, head + build(_plain_attributes))
    if sent == _DOWN and away is not None:
        return away(dropped)
    return sent == _SENT


def text(value, limit=_TEXT_MAX):
    """str(value), as UTF-8 can hold it, cut to a limit."""
    try:
        value = str(value)
    except Exception as error:
        value = f"<unprintable {type(value).__name__} object: {type(error).__name__}>"
    if len(value) > limit:
        value = f"{value[:limit]}... ({len(value)} characters)"
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")


def _attributes(values):
    # Iterators belong to the user's code: the conversion takes their texts, further down.
    some = itertools.islice(values.items(), _VALUES_MAX)
    return {text(key, 255): text(value) if hasattr(value, "__next__") else value for key, value in some}


def _plain_attributes(values):
    return {key: _plain(value) for key, value in _attributes(values).items()}


def _plain(value):
    try:
        erlang._fits(value)
    except Exception:
        return text(value, _VALUE_TEXT_MAX)
    return value


def publish(*values):
    """They say of themselves that they are the module erlang's, which is where everybody finds them."""
    for value in values:
        value.__module__ = "erlang"
        if isinstance(value, type):
            for method in vars(value).values():
                if hasattr(method, "__code__"):
                    method.__module__ = "erlang"
