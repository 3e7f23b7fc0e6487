"""Text of answers, and versions of settings."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from exp_pool.errors import NotScorableError
from exp_pool.protocols import MISSING, ScoreContext


def text_of(value: Any) -> str:
    """A text as it is; anything else as JSON, keys in order."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def answer_of(context: ScoreContext) -> Any:
    """The value that answers calls, typed where this process knows the function.

    Raises:
        NotScorableError: the experience has no answer.
    """
    value = context.experience.value if context.value is MISSING else context.value
    if value is MISSING:
        raise NotScorableError("the experience has no answer to score")
    return value


def version_of(settings: Any) -> str:
    """A version that changes when any of these settings does, and is the same in every process."""
    text = json.dumps(settings, ensure_ascii=False, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
