"""Names and ids for other engines: every text as characters that no engine takes for anything else."""

from __future__ import annotations

import hashlib
import re

_PLAIN_ID = re.compile(r"[0-9A-Za-z._-]{1,128}")
_QUOTED = "x:"  # not in a plain id, so no user's id can pass for a quoted one


def digest(*texts: str) -> str:
    """A digest of 32 hexadecimal digits: names of folders and collections must not tell the namespace."""
    joined = "".join(f"{len(text)}:{text}" for text in texts) if len(texts) != 1 else texts[0]
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def scope(function: str | None, version: str | None, reuse_scope: str | None) -> dict[str, str]:
    """The fields that rows are filtered by, as digests; what is None is left out.

    Digests, because engines refuse some texts, and function names are not for them to know.

    Args:
        function: the name of the function.
        version: of the function.
        reuse_scope: the digest of everything in a call but its text.
    """
    given = {"function": function, "version": version, "scope": reuse_scope}
    return {name: digest(text) for name, text in given.items() if text is not None}


def quote(id_: str) -> str:
    """An id as letters, digits and ``.:_-``."""
    return id_ if _PLAIN_ID.fullmatch(id_) else _QUOTED + id_.encode("utf-8", "surrogatepass").hex()


def unquote(text: str) -> str:
    """The id that was quoted."""
    if not text.startswith(_QUOTED):
        return text
    return bytes.fromhex(text[len(_QUOTED) :]).decode("utf-8", "surrogatepass")
