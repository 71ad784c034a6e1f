"""Runs once in every interpreter, before the preload code and before any call.

`erlang` is the built-in module; `_boot` is what the C side hands over: {"main": bool, "interp": int, "paths": [...],
"executable": str | None}.
"""
import atexit
import sys
from _frozen_importlib import ModuleSpec

import erlang


class _Library:
    """Finds and loads the modules that are part of this program."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if path is not None or erlang._library(name) is None:
            return None
        return ModuleSpec(name, _Library, origin="pynode")

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        name = module.__name__
        exec(compile(erlang._library(name), f"<{name}>", "exec"), module.__dict__)

    @staticmethod
    def get_source(name):
        """For tracebacks."""
        return erlang._library(name)


class _ThreadsImport:
    """Adds to the modules of threads what _pynode_threads says, when they are imported: they are large, and most code
    does without them."""

    modules = ("threading", "concurrent.futures.thread")

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in _ThreadsImport.modules:
            return None
        for finder in sys.meta_path:
            spec = None if finder is _ThreadsImport else finder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = _ThreadsImport(spec.loader)
                return spec
        return None

    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _ThreadsImport.adopt(module)

    @staticmethod
    def adopt(module):
        from _pynode_threads import adopt

        adopt(module)

    @staticmethod
    def start():
        sys.meta_path.insert(0, _ThreadsImport)
        for name in _ThreadsImport.modules:  # a .pth file or sitecustomize may have imported them
            if name in sys.modules:
                _ThreadsImport.adopt(sys.modules[name])


def _guard_extensions():
    """Makes single-phase extension modules fail cleanly in a sub-interpreter.

    Some abort the process when a sub-interpreter loads them before the main interpreter has, so the main one loads
    them first; the sub-interpreter's own attempt then ends in an ImportError, which says what to do instead.
    """
    from _frozen_importlib_external import ExtensionFileLoader

    load = ExtensionFileLoader.create_module

    def create_module(self, spec):
        if "lib-dynload" not in (spec.origin or ""):
            erlang._load_in_main(spec.name)
        try:
            return load(self, spec)
        except ImportError as error:
            if "subinterpreters" not in str(error):
                raise
            raise ImportError(
                f"module {spec.name} does not support loading in subinterpreters. Put the code that needs it into a "
                "module that imports it at its top, and call that by name, py:call(Module, Function, Args): such modules "
                "run in the main interpreter. Or start the node in the mode multi_executor",
                name=spec.name,
                path=spec.origin,
            ) from None

    ExtensionFileLoader.create_module = create_module


def _guard_tracemalloc():
    """Refuses to start what would corrupt the heap.

    tracemalloc is one per process, and with a lock per interpreter it mixes up their objects; pynode counts by itself
    in that mode (cnode/py/memtrace.h).
    """
    import _tracemalloc

    def start(nframe=1):
        raise RuntimeError(
            "tracemalloc cannot run beside sub-interpreters that have a lock each. py:tracemalloc_start() counts what is "
            "allocated; for the places in the code, start the node in the mode multi_executor"
        )

    _tracemalloc.start = start


def _forget_thread():
    """At the end of a sub-interpreter, on the thread that ends it.

    What threading keeps of a thread that it has not started would go after threading's own variables, and complain.
    """
    threading = sys.modules.get("threading")
    try:
        del threading._thread_local_info._track_dummy_thread_ref
    except AttributeError:
        pass  # nobody has asked for the current thread, or this Python has no such thing


def _setup():
    sys.meta_path.insert(0, _Library)
    from _pynode_output import LogStream

    sys.stdout = sys.__stdout__ = LogStream("stdout", 1)
    sys.stderr = sys.__stderr__ = LogStream("stderr", 2)
    sys.path[:0] = _boot["paths"]
    if _boot["executable"]:
        sys.executable = _boot["executable"]
    if _boot["main"] and erlang._memtrace_own():
        _guard_tracemalloc()
    if not _boot["main"]:
        _guard_extensions()
        atexit.register(_forget_thread)
    _ThreadsImport.start()


_setup()
