"""What logging_SUITE has Python log."""
import asyncio
import logging
import logging.config
import threading
import time

import erlang

log = logging.getLogger("t.app")


def say(level, *args):
    log.log(level, *args)


def say_from_here(text):
    log.warning(text)
    return say_from_here.__code__.co_firstlineno + 1


def setup(*args):
    """What erlang.setup_logging raises."""
    try:
        erlang.setup_logging(*args)
    except Exception as error:
        return type(error).__name__
    return "nothing"


def handlers():
    return [type(h).__name__ for h in logging.getLogger().handlers]


def fail():
    def inner():
        raise KeyError("näme")

    try:
        inner()
    except KeyError:
        log.exception("it failed for %s", "someone")
    try:
        inner()
    except KeyError as error:
        log.warning("later", exc_info=error)
    log.info("here", stack_info=True)


def threads(count, each):
    def work(n):
        for i in range(each):
            logging.getLogger(f"t.thread.{n}").info("%d-%d", n, i)

    all_of_them = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for t in all_of_them:
        t.start()
    for t in all_of_them:
        t.join()


def coroutines(count):
    async def work(n):
        log.info("before %d", n)
        await asyncio.sleep(0.001)
        log.info("after %d", n)

    async def main():
        await asyncio.gather(*[work(n) for n in range(count)])

    asyncio.run(main())


class Plain(logging.Formatter):
    pass


def uvicorn_like(root=False):
    """The shape of uvicorn's own configuration."""
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"default": {"()": "t_logging.Plain", "fmt": "%(levelname)s %(message)s"}},
        "handlers": {"default": {"formatter": "default", "class": "logging.NullHandler"}},
        "loggers": {
            "uvicorn": {"handlers": ["default"], "level": "INFO", "propagate": False},
            "uvicorn.error": {"level": "INFO"},
            "uvicorn.access": {"handlers": ["default"], "level": "INFO", "propagate": False},
        },
    }
    if root:
        config["root"] = {"handlers": ["default"], "level": "DEBUG"}
    logging.config.dictConfig(config)


def uvicorn_says(text):
    logging.getLogger("uvicorn.error").info("%s", f"{text} error")
    logging.getLogger("uvicorn.error").debug("below its level")
    logging.getLogger("uvicorn.access").info("%s", f"{text} access")


def own_handler():
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "incremental": False,
        "handlers": {"ours": {"class": "erlang.ErlangHandler", "level": "INFO"}},
        "loggers": {"t.own": {"handlers": ["ours"], "level": "DEBUG", "propagate": False}},
    })
    logging.getLogger("t.own").info("by its own handler")
    logging.getLogger("t.own").debug("below the level of its handler")


class Unprintable:
    def __str__(self):
        raise RuntimeError("never")

    __repr__ = __str__


class Chatty:
    def __str__(self):
        log.info("%s", self)
        return "chatty"


def odd_records():
    """Records that cannot be formatted, and text that UTF-8 cannot hold. Returns how many there are."""
    records = [
        lambda: log.warning("%d", "not a number"),
        lambda: log.warning("%s %s", "one"),
        lambda: log.warning("%(x)s", {"y": 1}),
        lambda: log.warning(Unprintable()),
        lambda: log.warning("%s", Unprintable()),
        lambda: log.warning("surrogate \udc80"),
        lambda: log.warning("bytes %s", b"\xff\xfe"),
        lambda: log.warning("nul \0 end"),
        lambda: log.warning(None),
        lambda: log.warning(""),
        lambda: log.warning("x" * 3_000_000),
        lambda: log.warning("odd name", extra={"k\udc80": 1}),
        lambda: logging.getLogger("odd \udc80 logger").warning("name"),
        lambda: log.handle(logging.makeLogRecord({"msg": "made", "levelno": 30, "name": None, "lineno": "?"})),
    ]
    for record in records:
        record()
    return len(records)


def chatty():
    log.warning(Chatty())


def extras():
    deep = []
    for _ in range(5000):
        deep = [deep]
    numbers = iter([1, 2, 3])
    inner = iter([4])
    log.warning("extra", extra={
        "request_id": 7, "user": {"name": "ö", "tags": (1, 2.5, None, True)}, "unprintable": Unprintable(),
        "surrogate": "\udc80", "deep": deep, "numbers": numbers, "large": "x" * 2_000_000, "both": {1: "a", 1.5: "b"},
        "inner": {"rows": [inner]},
    })
    return [*numbers, *inner]


def flood(count, text="flood %d"):
    begin = time.monotonic()
    for n in range(count):
        log.info(text, n)
    return time.monotonic() - begin


def levels():
    for level in (5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60):
        log.log(level, "level %d", level)


def setup_and_levels():
    erlang.setup_logging(1)
    levels()


def reset():
    """As if no such configuration had been."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", ""):
        logger = logging.getLogger(name)
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
