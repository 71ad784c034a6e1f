"""Functions for call_SUITE, main_SUITE and output_SUITE."""
import asyncio
import functools
import subprocess
import sys
import threading

SHARED = {}


def identity(x):
    return x


def shape(*args, **kwargs):
    """What arrived, with the order of the keyword arguments."""
    return (list(args), [[k, v] for k, v in kwargs.items()])


def defaults(a, b=2, *, c=3):
    return (a, b, c)


def keep(key, value):
    SHARED[key] = value


def kept(key):
    return SHARED.get(key)


class Counter:
    def __init__(self, start):
        self.value = start

    def __str__(self):
        return f"Counter at {self.value}"

    @classmethod
    def make(cls, start):
        return f"made {start}"

    @staticmethod
    def plain(x):
        return x + 1

    class Inner:
        @staticmethod
        def deep(x):
            return ("deep", x)


class Callable:
    def __call__(self, x):
        return ("called", x)


instance = Callable()
add_ten = functools.partial(lambda a, b: a + b, 10)
not_callable = 42
größe = len


# Exceptions


class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no text today")


class OddText(Exception):
    def __str__(self):
        return 12


class Größe(ValueError):
    pass


class Outer:
    class Inner(KeyError):
        pass


def raise_named(name, *args):
    raise getattr(__import__("builtins"), name)(*args)


def raise_here(name, *args):
    cls = globals()[name] if "." not in name else Outer.Inner
    raise cls(*args)


def raise_surrogates():
    raise ValueError("lone \udc80 surrogate")


def raise_long(n):
    raise ValueError("é" * n)


def raise_from():
    try:
        {}["missing"]
    except KeyError as e:
        raise LookupError("the second") from e


def raise_bare_class():
    raise ZeroDivisionError


def leave(*args):
    sys.exit(*args)


def recurse(n=0):
    return recurse(n + 1)


def recurse_builtins(n=0):
    return max([n], key=lambda _: recurse_builtins(n + 1))


def recurse_to(n):
    return 0 if n == 0 else 1 + recurse_to(n - 1)


def raise_in_thread():
    caught = []

    def run():
        try:
            raise ValueError("in a thread")
        except ValueError as e:
            caught.append(str(e))

    t = threading.Thread(target=run)
    t.start()
    t.join()
    return caught


def generator_that_fails(n):
    yield from range(n)
    raise ArithmeticError("after some")


def in_threads(n):
    """n threads, each of which adds its own number many times."""
    totals = [0] * n

    def run(i):
        for _ in range(1000):
            totals[i] += i

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return totals


def in_subprocess(text):
    done = subprocess.run(["cat"], input=text.encode(), stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


def in_asyncio(n):
    async def one(i):
        await asyncio.sleep(0.001)
        return i * i

    async def main():
        return await asyncio.gather(*(one(i) for i in range(n)))

    return asyncio.run(main())


def say(text, stream="stdout"):
    print(text, file=getattr(sys, stream))


def say_pieces(pieces, stream="stdout", flush=False):
    for p in pieces:
        getattr(sys, stream).write(p)
    if flush:
        getattr(sys, stream).flush()


def flood(lines, width):
    for i in range(lines):
        print(f"flood {i:06d} " + "x" * width)
    return lines


def say_in_threads(n, lines):
    def run(i):
        for k in range(lines):
            print(f"thread {i} line {k}", "some", "more", "words", sep="-")

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def die_in_thread():
    def run():
        raise OSError("nobody catches this")

    t = threading.Thread(target=run)
    t.start()
    t.join()


def warn():
    import warnings

    warnings.warn("a warning of Python's", stacklevel=1)


def log_by_logging(text):
    import logging

    logging.getLogger("t_calls").warning("%s", text)


def say_long(word, numbers):
    text = f"begin {word} " + " ".join(map(str, range(numbers))) + f" end {word}"
    print(text)
    return text


def say_long_in_pieces(word, pieces, width):
    text = f"begin {word} " + "".join(f"{i:_>{width}}" for i in range(pieces)) + f" end {word}"
    for i in range(0, len(text), width):
        sys.stdout.write(text[i : i + width])
    sys.stdout.flush()
    return text


def say_bytes():
    import io

    out = sys.stdout
    out.write("text ")
    assert out.buffer.write(b"bytes ") == 6
    print("text")
    assert out.buffer.write(memoryview(b"of a memoryview\n")) == 16
    for byte in "grüße in pieces\n".encode():
        out.buffer.write(bytes([byte]))
    out.buffer.writelines([b"no utf-8: ", b"\xff\n"])
    out.buffer.write(b"begun \xc3")
    print(" text")
    wrapper = io.TextIOWrapper(out.buffer, encoding="utf-8")
    wrapper.write("by a wrapper ü\n")
    wrapper.close()
    print("still open")
    out.buffer.flush()


def bytes_facts():
    import io

    b = sys.stdout.buffer
    return {
        "writable": b.writable(),
        "readable": b.readable(),
        "seekable": b.seekable(),
        "isatty": b.isatty(),
        "fileno": b.fileno(),
        "closed": b.closed,
        "name": b.name,
        "is_binary": isinstance(b, io.BufferedIOBase),
    }


def stream_facts():
    s = sys.stdout
    return {
        "writable": s.writable(),
        "isatty": s.isatty(),
        "encoding": s.encoding,
        "fileno": s.fileno(),
        "errors": s.errors,
    }


def write_not_text():
    sys.stdout.write(b"bytes")
