"""OpenAI client with a cache in front: ``client = cached(OpenAI())``, and everything else stays as it was.

::

    client = cached(AsyncOpenAI(), ttl="1d", prices={"gpt-4o-mini": (0.15, 0.60)})
    answer = await client.chat.completions.create(model="gpt-4o-mini", messages=[...])  # from the pool the second time

``chat.completions.create`` is answered from the pool, whole or as a stream, with the package's own types; everything
else of the client is the client's. Needs the package: ``pip install 'exp_pool[openai]'``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import urlencode

from exp_pool.api.decorator import exp_cache
from exp_pool.api.options import with_call
from exp_pool.core.capture import record
from exp_pool.core.values.redaction import redacted
from exp_pool.errors import ConfigurationError
from exp_pool.runtime.display import without_password
from exp_pool.runtime.plugs import to_install

try:
    from openai import AsyncOpenAI, AsyncStream, NotGiven, OpenAI, Stream, omit
    from openai.resources.chat.completions import AsyncCompletions, Completions
    from openai.types.chat import ChatCompletion, ChatCompletionChunk
except ImportError as err:
    raise ConfigurationError(
        f"exp_pool.integrations.openai needs the package openai: {to_install('openai')} ({err})"
    ) from err

Client = TypeVar("Client", OpenAI, AsyncOpenAI)

NAME = "openai.chat.completions"
"""The function under which these calls are stored, unless ``name=`` says otherwise."""

_NO_PART_OF_THE_QUESTION = (
    "extra_headers", "timeout", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
)  # fmt: skip
_COMPLETE = frozenset({"stop", "tool_calls", "function_call"})
_HELPERS = "x-stainless"  # headers by which raw responses and the package's helpers ask for something else
_MILLION = 1_000_000

Prices = Mapping[str, tuple[float, float]]


def cached(client: Client, *, prices: Prices | None = None, exclude: Collection[str] = (), **options: Any) -> Client:
    """A client like this one, on the same connections, whose chat completions the pool answers.

    The key is made of all that is asked, with the address of the server, but for headers, time-outs and what is said
    about the provider's own cache. Model, tokens and money are recorded. A stream is stored once it was read to its
    end, and replayed chunk by chunk. What is asked for by ``with_raw_response``, ``parse`` or ``stream()`` goes to the
    server, and so do calls of the client's ``with_options()``.

    Args:
        client: an ``OpenAI`` or ``AsyncOpenAI``, or one of their subclasses (Azure).
        prices: of a million tokens read and written, in US dollars, by model.
        exclude: further parameters that do not change the answer, such as ``user``.
        **options: of `exp_cache`: ``manager=``, ``ttl=``, ``judge=``, ``namespace=``, ... By default ``cache_if=`` is
            `complete`: what was cut off or filtered is not stored.

    Raises:
        ConfigurationError: it is no such client, a price is none, or an option cannot be.
    """
    if not isinstance(client, OpenAI | AsyncOpenAI):
        raise ConfigurationError(f"cached({client!r:.80}) takes an openai.OpenAI or openai.AsyncOpenAI")
    _check(prices or {})
    condition = with_call("cache_if", options.pop("cache_if", complete), streams=False)
    of_both = {"name": NAME, "request": "messages", **options, "self_key": ()}
    of_both["exclude"] = (*_NO_PART_OF_THE_QUESTION, *exclude)
    decorators = _Decorators(
        exp_cache(**of_both, cache_if=condition),
        # The package takes a broken connection for the end of a stream.
        exp_cache(
            **of_both, cache_if=lambda call, chunks: _ended(chunks) and (not condition or condition(call, chunks))
        ),
        prices or {},
    )
    own = client.with_options()
    kind = _CachedCompletions if isinstance(own, OpenAI) else _CachedAsyncCompletions
    vars(own.chat)["completions"] = kind(own, decorators)  # in the place of a cached property
    return own


def complete(answer: Any) -> bool:
    """Whether every choice of an answer, or of a stream's chunks, came to its end: stop, or a call of a tool."""
    reasons = _finish_reasons(answer if isinstance(answer, list) else [answer])
    return bool(reasons) and reasons <= _COMPLETE


def _ended(chunks: Sequence[Any]) -> bool:
    """Whether every choice of a stream came to an end, whichever."""
    return None not in _finish_reasons(chunks)


def _finish_reasons(parts: Sequence[Any]) -> set[str | None]:
    """Why each choice ended; None for one that did not."""
    reasons: dict[int, str | None] = {}
    for part in parts:
        for choice in part.choices:
            reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
    return set(reasons.values())


def _check(prices: Any) -> None:
    fits = isinstance(prices, Mapping) and all(
        isinstance(price, tuple)
        and len(price) == 2  # noqa: PLR2004  (in and out)
        and all(isinstance(each, int | float) and not isinstance(each, bool) and each >= 0 for each in price)
        for price in prices.values()
    )
    if not fits:
        raise ConfigurationError(
            f"prices={prices!r:.80} must be a dict from models to (dollars of a million tokens read, of a million "
            "written), such as {'gpt-4o-mini': (0.15, 0.60)}"
        )


