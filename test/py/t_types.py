"""Values for types_SUITE."""
import array
import collections
import ctypes
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import uuid

import erlang

Point = collections.namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1
    GREEN = 2


class Flag(enum.IntFlag):
    A = 1
    B = 2


class Plain(enum.Enum):
    ONE = "one"


class StrSub(str):
    pass


class ListSub(list):
    pass


class DictSub(dict):
    pass


class FloatSub(float):
    pass


class BytesSub(bytes):
    pass


@dataclasses.dataclass
class Data:
    a: int
    b: str


class Unprintable:
    def __str__(self):
        raise RuntimeError("no text today")

    __repr__ = __str__


class Counting:
    """An iterator that is no generator."""

    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return self

    def __next__(self):
        if self.n == 0:
            raise StopIteration
        self.n -= 1
        return self.n


def countdown(n):
    while n:
        yield n
        n -= 1


def endless():
    while True:
        yield b"x" * 1000


def fails_inside():
    yield 1
    raise KeyError("in the generator")


def cycle():
    a = []
    a.append(a)
    return a


def nested(kind, depth):
    value = kind()
    for _ in range(depth - 1):
        value = [value] if kind is list else (value,) if kind is tuple else {"k": value}
    return value


VALUES = {
    "range": lambda: range(3, 9, 2),
    "empty_range": lambda: range(0),
    "frozenset": lambda: frozenset([7]),
    "set": lambda: {1, 2, 3},
    "empty_set": lambda: set(),
    "generator": lambda: countdown(3),
    "empty_generator": lambda: countdown(0),
    "iterator": lambda: Counting(3),
    "map_object": lambda: map(str, [1, 2]),
    "zip": lambda: zip([1, 2], "ab"),
    "dict_keys": lambda: {"a": 1}.keys(),
    "list_iterator": lambda: iter([1, [2]]),
    "nested_generators": lambda: (countdown(n) for n in (1, 2)),
    "namedtuple": lambda: Point(1, "two"),
    "int_enum": lambda: Colour.GREEN,
    "int_flag": lambda: Flag.A | Flag.B,
    "enum": lambda: Plain.ONE,
    "str_subclass": lambda: StrSub("text"),
    "list_subclass": lambda: ListSub([1, 2]),
    "dict_subclass": lambda: DictSub(a=1),
    "ordered_dict": lambda: collections.OrderedDict(a=1),
    "defaultdict": lambda: collections.defaultdict(int, a=1),
    "float_subclass": lambda: FloatSub(1.5),
    "bytes_subclass": lambda: BytesSub(b"abc"),
    "dataclass": lambda: Data(1, "x"),
    "date": lambda: datetime.date(2024, 2, 29),
    "datetime": lambda: datetime.datetime(2024, 2, 29, 1, 2, 3),
    "decimal": lambda: decimal.Decimal("1.10"),
    "fraction": lambda: fractions.Fraction(1, 3),
    "complex": lambda: 1 + 2j,
    "path": lambda: pathlib.PurePosixPath("/a/b"),
    "uuid": lambda: uuid.UUID(int=1),
    "function": lambda: len,
    "ellipsis": lambda: ...,
    "array_int": lambda: array.array("i", [1, -2, 3]),
    "array_double": lambda: array.array("d", [1.5, 2.5]),
    "array_bytes": lambda: array.array("B", [1, 2, 3]),
    "ctypes_array": lambda: (ctypes.c_int * 3)(4, 5, 6),
    "memoryview": lambda: memoryview(b"abcdef")[1:4],
    "memoryview_strided": lambda: memoryview(b"abcdef")[::2],
    "memoryview_of_ints": lambda: memoryview(array.array("i", [1, 2])),
    "memoryview_2d": lambda: memoryview(bytes(range(6))).cast("B", (2, 3)),
    "bytearray": lambda: bytearray(b"\x00\xff"),
    "bytes": lambda: b"\x00\xff",
    "empty_bytes": lambda: b"",
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "neg_inf": lambda: float("-inf"),
    "neg_zero": lambda: -0.0,
    "nan_in_list": lambda: [float("nan"), 1.0],
    "atom": lambda: erlang.Atom("hello"),
    "atom_255": lambda: erlang.Atom("\U0001f600" * 255),
    "atom_key": lambda: {erlang.Atom("k"): erlang.Atom("v")},
    "atom_empty": lambda: erlang.Atom(""),
    "atom_too_long": lambda: erlang.Atom("a" * 256),
    "surrogate": lambda: "lone \ud800",
    "surrogate_deep": lambda: [1, {"k": ("x", "\udfff")}],
    "surrogate_key": lambda: {"\ud800": 1},
    "unprintable": lambda: Unprintable(),
    "unprintable_deep": lambda: {"a": [Unprintable()]},
    "cycle": cycle,
    "endless": endless,
    "fails_inside": fails_inside,
    "int_bool_keys": lambda: {1: "int", "1": "str"},
    "str_bytes_keys": lambda: {"a": 1, b"a": 2},
    "none_and_str_none": lambda: {None: 1, "none": 2},
    "atom_and_none": lambda: {None: 1, erlang.Atom("none"): 2},
    "true_and_atom": lambda: {True: 1, erlang.Atom("true"): 2},
    "float_and_str": lambda: {1.5: 1, "1.5": 2},
    "tuple_keys": lambda: {(1, "a"): 1, (1, b"a"): 2},
    "nan_keys": lambda: {float("nan"): 1, float("nan"): 2},
    "frozenset_keys": lambda: {frozenset([1]): 1, (1,): 2},
    "many_digits": lambda: 7 ** 5000,
    "none": lambda: None,
    "bools": lambda: [True, False],
    "empties": lambda: [[], (), {}, "", b""],
    "wide_text": lambda: "aß€\U0001f600",
    "class": lambda: Point,
}


