"""What the URL of a pool in Redis says."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from exp_pool.errors import ConfigurationError
from exp_pool.runtime.display import without_password

_OPTIONS = ("prefix", "durable", "tls")
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Location:
    """Where a pool is."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    database: int
    prefix: str
    durable: bool
    tls: bool
    shown: str
    """The URL without the password."""
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    files: dict[str, str] = field(default_factory=dict)


def parse(url: str) -> Location:
    """What a URL says.

    Raises:
        ConfigurationError: it cannot be a pool's; the message names no password.
    """
    parts = urlsplit(url)
    scheme, cluster = parts.scheme, parts.scheme == "redis+cluster"
    credentials, _, addresses = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    shown = without_password(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - {*_OPTIONS, *_TLS_FILES})
    if unknown:
        known = ", ".join((*_OPTIONS, *_TLS_FILES))
        raise ConfigurationError(f"store={shown!r}: unknown option {unknown[0]!r}; known: {known}")
    prefix = options.get("prefix", "exp_pool")
    if not prefix or not all(c.isalnum() or c in "_-.:" for c in prefix):
        raise ConfigurationError(f"store={shown!r}: prefix takes letters, digits and _-.: only")
    database = parts.path.strip("/") or "0"
    if not database.isdigit() or (cluster and database != "0"):
        wanted = "no path: a cluster has one database" if cluster else "a database's number as its path: /0"
        raise ConfigurationError(f"store={shown!r} takes {wanted}")
    hosts = addresses.split(",")
    if len(hosts) > 1 and not cluster:
        raise ConfigurationError(f"store={shown!r} names several hosts; write redis+cluster:// for a cluster")
    return Location(
        scheme,
        tuple(_host(host, shown) for host in hosts),
        int(database),
        prefix,
        durable=_flag(options, "durable", shown),
        tls=scheme == "rediss" or _flag(options, "tls", shown),
        shown=shown,
        secrets={name: unquote(text) for name, text in (("username", user), ("password", password)) if text},
        files={name: options[name] for name in _TLS_FILES if name in options},
    )


def _host(address: str, shown: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        return parts.hostname or "127.0.0.1", parts.port or 6379
    except ValueError as err:
        raise ConfigurationError(f"store={shown!r}: {address!r} is no host:port ({err})") from err


def _flag(options: dict[str, str], name: str, shown: str) -> bool:
    value = options.get(name, "false")
    if (flag := _FLAGS.get(value.lower())) is None:
        raise ConfigurationError(f"store={shown!r}: {name} takes true or false, got {value.lower()!r}")
    return flag
