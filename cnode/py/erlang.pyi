"""The module `erlang`, which pynode gives to the Python code that it runs. For editors and type checkers.

All of it works from every thread and, but for those that wait, from coroutines.
"""

import logging
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType
from typing import Any, TypeVar, final, overload

_T = TypeVar('_T')
_F = TypeVar('_F', bound=Callable[..., Any])

class CallbackError(RuntimeError):
    """An Erlang function failed, or there is none of that name. The text says `error: badthing`, `throw: x`, ..."""

    class_: str
    """error, exit or throw."""
    reason: Any
    """The term that the function failed with, or its text when Python cannot hold it."""
    stacktrace: list[str]
    """A line for each Erlang frame, the innermost first."""

class CoordinatorDown(ConnectionError):
    """The coordinator node is not connected, or was lost before it answered."""

@final
class Atom(str):
    """A str that becomes an atom in Erlang."""

    def __new__(cls, name: str) -> Atom: ...

class _Term:
    """An Erlang term that Python has no type for. Hashable, comparable; comes back to Erlang unchanged."""

    def __hash__(self) -> int: ...
    def __eq__(self, other: object) -> bool: ...
    def __lt__(self, other: Any) -> bool: ...
    def __le__(self, other: Any) -> bool: ...
    def __gt__(self, other: Any) -> bool: ...
    def __ge__(self, other: Any) -> bool: ...

@final
class Pid(_Term):
    @property
    def node(self) -> str: ...

@final
class Reference(_Term):
    @property
    def node(self) -> str: ...

@final
class Port(_Term):
    @property
    def node(self) -> str: ...

@final
class Function(_Term): ...

@final
class Bitstring(_Term):
    """Bits that are no whole bytes."""

@final
class ImproperList(_Term):
    """A list whose tail is no list."""

def call(name: str, /, *args: Any) -> Any:
    """Calls a function that Erlang registered; it gets the list of args. Waits, and what it calls in turn runs on this
    thread meanwhile."""

def async_call(name: str, /, *args: Any) -> Awaitable[Any]:
    """The same for coroutines. Cancelling it ends the Erlang function too."""

def send(to: Pid | Atom | str | tuple[Atom, Atom], term: Any) -> None:
    """Sends a message to a process, to a name on the coordinator, or to a name on a node. Does not wait for anything."""

def node() -> str:
    """The name of this node, such as 'py1@host'."""

def self() -> Pid:
    """The process that stands for this node."""

@overload
def state_get(key: Hashable) -> Any: ...
@overload
def state_get(key: Hashable, default: _T) -> Any | _T: ...
def state_set(key: Hashable, value: Any) -> None:
    """Stores the value; every worker and node sees it."""

def state_delete(key: Hashable, /) -> None:
    """Removes the key; one that is not there is no error."""

def state_keys() -> list[Any]: ...
def state_clear() -> None: ...
def state_incr(key: Hashable, by: int = 1) -> int:
    """Adds to a counter, atomically. A missing key starts at 0; TypeError when the key holds no integer."""

def state_decr(key: Hashable, by: int = 1) -> int: ...

class Span:
    """A span of a trace: `with erlang.Span('work', size=3) as span: span.event('half')`."""

    def __init__(self, name: str, /, **attrs: Any) -> None: ...
    def event(self, name: str, /, **attrs: Any) -> None: ...
    def __enter__(self) -> Span: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

@overload
def trace(name: _F, /) -> _F: ...
@overload
def trace(name: str | None = None) -> Callable[[_F], _F]: ...
def setup_logging(level: int = 10, format: str | None = None) -> None:
    """Sends what Python logs to Erlang's logger."""

class ErlangHandler(logging.Handler): ...

def __getattr__(name: str) -> Callable[..., Any]:
    """erlang.name(*args) is erlang.call('name', *args)."""