class _Decorators(NamedTuple):
    whole: Callable[[Any], Any]
    chunks: Callable[[Any], Any]
    prices: Prices


class _CachedCompletions(Completions):
    def __init__(self, client: OpenAI, decorators: _Decorators) -> None:
        super().__init__(client)
        self._whole = decorators.whole(_Whole(super().create, decorators.prices))
        self._chunks = decorators.chunks(_Chunks(super().create, decorators.prices))

    def create(self, **asked: Any) -> Any:
        asked = _given(asked)
        if _for_a_helper(asked):
            return super().create(**asked)
        asked["base_url"] = _address(self._client)
        return _ReplayedStream(self._chunks(**asked)) if asked.get("stream") else self._whole(**asked)


class _CachedAsyncCompletions(AsyncCompletions):
    def __init__(self, client: AsyncOpenAI, decorators: _Decorators) -> None:
        super().__init__(client)
        self._whole = decorators.whole(_AsyncWhole(super().create, decorators.prices))
        self._chunks = decorators.chunks(_AsyncChunks(super().create, decorators.prices))

    async def create(self, **asked: Any) -> Any:
        asked = _given(asked)
        if _for_a_helper(asked):
            return await super().create(**asked)
        asked["base_url"] = _address(self._client)
        return _ReplayedAsyncStream(self._chunks(**asked)) if asked.get("stream") else await self._whole(**asked)


def _given(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that were given, without the explicit ones for "not given". Messages may be any iterable."""
    given = {name: value for name, value in asked.items() if not isinstance(value, NotGiven | type(omit))}
    if "messages" in given and isinstance(given["messages"], Iterable):
        given["messages"] = list(given["messages"])
    return given


def _address(client: OpenAI | AsyncOpenAI) -> str:
    """The server, with what the client adds to every address: of Azure the version, which changes answers."""
    query = redacted(dict(client.default_query))
    return without_password(str(client.base_url)) + (f"?{urlencode(sorted(query.items()))}" if query else "")


def _for_a_helper(asked: Mapping[str, Any]) -> bool:
    return any(name.lower().startswith(_HELPERS) for name in asked.get("extra_headers") or ())


# ── What is decorated: one for each kind of function ──────────────────────────────────────────────────────────────────


class _Recorder:
    """Records model, tokens and money of a call. Subclasses take `base_url` for the key."""

    def __init__(self, create: Callable[..., Any], prices: Prices) -> None:
        self._create, self._prices = create, prices

    def _record(self, asked: Mapping[str, Any], answer: ChatCompletion | ChatCompletionChunk) -> None:
        """Model, tokens and money; of the chunks of a stream one may say how many tokens there were.

        The package checks nothing of what imitators of the server say: any part may be missing, or something else.
        """
        model, usage = getattr(answer, "model", None), getattr(answer, "usage", None)
        model = model if isinstance(model, str) else None
        record(model=model)
        tokens_in, tokens_out = _tokens(usage, "prompt_tokens"), _tokens(usage, "completion_tokens")
        price = self._prices.get(model or "") or self._prices.get(asked.get("model", ""))
        money = None
        if price is not None and tokens_in is not None and tokens_out is not None:
            money = (tokens_in * price[0] + tokens_out * price[1]) / _MILLION
        record(tokens_in=tokens_in, tokens_out=tokens_out, money_usd=money)


def _tokens(usage: Any, name: str) -> int | None:
    count = getattr(usage, name, None)
    return count if type(count) is int and count >= 0 else None


class _Whole(_Recorder):
    def __call__(self, *, base_url: str, **asked: Any) -> Any:  # noqa: ARG002  (the server is part of the question)
        answer = self._create(**asked)
        self._record(asked, answer)
        return answer


class _AsyncWhole(_Recorder):
    async def __call__(self, *, base_url: str, **asked: Any) -> Any:  # noqa: ARG002
        answer = await self._create(**asked)
        self._record(asked, answer)
        return answer


class _Chunks(_Recorder):
    def __call__(self, *, base_url: str, **asked: Any) -> Iterator[ChatCompletionChunk]:  # noqa: ARG002
        with self._create(**asked) as chunks:
            for chunk in chunks:
                self._record(asked, chunk)
                yield chunk


class _AsyncChunks(_Recorder):
    async def __call__(self, *, base_url: str, **asked: Any) -> AsyncIterator[ChatCompletionChunk]:  # noqa: ARG002
        async with await self._create(**asked) as chunks:
            async for chunk in chunks:
                self._record(asked, chunk)
                yield chunk


# ── Streams as the package has them, but for the response, which no server may have sent ──────────────────────────────


class _ReplayedStream(Stream[ChatCompletionChunk]):
    def __init__(self, chunks: Iterator[ChatCompletionChunk]) -> None:
        self._iterator = chunks

    def close(self) -> None:
        cast("Any", self._iterator).close()


class _ReplayedAsyncStream(AsyncStream[ChatCompletionChunk]):
    def __init__(self, chunks: AsyncIterator[ChatCompletionChunk]) -> None:
        self._iterator = chunks

    async def close(self) -> None:
        await cast("Any", self._iterator).aclose()
