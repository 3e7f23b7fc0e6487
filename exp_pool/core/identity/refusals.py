"""What is said of a call that cannot be told from others: what is there, by name, and the way out that fits."""

from __future__ import annotations

from typing import Any

from exp_pool.core.identity.classes import attributes_of
from exp_pool.core.identity.keys import make_key
from exp_pool.errors import UnkeyableError

_MOST = 8  # attributes that are written out


def nobody_said_which_attributes(receiver: Any, parameter: str) -> UnkeyableError:
    """It has state, and no option says what of it matters."""
    names = tuple(attributes_of(receiver))
    written = repr(names[:_MOST]) if len(names) <= _MOST else f"{repr(names[:_MOST])[:-1]}, ...)"
    return UnkeyableError(
        f"its {type(receiver).__qualname__} has attributes, and it is not known which of them matter. Name those that "
        f"do with self_key= (all of them: self_key={written}), say that none do with self_key=(), or define "
        "__exp_key__()",
        parameter,
    )


def receiver_refused(err: UnkeyableError, identity: Any, parameter: str) -> UnkeyableError:
    """What was taken of it has no stable identity."""
    reason = str(err).partition(": ")[2] or str(err)
    for name, value in identity.items() if type(identity) is dict else ():
        try:
            make_key("", "", {name: value})
        except UnkeyableError as of_attribute:
            reason = str(of_attribute).partition(": ")[2]
            return UnkeyableError(
                f"attribute {name!r} of {parameter}: {reason}. Leave it out of self_key=, name what it is made of "
                "instead, or give its class __exp_key__()",
                parameter,
            )
    return UnkeyableError(
        f"argument {parameter!r}: {reason}. Name the attributes that matter with self_key=, or let its __exp_key__() "
        "give something that has one",
        parameter,
    )


def key_refused(err: UnkeyableError) -> UnkeyableError:
    """What ``key=`` gave has no stable identity, or it gave nothing."""
    if not str(err).startswith("argument "):
        return err
    return UnkeyableError(f"what key= gave: {str(err).partition(': ')[2]}. Let it give plain values", "key")
