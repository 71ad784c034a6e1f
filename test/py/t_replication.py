"""Writers that go on when their coordinator is lost."""
import time

import erlang


def write(worker, least, stop):
    """Counts, and stores what it counted, until there are that many acknowledged writes and the key `stop` is there.
    Returns how many increments were acknowledged and how many failed, whose effect is not known, and the keys stored.
    """
    counted = unknown = 0
    stored = []
    longest = 0.0
    lost_at = None
    while counted < least or erlang_state_is_missing(stop):
        try:
            erlang.state_incr('total')
            counted += 1
            key = (worker, counted)
            erlang.state_set(key, counted)
            stored.append(key)
            if lost_at:
                longest = max(longest, time.monotonic() - lost_at)
                lost_at = None
        except erlang.CoordinatorDown:
            lost_at = lost_at or time.monotonic()
            unknown += 1
            time.sleep(0.01)
    return (counted, unknown, stored, longest)


def erlang_state_is_missing(key):
    try:
        return erlang.state_get(key) is None
    except erlang.CoordinatorDown:
        return True


def call_until(name, times):
    """Calls until that many answers came, whoever is lost meanwhile. The answers that are wrong, and the times that
    there was no coordinator."""
    wrong = []
    down = right = 0
    while right < times:
        try:
            answer = erlang.call(name, right)
            if answer != right + 1:
                wrong.append((right, answer))
            right += 1
        except erlang.CoordinatorDown:
            down += 1
            time.sleep(0.005)
        except erlang.CallbackError as error:
            wrong.append((right, str(error)))
            right += 1
    return (wrong, down)
