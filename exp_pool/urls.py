"""URLs of servers, in a form that may be shown."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_SECRET = re.compile(r"(?i)(^|&)((?:\w*(?:password|passwd|secret|token|sslkey))=)[^&]*")
_HIDDEN = "***"


def without_password(url: str) -> str:
    """The URL with ``***`` where it holds a password: before the host, or as a parameter."""
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that are none of an IPv6 address
        return url.partition("://")[0] + "://" + _HIDDEN
    place = parts.netloc
    if "@" in place:
        user, _, host = place.rpartition("@")
        name, colon, _ = user.partition(":")
        place = f"{name}{colon}{_HIDDEN if colon else ''}@{host}"
    query = _SECRET.sub(rf"\1\2{_HIDDEN}", parts.query)
    return urlunsplit((parts.scheme, place, parts.path, query, parts.fragment))
