"""Digest of the source of the functions, classes and objects that a call passes: its key has names and contents only.

A schema with another field, an edited formatter, a settings object whose method says something else now: the key is the
same, the answer would not be. So the digest of a row's source names them, too, behind that of the function.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

from exp_pool.core.identity.closure_objects import of_a_library, source_of
from exp_pool.core.identity.keys import qualified_name
from exp_pool.core.identity.source import digest_of_class

AND_ARGUMENTS = "+"  # between the digest of the function and that of what its arguments do
_DATA = frozenset({str, int, float, bool, type(None), bytes, complex})  # has no methods of the project's
_MOST = 10_000  # objects of one call that are looked at: longer lists are data
_digests: WeakKeyDictionary[type, str] = WeakKeyDictionary()


def with_arguments(source: str, values: Iterable[Any]) -> str:
    """The digest of a function's source, with that of the project's functions and classes among these arguments."""
    found: dict[str, None] = {}
    waiting = [value for value in values if type(value) not in _DATA]
    looked_at = 0
    while waiting and looked_at < _MOST:
        value = waiting.pop()
        looked_at += 1
        cls = type(value)
        if cls is dict:
            waiting += [item for item in value.values() if type(item) not in _DATA]
        elif cls in (list, tuple, set, frozenset):
            waiting += [item for item in value if type(item) not in _DATA]
        elif cls is functools.partial:
            waiting += [value.func, value.args, value.keywords]
        elif cls is types.MethodType:
            waiting += [value.__func__, value.__self__]
        elif cls is types.FunctionType:
            if digest := source_of(value):
                found[f"{qualified_name(value)} {digest}"] = None
        elif digest := _of_class(value if issubclass(cls, type) else cls):
            found[digest] = None
    if not found:
        return source
    told = "\n".join(sorted(found))
    return f"{source}{AND_ARGUMENTS}{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def _of_class(cls: type) -> str:
    """A class, and the bases that it has in the project, as their statements tell them; "" of a library's."""
    if cls not in _digests:
        ours = [base for base in cls.__mro__ if not of_a_library(base)]
        told = [f"{qualified_name(base)} {digest}" for base in ours if (digest := digest_of_class(base))]
        _digests[cls] = "\n".join(told)
    return _digests[cls]
