"""A module of a user who uses numpy, and says so at its top."""
import numpy as np

import erlang

CALLS = []

VALUES = {
    "sum": lambda: np.arange(5).sum(),
    "mean": lambda: np.array([1.0, 2.0]).mean(),
    "float32": lambda: np.float32(0.5),
    "uint64": lambda: np.uint64(2**64 - 1),
    "bool": lambda: np.bool_(True),
    "nan": lambda: np.float64("nan"),
    "matrix": lambda: np.arange(6).reshape(2, 3),
    "transposed": lambda: np.arange(6).reshape(2, 3).T,
    "reversed": lambda: np.arange(10)[::-3],
    "big_endian": lambda: np.array([1, -2], dtype=">i4"),
    "half": lambda: np.array([1.5, np.inf], dtype="f2"),
    "bools": lambda: np.array([True, False]),
    "zero_d": lambda: np.array(7),
    "empty": lambda: np.zeros((2, 0)),
    "dates": lambda: np.array(["2026-01-02", "NaT"], dtype="M8[D]"),
    "nanoseconds": lambda: np.array(["2026-01-02"], dtype="M8[ns]"),
    "durations": lambda: np.array([5], dtype="m8[s]"),
    "structures": lambda: np.array([(1, 2.5, b"x")], dtype=[("a", "i4"), ("b", "f8"), ("c", "S3")]),
    "objects": lambda: np.array([1, None, "x", [2]], dtype=object),
    "strings": lambda: np.array(["a", "bc"]),
    "masked": lambda: np.ma.array([1, 2], mask=[0, 1]),
    "complex": lambda: np.array([1 + 2j]),
    "view": lambda: memoryview(np.arange(3)),
    "bytes_of_view": lambda: memoryview(np.arange(3, dtype="<u2")).cast("B"),
    "tobytes": lambda: np.arange(3, dtype="u1").tobytes(),
    "in_a_dict": lambda: {"a": np.arange(2), np.int64(1): (np.float64(2),)},
    "huge": lambda: np.broadcast_to(np.int8(1), (10**12,)),
    "huge_objects": lambda: np.broadcast_to(np.array("x", dtype=object), (10**12,)),
}


def value(name):
    return VALUES[name]()


def kind(a):
    return type(np.asarray(a)).__name__ + " " + str(np.asarray(a).dtype)


def count():
    CALLS.append(1)
    return len(CALLS)


def doubled(data):
    return (np.frombuffer(data, dtype="<f8") * 2).tobytes()


def ask_erlang(name, values):
    return np.array(erlang.call(name, np.array(values) * 2)) + 1


def sort_many(n):
    return float(np.sort(np.random.default_rng(1).random(n))[0]) >= 0
