"""What tracing_SUITE traces."""
import asyncio
import inspect
import threading
import time

import erlang
from erlang import Span, trace


def one(name, **attributes):
    with Span(name, **attributes):
        pass


def shape():
    with Span("shape", text="grün", number=2**70, nested={"a": [1, 2.5, None, True]}, data=b"\xff", t=(1, "x")) as span:
        span.event("first", at=1)
        time.sleep(0.01)
        span.event("second")
    return span.span_id


def tree():
    with Span("root"):
        with Span("left"):
            with Span("leaf"):
                pass
        with Span("right"):
            pass
    with Span("other root"):
        pass


class Unprintable:
    def __str__(self):
        raise RuntimeError("never")

    __repr__ = __str__


class Traced:
    """Its text is a span itself."""

    def __str__(self):
        with Span("within", text=self):
            return "traced"


def odd_values():
    deep = []
    for _ in range(5000):
        deep = [deep]
    numbers = iter([1, 2, 3])
    many = {f"k{n}": n for n in range(500)}
    with Span("odd", surrogate="\udc80", deep=deep, numbers=numbers, unprintable=Unprintable(), large="x" * 3_000_000,
              object=object, odd={1: "a", True: "b"}, **{"näme\udc80": 1}) as span:
        span.event("ev\udc80", numbers=numbers, deep=deep)
        span.event(7, a=1)
        for n in range(2000):
            span.event("many", n=n)
    with Span("\udc80"):
        pass
    with Span(None, **many):
        pass
    with Span("n" * 100_000):
        pass
    return list(numbers)


def chatty():
    with Span("outer", text=Traced()):
        pass


def misuse():
    """Types of the exceptions, in their order."""
    def kind(function):
        try:
            function()
        except Exception as error:
            return type(error).__name__
        return "nothing"

    def out_of_order():
        a, b = Span("a"), Span("b")
        a.__enter__()
        b.__enter__()
        a.__exit__(None, None, None)
        b.__exit__(None, None, None)
        b.__exit__(None, None, None)

    def twice():
        span = Span("twice")
        with span:
            with span:
                pass
        with span:
            pass

    def other_thread():
        span = Span("other thread")
        span.__enter__()
        t = threading.Thread(target=lambda: span.__exit__(None, None, None))
        t.start()
        t.join()

    return [kind(f) for f in (Span, lambda: Span("x", "y"), lambda: trace(7), lambda: trace()(7), lambda: trace(dict),
                              lambda: trace()(int), lambda: Span("never entered").event("x"), out_of_order, twice,
                              other_thread)]


def leave_open(name):
    Span(name).__enter__()


def failures():
    for error in (ValueError("grün"), KeyError(), StopIteration(1), KeyboardInterrupt(), GeneratorExit()):
        try:
            with Span(type(error).__name__):
                raise error
        except BaseException:
            pass
    try:
        with Span("unprintable"):
            raise ValueError(Unprintable())
    except ValueError:
        pass

    async def cancelled():
        async with Span("cancelled"):
            await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(cancelled())
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass

    asyncio.run(main())


def endless(name, to):
    with Span(name):
        erlang.send(to, "within")
        while True:
            pass


class Service:
    @trace
    def method(self, x):
        return x + 1

    @trace("static one")
    @staticmethod
    def static(x):
        return x

    @staticmethod
    @trace()
    def inner_static(x):
        return x

    @trace()
    @classmethod
    def of_class(cls):
        return cls.__name__


@trace
def plain(a, b=2):
    """Adds."""
    return a + b


@trace("named")
def named():
    raise ValueError("named failed")


@trace()
async def coroutine(x):
    await asyncio.sleep(0)
    with Span("in coroutine"):
        return x


@trace()
def generator(n):
    got = []
    for i in range(n):
        with Span("step", i=i):
            pass
        got.append((yield i))
    return got


@trace()
async def async_generator(n):
    for i in range(n):
        await asyncio.sleep(0)
        with Span("async step", i=i):
            pass
        yield i


