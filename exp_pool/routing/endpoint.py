"""A model endpoint: address, wire format, key, limits and prices of one model."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from urllib.parse import parse_qsl, urlsplit

from exp_pool.core.values.redaction import is_secret_name, redacted_text
from exp_pool.errors import ConfigurationError
from exp_pool.routing.adapters import adapter_for
from exp_pool.routing.adapters.contract import Adapter
from exp_pool.runtime.display import without_password

_FROM_ENVIRONMENT = "env:"


@dataclass(frozen=True, slots=True, repr=False)
class ModelEndpoint:
    """One model at one address.

    Args:
        name: by which answers, errors and `preferred_model` know it.
        url: the full address to which requests are posted.
        max_concurrent: requests that it is asked at once; others wait for their turn.
        priority: the lowest is asked first by the strategy ``"priority"``.
        model: what the server calls it, by default `name`.
        api_key: the key, or ``"env:NAME"``: the environment variable that holds it. Without one, the provider's own
            hosts get the key of OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY or GOOGLE_API_KEY; other hosts never.
        timeout: seconds for one try; of a stream, the seconds that its reader waits for the server in all.
        provider: the wire format: ``"auto"`` (by the URL's path), a name of `routing.adapters.ADAPTERS`, or an
            `Adapter` of your own.
        connect_timeout: seconds until it is connected.
        first_token_timeout: seconds until a stream says something, by default `timeout`.
        requests_per_minute: at most so many begin in any 60 seconds; None: no limit.
        tokens_per_minute: likewise, tokens read and written. A request is reckoned before it is sent (a token for every
            three bytes, and `max_tokens`), and put right by what the answer says.
        weight: its share for the strategy ``"weighted"``.
        price_in: of a million tokens that it reads, in US dollars: for the strategy ``"cost"``, where an endpoint
            without a price is last, and for what an experience records.
        price_out: of a million tokens that it writes.
        retries: how often what failed in passing (429, 5xx, no connection) is tried again here.
        breaker_after: so many failures in a row open its circuit: it is left alone for `breaker_pause` seconds, then
            one request tries it, and if that fails the pause is twice as long (at most a minute).
        breaker_pause: see there.
        headers: that every request carries besides.
        health_url: an address that answers a GET, with these headers, by a status of 2xx while the endpoint is well.
            Where it does not, no request is sent there until it does.

    Raises:
        ConfigurationError: a value that cannot work; no value of a key is in the message.
    """

    name: str
    url: str
    max_concurrent: int = 5
    priority: int = 0
    model: str | None = None
    api_key: str | None = None
    timeout: float = 30.0
    provider: str | Adapter = "auto"
    _: KW_ONLY
    connect_timeout: float = 5.0
    first_token_timeout: float | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    weight: float = 1.0
    price_in: float | None = None
    price_out: float | None = None
    retries: int = 2
    breaker_after: int = 5
    breaker_pause: float = 1.0
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    health_url: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigurationError(f"ModelEndpoint(name={self.name!r}) needs a name")
        for name in ("url", "health_url"):
            url = getattr(self, name)
            if not isinstance(url, str) and (name == "url" or url is not None):
                raise ConfigurationError(f"endpoint {self.name!r}: {name} must be a text, not {type(url).__name__}")
        for name, url in (("url", self.url), ("health_url", self.health_url)):
            if url is not None and not _names_a_host(url):
                wanted = "must begin with http:// or https:// and name a host"
                raise ConfigurationError(f"endpoint {self.name!r}: {name}={_shown(url)!r} {wanted}")
        held = [
            name for name, _ in parse_qsl(urlsplit(self.url).query) if name.lower() == "key" or is_secret_name(name)
        ]
        if held:
            raise ConfigurationError(
                f"endpoint {self.name!r}: url has {held[0]!r} in its query, where logs show it; "
                "give the key as api_key="
            )
        for name in ("max_concurrent", "requests_per_minute", "tokens_per_minute", "breaker_after"):
            self._check(name, least=1, whole=True)
        self._check("retries", least=0, whole=True)
        for name in ("price_in", "price_out"):
            self._check(name, least=0)
        for name in ("timeout", "connect_timeout", "first_token_timeout", "weight", "breaker_pause"):
            self._check(name, least=0, above=True)
        if isinstance(self.priority, bool) or not isinstance(self.priority, int):
            raise ConfigurationError(f"endpoint {self.name!r}: priority={self.priority!r} must be a whole number")
        try:
            adapter_for(self.provider, self.url)
            self.key()
        except ConfigurationError as err:
            raise ConfigurationError(f"endpoint {self.name!r}: {err}") from None

    def _check(self, name: str, *, least: float, whole: bool = False, above: bool = False) -> None:
        value = getattr(self, name)
        if value is None and name in _OPTIONAL:
            return
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not fits or value < least or (above and value == least):
            kind = "a whole number" if whole else "a number"
            bound = f"above {least:g}" if above else f"of at least {least:g}"
            raise ConfigurationError(f"endpoint {self.name!r}: {name}={value!r} must be {kind} {bound}")

    @property
    def adapter(self) -> Adapter:
        """The wire format."""
        return adapter_for(self.provider, self.url)

    @property
    def shown_url(self) -> str:
        """The URL without what may be secret in it."""
        return _shown(self.url)

    def key(self) -> str | None:
        """The key as it is now; the environment may change.

        Raises:
            ConfigurationError: the variable is not set, or the key cannot stand in a header.
        """
        if self.api_key is None:
            adapter = self.adapter
            parts = urlsplit(self.url)
            known = parts.scheme == "https" and parts.hostname in adapter.hosts
            key = next(filter(None, map(os.environ.get, adapter.keys)), None) if known else None
        elif not isinstance(self.api_key, str):
            raise ConfigurationError(f"api_key must be a text, not {type(self.api_key).__name__}")
        elif self.api_key.startswith(_FROM_ENVIRONMENT):
            variable = self.api_key.removeprefix(_FROM_ENVIRONMENT)
            key = os.environ.get(variable)
            if not key:
                raise ConfigurationError(f"api_key='env:{variable}': this environment variable is not set")
        else:
            key = self.api_key
        key = key.strip() if key else None
        if key and not (key.isascii() and key.isprintable()):
            raise ConfigurationError("the API key has characters that cannot stand in an HTTP header")
        return key

    def without_key(self, text: str) -> str:
        """What a server said, or what went wrong, without the key, nor anything in the shape of one."""
        with suppress(ConfigurationError):
            if key := self.key():
                text = text.replace(key, "***")
        return redacted_text(text)

    def __repr__(self) -> str:
        """Without the key, the headers, and the query of the URL."""
        return f"ModelEndpoint(name={self.name!r}, url={self.shown_url!r}, provider={self.adapter.name!r})"


def _names_a_host(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _shown(url: str) -> str:
    return without_password(url).partition("?")[0].partition("#")[0]


_OPTIONAL = {"first_token_timeout", "requests_per_minute", "tokens_per_minute", "price_in", "price_out"}
