"""Wire formats: one file each, and one entry in `ADAPTERS`."""

from __future__ import annotations

from urllib.parse import urlsplit

from exp_pool.errors import ConfigurationError
from exp_pool.routing.adapters import anthropic, gemini, openai_chat, openai_responses
from exp_pool.routing.adapters.contract import Adapter

ADAPTERS: dict[str, Adapter] = {
    "openai": openai_chat.ADAPTER,
    "openai-responses": openai_responses.ADAPTER,
    "anthropic": anthropic.ADAPTER,
    "gemini": gemini.ADAPTER,
}


def adapter_for(provider: str | Adapter, url: str) -> Adapter:
    """The wire format of that name; ``"auto"``: the one that the URL's path shows.

    Raises:
        ConfigurationError: there is none of that name, or the URL does not show it.
    """
    if isinstance(provider, Adapter):
        return provider
    if provider == "auto":
        path = urlsplit(url).path.rstrip("/")
        for adapter in ADAPTERS.values():
            if path.endswith(adapter.endings):
                return adapter
        endings = ", ".join(ending for adapter in ADAPTERS.values() for ending in adapter.endings)
        raise ConfigurationError(
            f"the path {path!r} does not show the wire format; give the full URL (it ends in one of {endings}), "
            f"or provider= one of {', '.join(ADAPTERS)}"
        )
    if not isinstance(provider, str) or provider not in ADAPTERS:
        raise ConfigurationError(f"provider={provider!r} is unknown; one of auto, {', '.join(ADAPTERS)}, or an Adapter")
    return ADAPTERS[provider]
