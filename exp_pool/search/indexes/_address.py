"""Addresses of servers: ``scheme://user:password@host:port/path?option=value``, read and shown without the password."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from exp_pool.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address. `shown` is the URL for people: without the password."""

    host: str
    port: int
    path: tuple[str, ...]
    user: str
    password: str
    options: dict[str, str]
    shown: str

    def flag(self, name: str) -> bool:
        """Whether an option is on."""
        return self.options.get(name, "false").lower() in {"true", "1", "yes"}


def parse(url: str, *, port: int, paths: int, options: frozenset[str] = frozenset({"ssl"})) -> Address:
    """The address of a URL.

    Args:
        url: the whole URL.
        port: where it names none.
        paths: how many names may follow the host at most.
        options: the known ones.

    Raises:
        ConfigurationError: it names no host, or what is not known.
    """
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    try:
        named = parts.port
    except ValueError as err:
        raise ConfigurationError(f"index={shown!r}: the port must be a number up to 65535") from err
    path = tuple(unquote(name) for name in parts.path.split("/") if name)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not parts.hostname:
        raise ConfigurationError(f"index={shown!r} names no host; write {parts.scheme}://host:{port}")
    if len(path) > paths:
        raise ConfigurationError(f"index={shown!r}: at most {paths} names may follow the host")
    unknown = sorted(set(given) - options)
    if unknown:
        raise ConfigurationError(f"index={shown!r}: unknown option {unknown[0]!r}; known: {', '.join(sorted(options))}")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Address(parts.hostname, named or port, path, user, password, given, shown)
