"""URLs without passwords, for errors, logs and the command line."""

from __future__ import annotations

import re

# To the last @: a password may hold an @ or a slash that nobody escaped, and a host hidden too much does no harm.
_IN_ADDRESS = re.compile(r"(?<=://)([^:@/?#]*):.*@", re.DOTALL)
_IN_QUERY = re.compile(r"([?&][^=&#]*(?:password|passwd|pwd|secret|token|api_?key)[^=&#]*=)[^&#]*", re.IGNORECASE)


def without_password(url: str) -> str:
    """The URL with ``***`` in the place of its password, in the address or among its options."""
    return _IN_QUERY.sub(r"\1***", _IN_ADDRESS.sub(r"\1:***@", url))
