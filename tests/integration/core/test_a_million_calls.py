"""Guarantee 2 against calls that are built to collide: a million with ``make test-slow``, 50,000 here.

A call is drawn as a *specification*: a tree of (type, payload) from a small alphabet in which separators, type names,
tags, lengths, prefixes and nestings look alike in a naive encoding. Its canonical form is the oracle: calls of
different forms must have different keys; the same form built in another way (order of dicts and sets, positional or by
name, defaults given or left out) must have the same.
"""

import dataclasses
import enum
import hashlib
import os
import random
import sys
from collections import namedtuple
from decimal import Decimal
from pathlib import PurePosixPath

import pytest

CALLS = 1_000_000 if os.environ.get("EXP_POOL_FULL") else 50_000


@dataclasses.dataclass
class Point:
    a: object
    b: object


@dataclasses.dataclass
class Other:
    a: object
    b: object


Pair = namedtuple("Pair", "a b")


class Colour(enum.Enum):
    A = "a"
    ONE = 1


TEXTS = [
    *("as:b", "bs:a", "as:a", "bs:b", "s:a", "a:s", "as:", "b:a", "i:1", "1i:1"),  # for an encoding without lengths
    *(
        "",
        "a",
        "b",
        "ab",
        "a b",
        "1",
        "0",
        "True",
        "None",
        "1.0",
        "nan",
        "n",
        "t",
        "f",
        "s",
        "l",
        "i1:1",
        "s1:a",
        "s0:",
    ),
    *(
        "l0:",
        "l1:s1:a",
        "m0:",
        "u0:",
        "k",
        "o",
        "1:b:2",
        "2:b:3",
        "a,b",
        "a:b",
        "(",
        ")",
        "[]",
        "{}",
        "()",
        "\x00",
        "}",
    ),
    *(
        "\x00a",
        "a\x00",
        "é",
        "e\u0301",
        "\ud800",
        "$exp:tuple",
        "$exp:bytes",
        '{"$exp:tuple":[]}',
        "b'a'",
        "'a'",
        '"a"',
    ),
    *("a=1", "args", "kwargs", "a", "x", "Point(a=1, b=2)", "Colour.A", "[1, 2]", "1,2", "12", "-1", "--1", "x" * 40),
]
NUMBERS = [0, 1, -1, 2, 10, 12, 97, 255, 256, 2**31, 2**63, 2**64, -(2**64)]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.1, 1e16, 1.0000000000000002, float("inf"), float("nan"), 97.0]
LEAVES = [
    *(("str", text) for text in TEXTS),
    *(("bytes", text.encode("utf-8", "surrogatepass")) for text in TEXTS[:30]),
    *(("int", number) for number in NUMBERS),
    *(("float", repr(number)) for number in FLOATS),
    *(("bool", flag) for flag in (True, False)),
    *(("decimal", text) for text in ("1", "1.0", "1E+1", "10", "0", "-0")),
    *(("path", text) for text in ("a", "a/b", "/a", ".", "1")),
    *(("enum", name) for name in ("A", "ONE")),
    ("none", None),
    ("ellipsis", None),
]
# Drawn so often that whole calls of them come again and again, put together in every way.
FEW = [("str", text) for text in ("a", "b", "as:b", "bs:a", "s1:a", "1", "")] + [
    ("int", 1),
    ("bool", True),
    ("none", None),
]
CONTAINERS = ["list", "tuple", "set", "frozenset", "dict", "Point", "Other", "Pair"]
HASHABLE = frozenset({"str", "bytes", "int", "float", "bool", "decimal", "path", "enum", "none", "ellipsis"})
# Values that Python holds equal cannot stand beside each other in a set or as names in a dict.
MERGED = {("int", 0), ("int", 1), ("int", 10), ("int", 97), ("bool", True), ("bool", False), ("enum", "ONE")}
PARAMETERS = ["a", "b", "c"]
DEFAULTS = {"b": ("none", None), "c": ("int", 1)}


JOINERS = [
    "",
    ",",
    ", ",
    ":",
    ";",
    "|",
    "=",
    "&",
    " ",
    "\x00",
    "\n",
    "s:",
    "s1:",
    ",s:",
    ", s:",
    "','",
    "', '",
    '", "',
    "b:",
]


def draw_joined(rng):
    """Three texts in a row, or fewer that look like them once they are joined without saying where each ends."""
    joiner = rng.choice(JOINERS)
    shapes = [("a", "b", "c"), ("a", f"b{joiner}c"), (f"a{joiner}b", "c"), (f"a{joiner}b{joiner}c",)]
    texts = [("str", text) for text in rng.choice(shapes)]
    if rng.random() < 0.5:
        return rng.choice(["list", "tuple", "frozenset"]), tuple(sorted(texts))
    return "dict", tuple((text, ("str", "a")) for text in sorted(texts))


def draw_bracketed(rng):
    """The same three leaves in the same order, in brackets that stand elsewhere."""
    items = [("int", 1), ("str", "a"), ("none", None)]
    for _ in range(rng.randrange(4)):
        start = rng.randrange(len(items) + 1)
        end = rng.randrange(start, len(items) + 1)
        items[start:end] = [(rng.choice(["list", "tuple"]), tuple(items[start:end]))]
    return "list", tuple(items)


