"""What `make bench` has pynode do."""


def identity(value):
    return value


def spin(n):
    total = 0
    for i in range(n):
        total += i * i
    return total


def calls(n):
    import erlang

    for i in range(n):
        erlang.call("identity", i)


def increments(n):
    from erlang import state_incr

    for _ in range(n):
        state_incr("bench")


def increments_by_threads(n, count):
    import threading

    threads = [threading.Thread(target=increments, args=(n,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def get_and_set(n):
    from erlang import state_get, state_set

    value = {"model": "m", "timeout": 30000}
    for _ in range(n):
        state_set("config", value)
        state_get("config")


def nested(n):
    """n levels of Python -> Erlang -> Python, one after the other."""
    import erlang

    for i in range(n):
        erlang.call("through", i)
