"""Redaction of secrets: values under names of secrets, and text in the shape of well-known tokens. Pure.

It is applied to arguments, request texts, metadata, recorded steps and failures, never to a response, which has to
come back as it was. Keys are made before it, so redacted calls are still told apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"

_NAME = re.compile(
    r"(.*[_-])?(api[_-]?key|access[_-]?key|private[_-]?key|secret([_-]?key)?|password|passwd|passphrase|authorization"
    r"|credentials?)|((.*[_-])?(access|auth|bearer|refresh|api|id|session|hf|github|csrf)[_-]?)?token|(set-)?cookie",
    re.IGNORECASE,
)
# Shapes that their issuers document, long enough that prose does not have them. Each stands behind a literal that is
# looked for first: one pattern of all of them took 175 us for a text of 1,000 letters, this takes 2.
_TOKENS = [
    (marker, re.compile(pattern))
    for marker, pattern in (
        ("sk-", r"\bsk-(?:[A-Za-z0-9]+-)*[A-Za-z0-9_]{20,}"),  # OpenAI, Anthropic and those who imitate them
        ("gh", r"\bgh[pousr]_[A-Za-z0-9]{36,}"),
        ("github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{50,}"),
        ("AKIA", r"\bAKIA[A-Z0-9]{16}\b"),  # AWS
        ("ASIA", r"\bASIA[A-Z0-9]{16}\b"),
        ("AIza", r"\bAIza[A-Za-z0-9_-]{35}"),  # Google
        ("xox", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),  # Slack
        ("hf_", r"\bhf_[A-Za-z0-9]{30,}"),
        ("glpat-", r"\bglpat-[A-Za-z0-9_-]{20,}"),
        ("k_live_", r"\b[rs]k_live_[A-Za-z0-9]{16,}"),  # Stripe
        ("k_test_", r"\b[rs]k_test_[A-Za-z0-9]{16,}"),
        ("npm_", r"\bnpm_[A-Za-z0-9]{36}"),
        ("pypi-", r"\bpypi-[A-Za-z0-9_-]{50,}"),
        ("eyJ", r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),  # a JSON web token
        ("earer ", r"(?<=[Bb]earer )[A-Za-z0-9._~+/-]{20,}=*"),
        (" PRIVATE KEY-", r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"),
    )
]
_MAX_DEPTH = 200


def is_secret_name(name: Any) -> bool:
    """Whether a parameter, an attribute or a key of a dict is named like a secret."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def redacted_text(text: str) -> str:
    """The text without anything that has the shape of a well-known token."""
    for marker, pattern in _TOKENS:
        if marker in text:
            text = pattern.sub(REDACTED, text)
    return text


def redacted(value: Any, depth: int = 0) -> Any:
    """The value without secrets, in dicts, lists and tuples at any depth; itself where there was none."""
    kind = type(value)
    if kind is str:
        return redacted_text(value)
    if depth > _MAX_DEPTH:
        return value
    if isinstance(value, Mapping):
        without = {
            name: REDACTED if is_secret_name(name) else redacted(item, depth + 1) for name, item in value.items()
        }
        changed = any(without[name] is not item for name, item in value.items())
        return without if changed else value
    if kind is list or kind is tuple:
        parts = [redacted(item, depth + 1) for item in value]
        changed = any(part is not item for part, item in zip(parts, value, strict=True))
        return kind(parts) if changed else value
    return value
