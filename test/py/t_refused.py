"""A module of our own that needs one that sub-interpreters refuse."""
import readline

STATE = []


def push(x):
    STATE.append(x)
    return list(STATE)


def pushes(n):
    for x in range(n):
        yield push(x)[-1]


def history_length():
    return readline.get_current_history_length()
