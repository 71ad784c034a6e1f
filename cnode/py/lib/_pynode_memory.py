"""py:memory_stats, py:gc and py:tracemalloc_*, as each interpreter sees them."""
import gc
import os
import sys

import erlang


def stats():
    """Of this interpreter and, in `resident` and `traced`, of the process."""
    own, node = _traced()
    return {
        "gc_stats": gc.get_stats(),
        "gc_count": gc.get_count(),
        "gc_threshold": gc.get_threshold(),
        "allocated_blocks": sys.getallocatedblocks(),
        "modules": len(sys.modules),
        "traced": own,
        "node_traced": node,
        "resident": _resident(),
    }


def _resident():
    with open("/proc/self/statm", "rb") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def collect(generation):
    return gc.collect(generation)


def trace_start(frames):
    """Interpreters with a lock each cannot share tracemalloc (see cnode/py/memtrace.h)."""
    if erlang._memtrace_own():
        erlang._memtrace_start()
    else:
        import tracemalloc

        tracemalloc.start(frames)


def trace_stop():
    if erlang._memtrace_own():
        erlang._memtrace_stop()
    elif "tracemalloc" in sys.modules:
        sys.modules["tracemalloc"].stop()


def _traced():
    """(current, peak) of this interpreter and of the process; None and None while nothing is traced."""
    if erlang._memtrace_own():
        return erlang._memtrace_read() or (None, None)
    tracemalloc = sys.modules.get("tracemalloc")
    if tracemalloc is None or not tracemalloc.is_tracing():
        return None, None
    traced = tracemalloc.get_traced_memory()
    return traced, traced
