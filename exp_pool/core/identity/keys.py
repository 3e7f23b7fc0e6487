"""Keys of calls and reuse scopes: digests of the canonical encoding; and the errors where there is no key.

Keys are stored: a change of what is digested, or how, means a new ``_KEY_FORMAT``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from exp_pool.core.identity.canonical import counted, encode, framed, text
from exp_pool.core.values.attributes import attributes_of
from exp_pool.errors import UnkeyableError

_KEY_FORMAT = b"exp_pool/key/1"
_SCOPE_FORMAT = b"exp_pool/scope/1"
_MOST = 8  # attributes that are written out


def make_key(function: str, version: str, arguments: Mapping[str, Any], secret: bytes | None = None) -> str:
    """The key of a call: 64 hexadecimal digits of SHA-256, or of HMAC-SHA-256 where a secret is configured.

    Args:
        function: its stored name.
        version: the decorator's ``version=``.
        arguments: by name, with what stands beside them (`arguments.BESIDE`).
        secret: of the configuration's `key_secret`.

    Raises:
        UnkeyableError: an argument has no stable identity; ``path`` names it.
    """
    return _digest(_message(_KEY_FORMAT, function, version, arguments), secret)


def make_scope(function: str, version: str, arguments: Mapping[str, Any], secret: bytes | None = None) -> str:
    """The reuse scope: a digest of everything in the call but the request text.

    Args:
        function: its stored name.
        version: the decorator's ``version=``.
        arguments: by name, without the request text.
        secret: of the configuration's `key_secret`.
    """
    return _digest(_message(_SCOPE_FORMAT, function, version, arguments), secret)


def _digest(message: bytes, secret: bytes | None) -> str:
    if secret is None:
        return hashlib.sha256(message).hexdigest()
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


def _message(purpose: bytes, function: str, version: str, arguments: Mapping[str, Any]) -> bytes:
    encoded = []
    for name, value in arguments.items():
        try:
            encoded.append(text(name) + encode(value))
        except UnkeyableError as err:
            raise UnkeyableError(f"argument {name!r}: {err}", path=name) from err
        except Exception as err:  # of __exp_key__, a property, a field never set, a dict that changed meanwhile
            raise UnkeyableError(f"argument {name!r}: looking at it raised {err!r}", path=name) from err
    encoded.sort()
    return b"".join((framed(b"k", purpose), text(function), text(version), counted(b"m", encoded)))


# ── Why there is no key, and the way out that fits ────────────────────────────────────────────────────────────────────


def nobody_said_which_attributes(receiver: Any, parameter: str) -> UnkeyableError:
    """`self` has state, and no option says what of it matters."""
    names = tuple(attributes_of(receiver))
    written = repr(names[:_MOST]) if len(names) <= _MOST else f"{repr(names[:_MOST])[:-1]}, ...)"
    return UnkeyableError(
        f"its {type(receiver).__qualname__} has attributes, and it is not known which of them matter. Name those that "
        f"do with self_key= (all of them: self_key={written}), say that none do with self_key=(), or define "
        "__exp_key__()",
        parameter,
    )


def receiver_refused(err: UnkeyableError, identity: Any, parameter: str) -> UnkeyableError:
    """What was taken of `self` has no stable identity.

    Args:
        err: why not.
        identity: what was taken: its attributes by name, or what ``__exp_key__`` gave.
        parameter: the name of `self`.
    """
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
    """What ``key=`` gave has no stable identity, or ``key=`` gave nothing."""
    if not str(err).startswith("argument "):
        return err
    return UnkeyableError(f"what key= gave: {str(err).partition(': ')[2]}. Let it give plain values", "key")
