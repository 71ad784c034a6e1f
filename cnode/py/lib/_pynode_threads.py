"""Threads that Python code starts work on behalf of the call that starts them. Imported with the modules of threads.

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


def adopt(module):
    """The module has just been imported, or was there before."""
    if module.__name__ == "threading":
        _replace(module.Thread, "start", _start)
        _replace(module.Thread, "_bootstrap_inner", _bootstrap_inner)
    else:
        _replace(module.ThreadPoolExecutor, "submit", _submit)


def _start(method, self):
    self._pynode_request = erlang._on_behalf()
    return erlang._sheltered(method)(self)


def _bootstrap_inner(method, self):
    erlang._adopt(getattr(self, "_pynode_request", 0))
    return method(self)


def _runs_elsewhere(executor):
    """Python 3.14 has one whose functions are run by interpreters of its own."""
    module = sys.modules.get("concurrent.futures.interpreter")
    return module is not None and isinstance(executor, module.InterpreterPoolExecutor)


def _submit(method, self, function, /, *args, **kwargs):
    submit = erlang._sheltered(method)
    if _runs_elsewhere(self):
        return submit(self, function, *args, **kwargs)
    return submit(self, _work, erlang._on_behalf(), function, args, kwargs)


def _work(request, function, args, kwargs):
    before = erlang._adopt(request)
    try:
        return function(*args, **kwargs)
    finally:
        erlang._adopt(before)
