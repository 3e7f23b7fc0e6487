"""The calls whose keys `golden_keys.txt` holds: what their expressions may name.

`main` prints the key of each expression that it reads, for another process or Python version.
"""

import array
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import ipaddress
import pathlib
import re
import sys
import types
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple

import numpy as np
from pydantic import BaseModel, PrivateAttr

from exp_pool.calls.call_spec import CallSpec
from exp_pool.calls.request import bind_call


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Level(enum.IntEnum):
    ONE = 1


class Flags(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Point:
    x: int
    y: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: int


class Model(BaseModel):
    x: int
    inner: "Model | None" = None
    _private: int = PrivateAttr(default=7)


class Open(BaseModel, extra="allow"):
    x: int


Pair = namedtuple("Pair", "a b")


class ByHand:
    def __init__(self, x):
        self.x = x

    def __exp_key__(self):
        return ("by hand", self.x)


class Text(str):
    __slots__ = ()


class Keyed:
    """Calling it gives the key of that call."""

    def __init__(self, function, secret=None, **options):
        self.spec, self.secret = CallSpec(function, **options), secret

    def __call__(self, *args, **kwargs):
        return bind_call(self.spec, args, kwargs, "a namespace", self.secret).key


f = Keyed(lambda a, b=None, *args, c=1, **kwargs: None, name="f")
p = Keyed(lambda a, /, b=2, *, c=3: None, name="module.p", version="2")
s = Keyed(lambda a, b=None: None, name="f", secret=b"a secret")
x = Keyed(lambda a, noise=0: None, name="x", exclude=["noise"])
k = Keyed(lambda a, b: None, name="k", key=lambda a, b: {a: b})
old = Keyed(lambda x, y=None: None, name="module.f", version="v1")  # the first twenty that were ever written down

NAMES = {
    **{name: value for name, value in globals().items() if not name.startswith("_")},
    "date": dt.date,
    "datetime": dt.datetime,
    "time": dt.time,
    "timedelta": dt.timedelta,
    "timezone": dt.timezone,
    "UTC": dt.UTC,
    "Zone": zoneinfo.ZoneInfo,
    "Decimal": decimal.Decimal,
    "Fraction": fractions.Fraction,
    "UUID": uuid.UUID,
    "Path": pathlib.PurePosixPath,
    "partial": functools.partial,
    "proxy": types.MappingProxyType,
    "nan": float("nan"),
    "inf": float("inf"),
    "ip": ipaddress.ip_address,
    "net": ipaddress.ip_network,
    "pattern": re.compile,
    "arr": array.array,
    "collections": (Counter, OrderedDict, defaultdict, deque),
    "np": np,
}


def key_of(expression):
    return eval(expression, dict(NAMES))  # noqa: S307  (our own file)


def main():
    for line in sys.stdin:
        sys.stdout.write(key_of(line.rstrip("\n")) + "\n")
