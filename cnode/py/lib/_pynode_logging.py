"""Records of Python's logging go to Erlang's logger: erlang.setup_logging and erlang.ErlangHandler.

A record goes to py_logger on the coordinator, and to the node's own log while there is none. Who logs never waits for
either, and never gets an exception: what finds no room is counted, and the next record tells the number.
"""
import logging
import threading

import _pynode_report as report
import erlang

_TAG = erlang.Atom("py_log")
_OWN = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}

_lock = threading.Lock()
_installed = None


class ErlangHandler(logging.Handler):
    """A logging.Handler that gives its records to Erlang's logger. setup_logging() puts one on the root logger; make
    more of them for loggers of your own, or by dictConfig: {'class': 'erlang.ErlangHandler'}.
    """

    def handle(self, record):
        # As inherited, but without a lock: sending needs none, and nobody is to wait for another one's.
        passed = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def emit(self, record):
        """Sends the record. Raises nothing, and does not wait."""
        report.tell(report.LOG, _TAG, lambda: self._prepare(record), lambda dropped: self._write(record, dropped))

    def _prepare(self, record):
        head = (int(record.levelno), report.text(record.name, 1000), self._text(record), int(record.created * 1_000_000))
        place = {"module": record.module, "lineno": record.lineno, "funcName": record.funcName}
        extra = {key: value for key, value in record.__dict__.items() if key not in _OWN}
        return lambda convert: (*head, {**convert(extra), **convert(place)})

    def _write(self, record, dropped):
        """To the node's own log."""
        line = f"logger={report.text(record.name, 1000)} {self._text(record)}"
        if dropped:
            line += f" ({dropped} records before it were dropped)"
        erlang._log_own(int(record.levelno), line.replace("\0", "\\x00"))
        return True

    def _text(self, record):
        try:
            return report.text(self.format(record))
        except Exception as error:
            words = report.text(record.msg)
            if record.args:
                words = f"{words} {report.text(record.args)}"
            return f"{words} (not formatted: {type(error).__name__}: {report.text(error)})"


def setup_logging(level=10, format=None):
    """Sends what is logged from the given level on to Erlang's logger.

    level is a number (logging.INFO) or a name ('info'), format one of logging.Formatter; without it the text is the
    message alone, as level, time and name of the logger go along by themselves. May be called again, to change them.
    Loggers that do not propagate to the root logger are included. What Erlang's logger shows is for its own
    configuration to say: its level is `notice` by default.
    """
    global _installed
    level = _level(level)
    formatter = logging.Formatter(format)
    root = logging.getLogger()
    with _lock:
        if _installed is None:
            _installed = next((h for h in root.handlers if isinstance(h, ErlangHandler)), None) or ErlangHandler()
            logging.Logger.callHandlers = _call_handlers
        _installed.setLevel(level)
        _installed.setFormatter(formatter)
        if _installed not in root.handlers:
            root.addHandler(_installed)
        root.setLevel(level)


def _level(level):
    if isinstance(level, str):
        number = logging.getLevelName(level.upper())
        if not isinstance(number, int):
            raise ValueError(f"there is no level {level!r}")
        return number
    if not isinstance(level, int) or isinstance(level, bool):
        raise TypeError(f"level must be a number or a name, not {type(level).__name__}")
    return level


_inherited = logging.Logger.callHandlers


def _call_handlers(logger, record):
    """What logging does itself; then our handler, for records that found none of its kind on their way to the root:
    those of loggers that do not propagate, and all when the root was configured anew."""
    _inherited(logger, record)
    while logger:
        if any(isinstance(handler, ErlangHandler) for handler in logger.handlers):
            return
        logger = logger.parent if logger.propagate else None
    if record.levelno >= _installed.level:
        _installed.handle(record)


report.publish(ErlangHandler, setup_logging)
