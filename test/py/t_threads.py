"""Threads that wait for callbacks, each of which calls Python again."""
import threading

import erlang

depths = []


def level(n):
    depths.append(n)
    if n == 0:
        return 0
    box = []
    t = threading.Thread(target=lambda: box.append(erlang.call('thread_level', n - 1)))
    t.start()
    t.join()
    return box[0] + 1


def depths_of(n):
    depths.clear()
    return level(n), depths


def many(n):
    box = []
    ts = [threading.Thread(target=lambda: box.append(erlang.call('thread_level', 2))) for _ in range(n)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    return sorted(set(box)), len(box)
