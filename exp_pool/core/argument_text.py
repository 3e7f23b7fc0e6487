"""Display form of a call's arguments, as it is stored for people: what JSON cannot hold is only named.

Keys are never made from it.
"""

from __future__ import annotations

from typing import Any

from exp_pool.core.experience import json_form
from exp_pool.core.identity.argument_source import Known
from exp_pool.core.identity.names import qualified_name
from exp_pool.core.values.encoding import to_plain
from exp_pool.errors import EncodingError


def storable(value: Any) -> Any:
    """An argument for people to read; keys are never made from it, so what JSON cannot hold is only named."""
    try:
        return to_plain(json_form(value))
    except (EncodingError, ValueError):
        return f"<{qualified_name(value if isinstance(value, type) else type(value))}>"


def named_where_needed(value: Any) -> Any:
    """What stands beside the arguments, of self or from the closure; only named where JSON cannot hold it."""
    if type(value) in (dict, Known):
        return {name: named_where_needed(item) for name, item in value.items()}
    try:
        to_plain(json_form(value))
    except (EncodingError, ValueError):
        return storable(value)
    return value
