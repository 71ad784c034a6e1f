"""A module of our own that needs one that sub-interpreters refuse."""
import readline

STATE = []


def push(x):
    STATE.append(x)
    return list(STATE)


def history_length():
    return readline.get_current_history_length()
