"""Callbacks, as Python sees them."""
import asyncio
import concurrent.futures
import contextvars
import gc
import logging
import random
import threading
import time

import erlang


def attempt(name, *args):
    """The result, or everything that the exception says."""
    try:
        return ('ok', erlang.call(name, *args))
    except erlang.CallbackError as e:
        return ('callback', str(e), e.class_, e.reason, e.stacktrace, isinstance(e, RuntimeError))
    except Exception as e:
        return (type(e).__name__, str(e))


def by_attribute(x):
    return erlang.identity(x)


def by_import(x):
    from erlang import identity
    return identity(x)


def type_and_value(name, *args):
    value = erlang.call(name, *args)
    return (type(value).__name__, value)


def size(name):
    return len(erlang.call(name))


def round_trip(name, value):
    return erlang.call(name, value)


def compare(name, code):
    """Whether the value of that code comes back as it is."""
    value = eval(code)
    return erlang.call(name, value) == value


def wait_for(name, *args):
    erlang.call(name, *args)
    return 'not reached'


def in_thread(name, *args):
    """A call from a thread that Python made."""
    box = []
    t = threading.Thread(target=lambda: box.append(attempt(name, *args)))
    t.start()
    t.join()
    return box[0]


def in_executor(name, *args):
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        return list(executor.map(lambda _: erlang.call(name, *args), range(2)))


async def in_other_thread(name, *args):
    return await asyncio.to_thread(erlang.call, name, *args)


async def in_loops_executor(name, *args):
    return await asyncio.get_running_loop().run_in_executor(None, erlang.call, name, *args)


async def awaits(name, *args):
    return await erlang.async_call(name, *args)


def spin(pid):
    erlang.send(pid, 'spins')
    while True:
        pass


class Slow:
    """Takes its time to become an argument, and tells in the shared state that it does."""
    def __init__(self, key):
        self.key = key

    def __str__(self):
        erlang.state_set(self.key, 'converts')
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                time.sleep(0.01)
            except KeyboardInterrupt:
                pass
        return 'slow'


def slow_argument(name, key):
    erlang.call(name, Slow(key))


def slow_argument_in_loop(name, key):
    asyncio.run(awaits(name, Slow(key)))


def starts_and_waits(name, *args):
    threading.Thread(target=attempt, args=(name, *args)).start()
    return asyncio.sleep(600)


def in_own_loop(name, *args):
    return asyncio.run(awaits(name, *args))


def in_thread_of_own_loop(name, *args):
    async def asks():
        return await asyncio.to_thread(erlang.call, name, *args)

    return asyncio.run(asks())


def in_copied_context(name, *args):
    t = threading.Thread(target=contextvars.copy_context().run, args=(attempt, name, *args))
    t.start()
    t.join()


class Tidy:
    """Leaves a mark when it was entered, and another one when it was left in order."""
    def __init__(self, path):
        self.path = path

    def __enter__(self):
        with open(self.path, 'a') as f:
            f.write('o')
        return self

    def __exit__(self, *args):
        text = ''
        for part in 'x', '':
            text += part
        with open(self.path, 'a') as f:
            f.write(text)


def tidies_up(name, path):
    with Tidy(path):
        return erlang.call(name, 1)


async def items(name, *args):
    yield 'first'
    yield await erlang.async_call(name, *args)


_pool = None


def goes_on(key, go):
    """What threads do after the call that started them, and a pool's thread for the next one: the key counts."""
    global _pool
    _pool = _pool or concurrent.futures.ThreadPoolExecutor(1)

    def work():
        while erlang.state_get(go) is None:
            time.sleep(0.005)
        erlang.state_incr(key)

    threading.Thread(target=work).start()
    _pool.submit(work)


def keep_asking(threads, daemon):
    """Threads that ask of everything until there is no coordinator any more."""
    def work(number):
        logger = logging.getLogger('keep_asking')
        try:
            while True:
                erlang.state_incr('asked')
                erlang.call('identity', number)
                erlang.send('nobody', number)
                logger.debug('asked')
        except erlang.CoordinatorDown:
            pass

    for number in range(threads):
        threading.Thread(target=work, args=(number,), daemon=daemon).start()