def decorated():
    service = Service()
    results = [service.method(1), Service.static(2), service.inner_static(3), Service.of_class(), plain(1)]
    try:
        named()
    except ValueError:
        results.append("failed")
    results.append(asyncio.run(coroutine(5)))
    return results


def looks_the_same():
    return [plain.__name__, plain.__doc__, plain.__wrapped__(1), str(inspect.signature(plain)),
            inspect.iscoroutinefunction(coroutine), inspect.isgeneratorfunction(generator),
            inspect.isasyncgenfunction(async_generator)]


def generators():
    g = generator(2)
    with Span("consumer"):
        results = [next(g)]
        with Span("between"):
            pass
        results.append(g.send("sent"))
        try:
            g.send("last")
        except StopIteration as end:
            results.append(end.value)
    thrown = generator(3)
    next(thrown)
    try:
        thrown.throw(ValueError("thrown"))
    except ValueError:
        results.append("thrown")
    closed = generator(3)
    next(closed)
    closed.close()
    return results


def async_generators():
    async def main():
        items = []
        async with Span("async consumer"):
            async for item in async_generator(2):
                with Span("async between"):
                    items.append(item)
        closed = async_generator(3)
        await closed.__anext__()
        await closed.aclose()
        return items

    return asyncio.run(main())


def threads():
    def work(n):
        with Span(f"thread {n}"):
            with Span(f"in thread {n}"):
                pass

    with Span("main"):
        all_of_them = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for t in all_of_them:
            t.start()
        for t in all_of_them:
            t.join()

        async def to_thread():
            await asyncio.to_thread(one, "to thread")

        asyncio.run(to_thread())


def many_threads(count, each):
    def work():
        for _ in range(each):
            one("many")

    all_of_them = [threading.Thread(target=work) for _ in range(count)]
    for t in all_of_them:
        t.start()
    for t in all_of_them:
        t.join()


def many(count):
    for n in range(count):
        one("many", n=n)


def tasks(count):
    async def work(n):
        async with Span(f"task {n}"):
            await asyncio.sleep(0.001 * (count - n))
            with Span(f"in task {n}"):
                await asyncio.sleep(0.001)

    async def main():
        async with Span("tasks"):
            await asyncio.gather(*[work(n) for n in range(count)])

    asyncio.run(main())


def call_in_span(name, function, *args):
    with Span(name):
        return erlang.call(function, *args)


def async_calls_in_spans(count, function, *args):
    async def work(n):
        async with Span(f"async {n}"):
            return await erlang.async_call(function, f"inner {n}", *args)

    async def main():
        return await asyncio.gather(*[work(n) for n in range(count)])

    return asyncio.run(main())


def thread_call_in_span(name, function, *args):
    t = threading.Thread(target=call_in_span, args=(name, function, *args))
    t.start()
    t.join()


def down(n):
    """n levels of Python and Erlang, a span each."""
    with Span(f"level {n}"):
        return erlang.call("down", n - 1) if n > 0 else "bottom"


def cost(count):
    """Nanoseconds of a span, without the loop's: the best of ten times, as others use the machine."""
    def measure():
        begin = time.perf_counter()
        for _ in range(count):
            pass
        loop = time.perf_counter() - begin
        begin = time.perf_counter()
        for _ in range(count):
            with Span("x"):
                pass
        return (time.perf_counter() - begin - loop) / count

    return int(min(measure() for _ in range(10)) * 1e9)


def steps(count):
    """A generator with a span around all of its items, and one for each."""
    with Span("whole"):
        for i in range(count):
            with Span("item", i=i):
                pass
            yield i


async def async_steps(count):
    with Span("whole"):
        for i in range(count):
            with Span("item", i=i):
                await asyncio.sleep(0)
            yield i


async def async_one(name):
    """For py:async_call: a span, with a task's in it, and one for what Erlang calls back."""
    async with Span(name):
        await asyncio.gather(*[_task(f"{name}.{n}") for n in range(3)])
        return await erlang.async_call("inner", f"{name}.inner")


async def _task(name):
    await asyncio.sleep(0.001)
    one(name)


async def async_outer(name):
    async with Span(name):
        return await erlang.async_call("async_inner", f"{name}.")
