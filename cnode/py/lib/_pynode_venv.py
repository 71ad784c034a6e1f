"""Virtual environments that are entered and left while the interpreter runs.

An interpreter in an environment looks as if it had been started by the environment's own bin/python: its packages take
the place of those that were there (unless it says include-system-site-packages), and sys.prefix, sys.exec_prefix and
sys.executable are its. Leaving it puts all that back. Modules that were imported stay imported.

Every interpreter enters by itself; what is here is about the one that runs it.
"""
import importlib
import os
import site
import sys
import sysconfig
from _thread import allocate_lock


class InvalidVenv(ValueError):
    """There is no virtual environment at that path."""


class IncompatibleVenv(ValueError):
    """It belongs to another Python. (path, sentence)"""

    def __str__(self):
        return self.args[1]


_ATTRIBUTES = ("prefix", "exec_prefix", "executable")
_lock = allocate_lock()
_entered = None


class _Entered:
    """What entering changed, and how to take it back."""

    def __init__(self, path, dirs, system):
        self.path = path
        self.before = list(sys.path)
        finders, hooks = list(sys.meta_path), list(sys.path_hooks)
        sites = _site_entries()
        kept = [entry for entry in self.before if entry not in sites]
        place = next((i for i, entry in enumerate(self.before) if entry in sites), len(self.before))
        self._add(dirs, kept, len([entry for entry in self.before[:place] if entry not in sites]), system)
        self.finders = _new(sys.meta_path, finders)
        self.hooks = _new(sys.path_hooks, hooks)
        self.attributes = {name: getattr(sys, name) for name in _ATTRIBUTES}
        self.ours = {"prefix": path, "exec_prefix": path, "executable": _executable(path) or sys.executable}
        for name in _ATTRIBUTES:
            setattr(sys, name, self.ours[name])
        importlib.invalidate_caches()

    def _add(self, dirs, kept, place, system):
        """Lets site read the .pth files; what it and they append to sys.path goes where such packages stood before."""
        sys.path[:] = kept
        for folder in dirs:
            site.addsitedir(folder)
        added = [entry for entry in sys.path if entry not in kept]
        if system:
            added += [entry for folder in _base_dirs() for entry in _entries_of(folder) if entry not in added]
        sys.path[:] = self.after = kept[:place] + added + kept[place:]

    def leave(self):
        sys.path[:] = self._path_without()
        sys.meta_path[:] = [finder for finder in sys.meta_path if not _is_in(finder, self.finders)]
        sys.path_hooks[:] = [hook for hook in sys.path_hooks if not _is_in(hook, self.hooks)]
        for name in _ATTRIBUTES:
            if getattr(sys, name) == self.ours[name]:
                setattr(sys, name, self.attributes[name])
        sys.path_importer_cache.clear()
        importlib.invalidate_caches()

    def _path_without(self):
        """sys.path as it was, but for what other code has added or taken away meanwhile."""
        now = list(sys.path)
        place = next((i for i, entry in enumerate(now) if entry in self.after), len(now))
        gone = {entry for entry in self.after if entry not in now}
        front = [entry for entry in now[:place] if entry not in self.after]
        behind = [entry for entry in now[place:] if entry not in self.after]
        return front + [entry for entry in self.before if entry not in gone] + behind


def check(path):
    """Raises what activate would."""
    _look_at(os.path.abspath(os.fsdecode(path)))


def activate(path):
    global _entered
    path = os.path.abspath(os.fsdecode(path))
    with _lock:
        dirs, system = _look_at(path)
        if _entered:
            _entered.leave()
        _entered = _Entered(path, dirs, system)


def deactivate():
    """Back to what the interpreter was started with, which may be an environment, too."""
    global _entered
    with _lock:
        if _entered:
            _entered.leave()
        _entered = None


def info():
    with _lock:
        active = sys.prefix != sys.base_prefix
        return {
            "active": active,
            "venv_path": sys.prefix if active else None,
            "site_packages": next(iter(_dirs(sys.prefix)), None) if active else None,
            "sys_path": list(sys.path),
        }


# What is at a path


def _look_at(path):
    """The folders of packages, and whether those of the Python itself are to be seen as well."""
    settings = _settings(path)
    ours = "%d.%d" % sys.version_info[:2]
    theirs = ".".join(settings.get("version", settings.get("version_info", ours)).split(".")[:2])
    if theirs != ours:
        raise IncompatibleVenv(path, f"{path} was made by Python {theirs}, but this node has Python {ours}")
    dirs = _dirs(path)
    if not dirs:
        raise _no_dirs(path)
    return dirs, settings.get("include-system-site-packages", "").lower() == "true"


def _settings(path):
    try:
        with open(os.path.join(path, "pyvenv.cfg"), encoding="utf-8", errors="replace") as lines:
            pairs = [line.partition("=") for line in lines]
    except (OSError, ValueError):
        raise InvalidVenv(path) from None
    return {key.strip().lower(): value.strip() for key, equals, value in pairs if equals}


def _dirs(path):
    """Pure and compiled packages may be in two folders or, as nearly everywhere, in one."""
    found = []
    for kind in ("purelib", "platlib"):
        folder = sysconfig.get_path(kind, "venv", {"base": path, "platbase": path, "installed_base": path})
        if os.path.isdir(folder) and not any(os.path.samefile(folder, other) for other in found):
            found.append(folder)
    return found


def _no_dirs(path):
    lib = os.path.join(path, "lib")
    try:
        others = [name for name in sorted(os.listdir(lib)) if os.path.isdir(os.path.join(lib, name, "site-packages"))]
    except OSError:
        others = []
    if not others:
        return InvalidVenv(path)
    ours = "python%d.%d%s" % (*sys.version_info[:2], "t" if "t" in sys.abiflags else "")
    return IncompatibleVenv(path, f"{path} was made for {others[0]}, but this node has {ours}")


def _executable(path):
    for name in ("python", "python3"):
        program = os.path.join(path, "bin", name)
        if os.access(program, os.X_OK):
            return program
    return None


# sys.path


def _base_dirs():
    """The folders of packages of the Python itself, as if it had been started without any environment."""
    return [d for d in site.getsitepackages([sys.base_prefix, sys.base_exec_prefix]) if os.path.isdir(d)]


def _site_entries():
    """What site has put into sys.path at the start."""
    folders = site.getsitepackages() + _base_dirs()
    return {entry for folder in folders for entry in _entries_of(folder)}


def _entries_of(folder):
    """The folder and what its .pth files name."""
    entries = [folder]
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".pth"))
    except OSError:
        return entries
    for name in names:
        try:
            with open(os.path.join(folder, name), encoding="utf-8", errors="surrogateescape") as lines:
                named = [line.strip() for line in lines if not line.startswith(("#", "import ", "import\t"))]
        except OSError:
            continue
        entries += [entry for entry in (os.path.abspath(os.path.join(folder, text)) for text in named if text)
                    if os.path.exists(entry)]
    return entries


def _is_in(thing, things):
    return any(thing is other for other in things)


def _new(now, before):
    return [thing for thing in now if not _is_in(thing, before)]