def value(name):
    return VALUES[name]()


def identity(x):
    return x


def roundtrip_key(k):
    """As a key of a dict and a member of a set: hashed and compared."""
    d = {k: "found"}
    assert k in {k}
    return (d[k], list(d)[0])


def kind(x):
    return type(x).__name__


def kinds(*args):
    return [type(x).__name__ for x in args]


def text(x):
    return str(x)


def representation(x):
    return repr(x)


def length(x):
    return len(x)


def same(a, b):
    return (a == b, hash(a) == hash(b), a != b)


def chars(s):
    return [ord(c) for c in s]


def is_none(x):
    return x is None


def node_of(x):
    return x.node


def pickled(x):
    import pickle

    return pickle.dumps(x)


def copied(x):
    import copy

    return [copy.copy(x), copy.deepcopy([x])]


def nested_list(depth):
    return nested(list, depth)


def nested_tuple(depth):
    return nested(tuple, depth)


def nested_dict(depth):
    return nested(dict, depth)


def keys_of(d):
    return [[type(k).__name__, k] for k in d]


def power(base, exponent, plus):
    return base**exponent + plus


def is_power(x, base, exponent, plus):
    return x == base**exponent + plus


def is_nan(x):
    return x != x


def checksum(b):
    import zlib

    return (len(b), zlib.crc32(b))


def numpy_values():
    import numpy as np

    return {
        "int8": np.int8(-5),
        "uint64": np.uint64(2**64 - 1),
        "float32": np.float32(0.5),
        "float64": np.float64(1.25),
        "bool": np.bool_(True),
        "nan": np.float64("nan"),
        "inf": np.float32("inf"),
        "longdouble": np.longdouble(2.5),
        "array": np.array([1, 2, 3]),
        "matrix": np.arange(6, dtype=np.int16).reshape(2, 3),
        "floats": np.array([0.5, float("nan")]),
        "bools": np.array([True, False]),
        "transposed": np.arange(6).reshape(2, 3).T,
        "zero_d": np.array(7),
        "empty": np.array([]),
        "uint8": np.array([1, 2, 3], dtype=np.uint8),
        "strings": np.array(["a", "b"]),
        "str": np.str_("text"),
        "complex": np.complex128(1 + 2j),
    }
