"""Spans: erlang.Span and erlang.trace.

Which span is open is the value of a context variable, erlang._span: its number, or None. The C side sends it along with
each request to Erlang, and sets it for the calls that come back (py/trace.h). A span goes to py_tracer on the
coordinator when it ends.
"""
import functools
import random
import time

import _pynode_report as report
import erlang

_TAG = erlang.Atom("py_span")
_UNDEFINED = erlang.Atom("undefined")
_OK, _ERROR = erlang.Atom("ok"), erlang.Atom("error")
_EVENTS_MAX = 1000

# A generator of our own: user code may seed the common one, and then all nodes would count alike.
_random = random.Random()
_tracing = erlang._tracing
_current = erlang._span


class Span:
    """A stretch of work with a name, for `with` and `async with`:

        with erlang.Span("import", file=path) as span:
            ...
            span.event("parsed", rows=10)

    Spans that are opened within it have it as their parent: in the same thread or coroutine, in tasks started from
    there, and, across erlang.call, in Python code that the Erlang function calls. An exception that leaves it makes
    its status `error`. While tracing is off (py:enable_tracing/0 turns it on) it does nothing.
    """

    __slots__ = ("name", "attributes", "span_id", "_parent", "_events", "_more_events", "_token", "_time", "_ticks")

    def __init__(self, /, name, **attributes):
        self.name = name
        self.attributes = attributes
        self.span_id = None
        self._token = None

    def __enter__(self):
        if _tracing() and self._token is None:
            self._begin()
            self._token = _current.set(self.span_id)
        return self

    def __exit__(self, kind, error, trace):
        token = self._token
        if token is not None:
            self._token = None
            _reset(token)
            self._end(error)

    async def __aenter__(self):
        return self.__enter__()

    async def __aexit__(self, kind, error, trace):
        self.__exit__(kind, error, trace)

    def event(self, name, /, **attributes):
        """Notes that something happened within the span, with the time."""
        if self.span_id is None:
            return
        if len(self._events) < _EVENTS_MAX:
            self._events.append((name, attributes, time.time_ns() // 1000))
        else:
            self._more_events += 1

    def __repr__(self):
        return f"<erlang.Span {self.name!r}>"

    def _begin(self):
        self.span_id = _random.getrandbits(59) + 1
        self._parent = _current.get()
        self._events = []
        self._more_events = 0
        self._time = time.time_ns() // 1000
        self._ticks = time.perf_counter_ns()

    def _end(self, error):
        duration = (time.perf_counter_ns() - self._ticks) // 1000
        report.tell(report.SPAN, _TAG, lambda: self._prepare(duration, error))

    def _prepare(self, duration, error):
        # A generator that is closed early has not failed.
        failed = error is not None and not isinstance(error, GeneratorExit)
        ends = {}
        if failed:
            ends = {"exception": report.text(error, 10_000), "exception_type": type(error).__name__}
        if self._more_events:
            ends["events_dropped"] = self._more_events
        head = (self.span_id, self._parent or _UNDEFINED, report.text(self.name, 1000), self._time,
                self._time + duration, duration, _ERROR if failed else _OK)
        events = [(report.text(name, 1000), attributes, at) for name, attributes, at in self._events]

        def build(convert):
            return (*head, convert(self.attributes), convert(ends),
                    [(name, convert(attributes), at) for name, attributes, at in events])

        return build


def _reset(token):
    try:
        _current.reset(token)
    except (ValueError, RuntimeError):
        pass  # it ends in another context than it began in, which was none of ours to change


def trace(name=None):
    """A decorator: each call of the function is a span, with the given name or the function's own.

        @erlang.trace()
        def work(): ...

    Without the parentheses, too. For functions, coroutine functions and generators; a generator's span lasts from
    its first step to its end, and it is the open one only while the generator itself runs.
    """
    if name is None or isinstance(name, str):
        return lambda function: _traced(function, name)
    return _traced(name, None)


def _traced(function, name):
    import inspect

    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(_traced(function.__func__, name))
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"trace() decorates functions, not {type(function).__name__}")
    name = name or getattr(function, "__qualname__", None) or repr(function)
    if inspect.iscoroutinefunction(function):
        wrapper = _coroutine(function, name)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, name)
    elif inspect.isasyncgenfunction(function):
        wrapper = _async_generator(function, name)
    else:
        wrapper = _function(function, name)
    return functools.wraps(function)(wrapper)


def _function(function, name):
    def traced(*args, **kwargs):
        if not _tracing():
            return function(*args, **kwargs)
        with Span(name):
            return function(*args, **kwargs)

    return traced


def _coroutine(function, name):
    async def traced(*args, **kwargs):
        with Span(name):
            return await function(*args, **kwargs)

    return traced


def _generator(function, name):
    def traced(*args, **kwargs):
        inner = function(*args, **kwargs)
        if not _tracing():
            return (yield from inner)
        span = Span(name)
        span._begin()
        failed = None
        step, value = inner.send, None
        try:
            while True:
                token = _current.set(span.span_id)
                try:
                    item = step(value)
                except StopIteration as end:
                    return end.value
                finally:
                    _reset(token)
                try:
                    step, value = inner.send, (yield item)
                except BaseException as error:
                    step, value = inner.throw, error
        except BaseException as error:
            failed = error
            raise
        finally:
            span._end(failed)
            failed = value = None  # no cycle with its traceback

    return traced


def _async_generator(function, name):
    async def traced(*args, **kwargs):
        inner = function(*args, **kwargs)
        span = Span(name)
        on = _tracing()
        if on:
            span._begin()
        failed = None
        step, value = inner.asend, None
        try:
            while True:
                token = _current.set(span.span_id) if on else None
                try:
                    item = await step(value)
                except StopAsyncIteration:
                    return
                finally:
                    if on:
                        _reset(token)
                try:
                    step, value = inner.asend, (yield item)
                except BaseException as error:
                    step, value = inner.athrow, error
        except BaseException as error:
            failed = error
            raise
        finally:
            if on:
                span._end(failed)
            failed = value = None

    return traced


class Steps:
    """An iterator whose steps are requests of their own: what is open at the end of one is so in the next one. Before
    the first it is what the request has open that made the iterator."""

    def __init__(self, items):
        self._items = items
        self._span = _current.get()

    def __iter__(self):
        return self

    def __next__(self):
        return self._run(self._items.__next__)

    def close(self):
        if hasattr(self._items, "close"):
            self._run(self._items.close)

    def _run(self, step):
        token = _current.set(self._span)
        try:
            return step()
        finally:
            self._span = _current.get()
            _reset(token)


def switch(on):
    """For py_tracer: tracing begins or ends, in all interpreters of the node."""
    erlang._trace_switch(on)


report.publish(Span, trace)