def stress(name, threads, calls, seed):
    """Every thread calls; the wrong answers."""
    wrong = []

    def work(number):
        mine = random.Random(seed * 1000 + number)
        for i in range(calls):
            value = (number, i)
            # Few wait, so that later ones overtake them.
            answer = erlang.call(name, value, mine.choice((0, 0, 0, 0, 0, 0, 0, 1, 2, 3)))
            if answer != value:
                wrong.append((value, answer))

    ts = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    return wrong


class Account:
    def __init__(self, owner):
        self.owner = owner
        self.balance = 0

    def deposit(self, amount):
        self.balance = erlang.call('add', self.balance, amount)
        return self

    def report(self):
        return erlang.call('describe', self.owner, self.balance)


def account(owner, amounts):
    a = Account(owner)
    for amount in amounts:
        a.deposit(amount)
    return a.report()


def count(key, n):
    for _ in range(n):
        erlang.state_incr(key)
    return n


def count_in_threads(key, threads, n):
    ts = [threading.Thread(target=count, args=(key, n)) for _ in range(threads)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()


def state_api():
    """Every function of the shared state, once."""
    out = []
    erlang.state_clear()
    out.append(erlang.state_get('absent'))
    out.append(erlang.state_get('absent', 'default'))
    erlang.state_set('k', {'a': [1, 2.5, None, True, b'\xff']})
    out.append(erlang.state_get('k'))
    erlang.state_set('n', 1)
    out.append(erlang.state_incr('n'))
    out.append(erlang.state_incr('n', 10))
    out.append(erlang.state_incr('n', by=2**70))
    out.append(erlang.state_decr('n', by=2**70))
    out.append(erlang.state_decr('n', 5))
    out.append(erlang.state_decr('n'))
    out.append(erlang.state_incr('fresh'))
    out.append(erlang.state_decr('down'))
    out.append(sorted(erlang.state_keys()))
    erlang.state_delete('k')
    erlang.state_delete('never was')
    out.append(erlang.state_get('k'))
    erlang.state_clear()
    out.append(erlang.state_keys())
    return out


def state_error(operation, *args):
    try:
        return ('ok', getattr(erlang, 'state_' + operation)(*args))
    except Exception as e:
        return (type(e).__name__, str(e))


def time_of(f, *args):
    """How an operation ends, and after how many seconds."""
    begun = time.monotonic()
    try:
        result = ('ok', getattr(erlang, f)(*args))
    except Exception as e:
        result = (type(e).__name__, isinstance(e, ConnectionError))
    return result + (time.monotonic() - begun,)


def send(to, term):
    erlang.send(to, term)


def send_evaluated(to, code):
    erlang.send(to, eval(code))


def send_many(to, n):
    for i in range(n):
        erlang.send(to, i)


def down_inside():
    """What a call sees whose coordinator goes away meanwhile."""
    try:
        erlang.call('never')
    except erlang.CoordinatorDown as e:
        return ('down', isinstance(e, ConnectionError))


def nap(seconds):
    """Sleeps, and can be interrupted."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.005)


class Garbage:
    """In a cycle: it ends when the collector runs."""
    seen = None

    def __init__(self):
        self.me = self

    def __del__(self):
        if Garbage.seen is None:
            gc.disable()
            gc.set_threshold(700, 10, 10)
            Garbage.seen = [erlang.call('look_up')]


def collect_at_next_list():
    """The collector is to run as soon as something is made that it watches; Python's spare objects are used up."""
    gc.disable()
    gc.collect()
    Garbage.seen = None
    Garbage()
    Garbage.spare = [[[] for _ in range(300)], [(i,) for i in range(3000)], [(i, i) for i in range(3000)]]
    gc.set_threshold(1, 1, 1)
    gc.enable()


def own_name():
    return 'the right one'


def collected():
    Garbage.spare = None
    gc.enable()
    gc.collect()  # where it has not run yet, as without a GIL
    return Garbage.seen
