"""Makes virtual environments and installs into them, by the tools of Python: uv, or venv and pip.

One call per host. A lock file beside the environment keeps two from working on it at a time, in whatever process; it is
handed to the programs that are started, so that it outlives this process as long as one of them does. What was asked
for is noted in the environment (its stamp): asked again, nothing is started.
"""
import collections
import fcntl
import glob
import hashlib
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time

import erlang
from _pynode_venv import InvalidVenv, check

STAMP = ".pynode-stamp"
UNFINISHED = ".pynode-unfinished"
TICK_MS = 50
LAST_LINES = 40
LINE_MAX = 1000
SAID_MAX = 10000
NESTED_MAX = 10


class EnsureFailed(RuntimeError):
    """A program failed, or a file system did. The text is what it said last."""


def ensure(path, requirements, options, listener=None):
    """requirements: ("file", path) or ("list", [text]). options: installer, force, args. listener: an erlang.Pid that
    gets {py_venv, Line} for each line of output. Says whether anything was done."""
    try:
        return _Work(path, requirements, options, listener).run()
    except OSError as error:
        raise EnsureFailed(str(error)) from None


class _Work:
    def __init__(self, path, requirements, options, listener):
        self.path = os.path.abspath(os.fsdecode(path))
        self.kind, self.what = requirements
        if self.kind == "file":
            self.what = os.path.abspath(os.fsdecode(self.what))
        self.installer = options.get("installer", "auto")
        self.force = options.get("force", False)
        self.args = [os.fsdecode(arg) for arg in options.get("args", [])]
        self.listener = listener
        self.said = 0
        self.last = collections.deque(maxlen=LAST_LINES)
        self.lock = None

    def run(self):
        stamp = self._stamp()
        if not self.force and self._is_ready(stamp):
            return False
        self.lock = self._take_lock()
        try:
            # Another one may have done it meanwhile.
            if not self.force and self._is_ready(stamp):
                return False
            self._make()
            self._install(stamp)
            return True
        finally:
            self._give_lock()

    # What is there

    def _is_ready(self, stamp):
        if stamp is None or self._state() != "whole":
            return False
        check(self.path)
        try:
            with open(os.path.join(self.path, STAMP), encoding="ascii") as file:
                return file.read() == stamp
        except (OSError, ValueError):
            return False

    def _state(self):
        if not os.path.lexists(self.path):
            return "missing"
        if not os.path.isdir(self.path):
            raise InvalidVenv(self.path)
        if os.path.exists(os.path.join(self.path, UNFINISHED)):
            return "unfinished"
        if os.path.isfile(os.path.join(self.path, "pyvenv.cfg")):
            return "whole"
        if os.listdir(self.path):
            raise InvalidVenv(self.path)  # somebody's files
        return "missing"

    def _stamp(self):
        """Stands for what is asked for; None for what cannot be told from what it was before, as a folder."""
        facts = [sys.version_info[:2], sys.abiflags, self.args]
        if self.kind == "file":
            if not _add_file(facts, self.what, 0):
                return None
        elif not all(_add_line(facts, text, os.getcwd()) for text in self.what):
            return None
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    # The lock

    def _take_lock(self):
        """Whoever has it may remove the file, so what counts is that the locked one still stands there."""
        name = self.path + ".lock"
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        told = False
        while True:
            file = open(name, "ab", buffering=0)  # closed with the last reference: an interrupt may come anywhere
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.exists(name) and os.path.samestat(os.fstat(file.fileno()), os.stat(name)):
                    return file
            except BlockingIOError:
                told = told or self._say(f"waiting for another one that works on {self.path}")
                time.sleep(TICK_MS / 1000)
            file.close()

    def _give_lock(self):
        os.unlink(self.path + ".lock")
        self.lock.close()

    # The steps

    def _make(self):
        state = self._state()
        if state == "whole":
            check(self.path)
            return
        python = self._python()
        mark = os.path.join(self.path, UNFINISHED)
        os.makedirs(self.path, exist_ok=True)
        with open(mark, "w", encoding="ascii"):
            pass
        _empty(self.path, UNFINISHED)
        self._say(f"making {self.path} with {python}")
        uv = self._uv()
        if uv:
            self._start(uv, "venv", "--allow-existing", "--python", python, self.path)
        else:
            self._start(python, "-I", "-m", "venv", self.path)
        os.unlink(mark)
        check(self.path)

    def _install(self, stamp):
        stamp_file = os.path.join(self.path, STAMP)
        try:
            os.unlink(stamp_file)
        except FileNotFoundError:
            pass
        if self.kind == "file":
            self._start(*self._tool(), *self.args, "-r", self.what, cwd=os.path.dirname(self.what))
        elif self.what:
            self._start(*self._tool(), *self.args, "--", *self.what)
        if stamp is not None:
            with open(stamp_file, "w", encoding="ascii") as file:
                file.write(stamp)

    def _tool(self):
        python = os.path.join(self.path, "bin", "python")
        uv = self._uv()
        if uv:
            return [uv, "pip", "install", "--python", python]
        if not glob.glob(os.path.join(self.path, "lib*", "python*", "site-packages", "pip")):
            self._start(python, "-I", "-m", "ensurepip", "--default-pip")  # made without, by uv for one
        return [python, "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]

    def _uv(self):
        uv = None if self.installer == "pip" else shutil.which("uv")
        if uv is None and self.installer == "uv":
            raise EnsureFailed("there is no uv in the path of the node")
        return uv

    def _python(self):
        """The program that belongs to this libpython, not whatever stands in PATH."""
        flag = "t" if "t" in sys.abiflags else ""
        version = "%d.%d" % sys.version_info[:2]
        places = [os.path.join(sys.base_exec_prefix, "bin", name)
                  for name in (f"python{version}{flag}", f"python{version}", "python3")]
        probe = "import sys; print(*sys.version_info[:2], 't' in sys.abiflags)"
        for program in [getattr(sys, "_base_executable", None), *places]:
            if program and os.access(program, os.X_OK):
                found = subprocess.run([program, "-I", "-S", "-c", probe], capture_output=True, text=True, timeout=10,
                                       stdin=subprocess.DEVNULL, env=self._environment(), check=False)
                if found.stdout.split() == [*version.split("."), str(flag == "t")]:
                    return program
        raise EnsureFailed(f"the program of Python {version}{flag} is not in {os.path.join(sys.base_exec_prefix, 'bin')}")

    # Programs

    def _start(self, *command, cwd=None):
        """Runs it to its end, line by line to the listener. It is killed, with what it has started, when this thread is
        interrupted; so nothing here waits for long."""
        self._say("$ " + shlex.join(command))
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 cwd=cwd, env=self._environment(), start_new_session=True, pass_fds=(self.lock.fileno(),))
        try:
            self._read(child)
            while child.poll() is None:
                time.sleep(TICK_MS / 1000)
        finally:
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            child.stdout.close()
        if child.returncode != 0:
            raise EnsureFailed("\n".join(self.last))

    def _read(self, child):
        """Until it closes its output, or has ended: what it left behind may keep that open."""
        fd = child.stdout.fileno()
        os.set_blocking(fd, False)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        rest = b""
        while True:
            ended = child.poll() is not None
            ready = poll.poll(TICK_MS)
            data = os.read(fd, 65536) if ready else b""
            if not data and (ready or ended):
                break
            *lines, rest = re.split(rb"[\r\n]+", rest + data)
            rest = rest[-65536:]
            for line in lines:
                self._say(line.decode("utf-8", "replace"))
        self._say(rest.decode("utf-8", "replace"))

    def _say(self, line):
        line = line.rstrip()[:LINE_MAX]
        if not line:
            return True
        self.last.append(line)
        self.said += 1
        if self.listener is not None and self.said <= SAID_MAX:
            try:
                erlang.send(self.listener, (erlang.Atom("py_venv"), line))
            except (ConnectionError, OSError):
                self.listener = None
        return True

    def _environment(self):
        """Nothing of this node's: not its cookie, not the settings of another Python."""
        private = ("PYNODE_COOKIE", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
        environment = {name: value for name, value in os.environ.items() if name not in private}
        return environment | {"PYTHONUNBUFFERED": "1", "UV_NO_PROGRESS": "1"}


# Stamps


def _add_file(facts, path, depth):
    """A requirements file and those that it names. False: it names what has no content that could be compared."""
    if depth > NESTED_MAX:
        raise EnsureFailed(f"requirements files are nested deeper than {NESTED_MAX}")
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines()
    return all(_add_file_line(facts, line.strip(), os.path.dirname(path), depth) for line in lines)


def _add_file_line(facts, line, folder, depth):
    nested = re.match(r"(?:-r|--requirement|-c|--constraint)[\s=]*(\S+)", line)
    if nested and "://" not in nested[1]:
        facts.append(line.encode("utf-8", "surrogateescape").hex())
        return _add_file(facts, os.path.join(folder, nested[1]), depth + 1)
    if re.match(r"(?:-e|--editable)\b", line):
        return False
    return _add_line(facts, line, folder)


def _add_line(facts, text, folder):
    """What is a file counts with its time and size."""
    facts.append(text.encode("utf-8", "surrogateescape").hex())
    place = re.search(r"file://(?:localhost)?(/[^\s;#]+)", text)
    name = place[1] if place else re.split(r"\s*(?:;|\[| #)", text, maxsplit=1)[0]
    if not place and os.sep not in name and not name.endswith((".whl", ".zip", ".tar.gz", ".tgz")):
        return True  # pip does not take it for a path
    try:
        found = os.stat(os.path.join(folder, name))
    except (OSError, ValueError):
        return True
    facts.append([found.st_mtime_ns, found.st_size])
    return os.path.isfile(os.path.join(folder, name))


def _empty(folder, kept):
    for entry in os.scandir(folder):
        if entry.name == kept:
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
