"""sys.stdout and sys.stderr: what Python code writes goes to the node's log, line by line."""
import io
from _codecs import utf_8_decode
from _thread import _local

import erlang

# A line that nothing ends comes in pieces of so many characters.
_LINE_MAX = 65536


class _Stream:
    """What text and bytes have in common. No subclass of io's classes: those are iterators, and a stream that a call
    gives back would be read. It is registered as one instead."""

    def close(self):
        """Flushes. There is no other place for what is written later, so it is never closed."""
        self.flush()

    closed = False

    def isatty(self):
        return False

    def readable(self):
        return False

    def seekable(self):
        return False

    def writable(self):
        return True

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def _unsupported(self, *args):
        raise io.UnsupportedOperation("the stream only takes what is written to it")

    detach = read = readline = readlines = seek = tell = truncate = _unsupported

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class LogStream(_Stream):
    """stdout or stderr: whole lines go to the node's log, with the interpreter's number.

    Each thread has a line of its own under way, so that lines of several threads do not mix.
    """

    encoding = "utf-8"
    errors = "backslashreplace"
    line_buffering = True
    mode = "w"
    newlines = None
    write_through = False

    def __init__(self, name, number):
        self.name = f"<{name}>"
        self.buffer = _Bytes(self)
        self._number = number
        self._pending = _local()

    def __repr__(self):
        return f"<LogStream name={self.name!r} mode='w' encoding='utf-8'>"

    def fileno(self):
        return self._number

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._line().write(text)
        return len(text)

    def flush(self):
        self._line().flush()

    def reconfigure(self, *, encoding=None, errors=None, newline=None, line_buffering=None, write_through=None):
        """Changes nothing: the log has one form."""
        self.flush()

    def _line(self):
        try:
            return self._pending.line
        except AttributeError:
            self._pending.line = line = _Line(self._number)
            return line


class _Bytes(_Stream):
    """The `buffer` of such a stream: bytes, as UTF-8, between the text in the order of their writing."""

    mode = "wb"

    def __init__(self, stream):
        self._stream = stream

    @property
    def name(self):
        return self._stream.name

    @property
    def raw(self):
        return self

    def __repr__(self):
        return f"<LogStream name={self.name!r} mode='wb'>"

    def fileno(self):
        return self._stream.fileno()

    def write(self, data):
        if isinstance(data, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        data = bytes(memoryview(data))
        self._stream._line().write_bytes(data)
        return len(data)

    def flush(self):
        self._stream.flush()


class _Line:
    """What a thread has written since its last newline. It comes to the log when the thread ends, if not before."""

    def __init__(self, number):
        self.number = number
        self.text = ""
        self.begun = b""  # a character of which not all bytes have come

    def write(self, text):
        if self.begun:
            self.write_bytes(b"", True)
        lines = (self.text + text).split("\n")
        self.text = lines.pop()
        for line in lines:
            _log(self.number, line)
        if len(self.text) > _LINE_MAX:
            self.flush()

    def write_bytes(self, data, final=False):
        data, self.begun = self.begun + data, b""
        text, used = utf_8_decode(data, "backslashreplace", final)
        self.write(text)
        self.begun = data[used:]

    def flush(self):
        text, self.text = self.text, ""
        if text:
            _log(self.number, text)

    def __del__(self):
        if self.begun:
            self.write_bytes(b"", True)
        self.flush()


def _log(number, line):
    try:
        erlang._log(number, line)
    except ValueError:  # lone surrogates, or a NUL
        line = line.encode("utf-8", "backslashreplace").decode("utf-8")
        erlang._log(number, line.replace("\0", "\\x00"))


io.TextIOBase.register(LogStream)
io.BufferedIOBase.register(_Bytes)
