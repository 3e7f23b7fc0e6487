"""``openai/NAME``: embeddings of the OpenAI API, or of another server that offers it (``OPENAI_BASE_URL``)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, wait_random_exponential

from exp_pool.errors import EmbedderError
from exp_pool.runtime.plugs import to_install

if TYPE_CHECKING:
    from openai import OpenAI

_DEFAULT_URL = "https://api.openai.com/v1"
# What the API takes. Tokens are counted as bytes, of which each has at least one: exact counting needs a vocabulary
# from the network. So of a long English text a quarter of what the API would take is read.
_CONTEXT, _INPUTS, _TOKENS = 8191, 2048, 300_000
_ANSWER_S, _PATIENCE_S = 20.0, 60.0
_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 8.0
_PASSING = frozenset({408, 409, 425, 429})  # and from 500 on: the same request may do a moment later
_OUT_OF_MONEY = "insufficient_quota"  # a 429 that no waiting mends


class OpenAIEmbedder:
    """A model behind the OpenAI API, which is paid for by the token.

    ``OPENAI_API_KEY`` and ``OPENAI_BASE_URL`` are read from the environment by OpenAI's own client. The key is in no
    error.

    Args:
        name: the model, for example ``text-embedding-3-small``.
        timeout_s: for one answer.
        patience_s: for repeating what failed in passing: no connection, 429, 5xx; ``Retry-After`` is followed.

    Raises:
        EmbedderError: the client is not installed, or there is no key.
    """

    def __init__(self, name: str, *, timeout_s: float = _ANSWER_S, patience_s: float = _PATIENCE_S) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._retrying = Retrying(
            stop=stop_before_delay(patience_s), wait=_wait, retry=retry_if_exception(_passes), reraise=True
        )
        self._clients: dict[int, OpenAI] = {}  # by process: a child must not write to its parent's connections
        self._url = _shown(str(self._client().base_url))
        # Another server's model of that name need not be the same. Of the API's own there are no revisions.
        self.identity = f"openai/{name}" + ("" if self._url == _DEFAULT_URL else f"@{self._url}")

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        starts = [_start(text) for text in texts]
        return np.concatenate([self._embed(batch) for batch in _batches(starts)])

    def fits(self, texts: Sequence[str]) -> list[bool]:
        return [len(text.encode("utf-8", "replace")) <= _CONTEXT for text in texts]

    def _embed(self, batch: list[str]) -> np.ndarray:
        import openai

        try:
            answer = self._retrying(self._client().embeddings.create, model=self._name, input=batch)
        # What came from the server, or was sent to it, may have the key in it: it is nobody's cause.
        except openai.APIError as err:
            refusal = EmbedderError(f"{self._target()}: {self._remedy(err)} ({self._message(err)})")
            # Time-outs keep others from asking one by one what could not be asked together.
            raise refusal from (TimeoutError("it does not answer now") if _passes(err) else None)
        except Exception as err:  # the client's own, where the answer is no JSON, or another one's
            raise EmbedderError(f"{self._target()}: the answer is no embeddings ({self._message(err)})") from None
        return self._vectors(answer, len(batch))

    def _vectors(self, answer: Any, count: int) -> np.ndarray:
        try:
            rows = {each.index: each.embedding for each in answer.data}
            indexes = [each.index for each in answer.data]
            vectors = np.asarray([rows[index] for index in range(count)], dtype=np.float32).reshape(count, -1)
            if not np.isfinite(vectors).all() or not vectors.size:
                raise ValueError("they are empty, or no numbers")
        except (AttributeError, TypeError, ValueError, KeyError) as err:
            raise EmbedderError(
                f"{self._target()}: the answer is no embeddings of {count} texts ({type(err).__name__}: "
                f"{self._message(err)}); is OPENAI_BASE_URL the address of an API?"
            ) from None
        if len(indexes) != count:
            raise EmbedderError(f"{self._target()}: {len(indexes)} vectors came for {count} texts")
        return vectors

    def _client(self) -> OpenAI:
        client = self._clients.get(os.getpid())
        if client is None:
            try:
                from openai import OpenAI, OpenAIError
            except ImportError as err:
                raise EmbedderError(
                    f"embedder='openai/...' needs OpenAI's client: {to_install('openai')} ({err})"
                ) from err
            try:
                client = OpenAI(timeout=self._timeout_s, max_retries=0)
            except OpenAIError as err:
                raise EmbedderError(
                    f"openai/{self._name} needs a key: set OPENAI_API_KEY (any text for a server that asks for none)"
                ) from err
            self._clients[os.getpid()] = client
        return client

    def _target(self) -> str:
        return f"openai/{self._name} at {self._url}"

    def _remedy(self, err: Exception) -> str:
        status = getattr(err, "status_code", None)
        match status:
            case 401 | 403:
                return "the key is refused; set another OPENAI_API_KEY"
            case 404:
                return "no such model or address; check the embedder's name and OPENAI_BASE_URL"
            case 400 | 413 | 422:
                return f"the request is refused ({status}); check that the model is one for embeddings"
            case 429:
                return "too many requests, or nothing left to pay with; see the account's limits"
            case None:
                return "it cannot be reached or does not answer; check OPENAI_BASE_URL and the network"
            case _:
                return f"it failed ({status}); try again later"

    def _message(self, err: BaseException) -> str:
        message = str(err)[:500]
        for secret in (os.environ.get("OPENAI_API_KEY"), self._client().api_key):
            message = message.replace(secret, "***") if secret else message
        return message


def _batches(texts: list[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    tokens = 0
    for text in texts:
        size = len(text.encode())
        if batch and (len(batch) == _INPUTS or tokens + size > _TOKENS):
            yield batch
            batch, tokens = [], 0
        batch.append(text)
        tokens += size
    if batch:
        yield batch


def _start(text: str) -> str:
    """The start of a text that the API surely takes; it refuses a request with an empty text in it, but not a blank."""
    return text.encode("utf-8", "replace")[:_CONTEXT].decode("utf-8", "ignore") or " "


def _passes(err: BaseException) -> bool:
    from openai import APIConnectionError, APIStatusError

    if isinstance(err, APIStatusError):
        return (err.status_code in _PASSING and err.code != _OUT_OF_MONEY) or err.status_code >= 500  # noqa: PLR2004
    return isinstance(err, APIConnectionError)  # time-outs are some of these


def _wait(state: RetryCallState) -> float:
    """Seconds to wait: as the server says, else longer each time."""
    err = state.outcome.exception() if state.outcome is not None else None
    headers = getattr(getattr(err, "response", None), "headers", {})
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):  # a date, which the API does not send
            continue
    return float(wait_random_exponential(_BACKOFF_S, _LONGEST_BACKOFF_S)(state))


def _shown(url: str) -> str:
    """The URL without a password, for people."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")
