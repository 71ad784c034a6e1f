"""Threads that Python code starts work on behalf of the call that starts them. Imported with `threading`.

What they ask Erlang for has no more time than that call, and ends with it when it is called off: the call may wait for
them. When it has ended well, they go on by themselves. A ThreadPoolExecutor's threads work for whoever has submitted.

What starts a thread is not interrupted: Python 3.11 would raise the exception in the thread that begins, which has its
parent's number until it runs, and the parent would wait for its sign of life for ever.
"""
import sys

import erlang


def _replace(owner, name, function):
    """Puts function in the place of a method, which it gets as its first argument."""
    method = getattr(owner, name)

    def wrapper(self, /, *args, **kwargs):
        return function(method, self, *args, **kwargs)

    wrapper.__wrapped__ = method
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(wrapper, attribute, getattr(method, attribute))
    setattr(owner, name, wrapper)


def adopt(thread_class):
    _replace(thread_class, "start", _start)
    _replace(thread_class, "_bootstrap_inner", _bootstrap_inner)


def _start(method, self):
    self._pynode_request = erlang._on_behalf()
    _adopt_executors()
    return erlang._sheltered(method)(self)


def _bootstrap_inner(method, self):
    erlang._request.set(getattr(self, "_pynode_request", 0))
    return method(self)


_adopted = False


def _adopt_executors():
    """Before the first thread of the first executor starts: what was submitted until then is for the same call."""
    global _adopted
    module = sys.modules.get("concurrent.futures.thread")
    if not _adopted and hasattr(module, "ThreadPoolExecutor"):
        _adopted = True
        _replace(module.ThreadPoolExecutor, "submit", _submit)


def _submit(method, self, function, /, *args, **kwargs):
    return erlang._sheltered(method)(self, _work, erlang._on_behalf(), function, args, kwargs)


def _work(request, function, args, kwargs):
    erlang._request.set(request)
    try:
        return function(*args, **kwargs)
    finally:
        erlang._request.set(0)