def draw(rng, depth=0):
    """A specification: (type, payload); containers hold specifications."""
    if depth >= 3 or rng.random() < 0.6:
        return rng.choice(FEW if rng.random() < 0.4 else LEAVES)
    kind = rng.choice(CONTAINERS)
    if kind in ("Point", "Other", "Pair"):
        return kind, (draw(rng, depth + 1), draw(rng, depth + 1))
    size = rng.choice([0, 0, 1, 1, 2, 2, 3])
    if kind in ("list", "tuple"):
        return kind, tuple(draw(rng, depth + 1) for _ in range(size))
    names = {leaf for leaf in (rng.choice(LEAVES) for _ in range(size)) if leaf[0] not in ("float", "decimal") and leaf not in MERGED}  # fmt: skip
    if kind == "dict":
        return kind, tuple((name, draw(rng, depth + 1)) for name in sorted(names, key=repr))
    return kind, tuple(sorted(names, key=repr))


def build(spec, rng):
    """A value of the specification; dicts and sets in an order drawn anew."""
    kind, payload = spec
    match kind:
        case "str" | "bytes" | "int" | "bool" | "none":
            return payload
        case "float":
            return float(payload)
        case "decimal":
            return Decimal(payload)
        case "path":
            return PurePosixPath(payload)
        case "enum":
            return Colour[payload]
        case "ellipsis":
            return ...
        case "list":
            return [build(item, rng) for item in payload]
        case "tuple":
            return tuple(build(item, rng) for item in payload)
        case "Point" | "Other" | "Pair":
            made = {"Point": Point, "Other": Other, "Pair": Pair}[kind]
            return made(*(build(item, rng) for item in payload))
    shuffled = rng.sample(payload, len(payload))
    if kind == "dict":
        return {build(name, rng): build(item, rng) for name, item in shuffled}
    return (set if kind == "set" else frozenset)(build(item, rng) for item in shuffled)


def draw_call(rng):
    """What a call binds: parameters, further positional ones, further named ones."""
    alike = rng.random()
    if alike < 0.1:  # calls that differ in nothing but where something ends
        found = draw_joined(rng) if alike < 0.06 else draw_bracketed(rng)
        place = rng.choice(["a", "rest", "more"])
        bound = {"a": found if place == "a" else ("none", None), **DEFAULTS}
        rest = found[1] if place == "rest" and found[0] != "dict" else ()
        return bound, rest, (("d", found),) if place == "more" else ()
    bound = {"a": draw(rng)}
    for name in PARAMETERS[1:]:
        bound[name] = draw(rng) if rng.random() < 0.4 else DEFAULTS[name]
    rest = tuple(draw(rng, 1) for _ in range(rng.choice([0, 0, 0, 1, 2])))
    names = rng.sample(["d", "e", "rest", "more", "s1:a"], rng.choice([0, 0, 0, 1, 2]))
    more = tuple(sorted((name, draw(rng, 1)) for name in names))
    return bound, rest, more


def pass_it(call, rng):
    """One of the ways to write the call."""
    bound, rest, more = call
    args, kwargs = [], {}
    positional = len(PARAMETERS) if rest else rng.randrange(len(PARAMETERS) + 1)
    for place, name in enumerate(PARAMETERS):
        if place < positional:
            args.append(build(bound[name], rng))
        elif bound[name] != DEFAULTS.get(name) or rng.random() < 0.5:
            kwargs[name] = build(bound[name], rng)
    args += [build(item, rng) for item in rest]
    kwargs |= {name: build(item, rng) for name, item in more}
    names = rng.sample(sorted(kwargs), len(kwargs))
    in_order = iter([name for name, _ in more])  # among themselves, the order of further named ones counts
    further = {name for name, _ in more}
    return args, {name: kwargs[name] for name in (next(in_order) if name in further else name for name in names)}


@pytest.mark.timeout(1800)
def test_different_calls_never_share_a_key_and_equal_calls_always_do(make_manager):
    @make_manager(index="none://", embedder="none").exp_cache(name="f")
    def f(a, b=None, c=1, *rest, **more): ...

    rng = random.Random(20261121)
    seen, again = {}, 0
    for number in range(CALLS):
        call = draw_call(rng)
        args, kwargs = pass_it(call, rng)
        key = bytes.fromhex(f.key(*args, **kwargs))[:16]
        form = hashlib.blake2b(repr(call).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = seen.setdefault(key, form)
        assert known == form, f"two different calls share a key; the later one: f(*{args!r}, **{kwargs!r})"
        if number % 4 == 0:
            args, kwargs = pass_it(call, rng)
            assert bytes.fromhex(f.key(*args, **kwargs))[:16] == key, f"equal calls differ: f(*{args!r}, **{kwargs!r})"
            again += 1
    # Two equal calls drawn apart must share a key, too: as many forms as keys.
    assert len(set(seen.values())) == len(seen)
    sys.stdout.write(f"{CALLS} calls, {len(seen)} different ones, {again} of them made twice in two ways\n")
    assert again == CALLS // 4
    assert len(seen) > CALLS / 2, "they are different calls, for the most part"
