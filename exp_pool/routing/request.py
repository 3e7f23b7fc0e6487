"""A routed request: messages and options, checked, before it is known which endpoint answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from exp_pool.errors import EndpointError, InvalidInputError
from exp_pool.routing.adapters.contract import Message, ModelRequest, Outgoing
from exp_pool.routing.endpoint import ModelEndpoint
from exp_pool.routing.strategies import Load

_ROLES = ("system", "developer", "user", "assistant", "tool")
_BYTES_PER_TOKEN = 3  # of English a token has four letters, of Chinese it has one or two letters of three bytes
_TOKENS_OUT = 256  # assumed where `max_tokens` says nothing
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@dataclass(frozen=True, slots=True)
class RoutedRequest:
    """Messages and options, in the form of OpenAI's chat completions."""

    messages: Sequence[Message]
    options: Mapping[str, Any]
    load: Load

    @classmethod
    def of(cls, prompt: str | Sequence[Message], options: Mapping[str, Any], key: str | None) -> RoutedRequest:
        """A request, checked and its size estimated.

        Args:
            prompt: messages, or a text: one message of the user's.
            options: as `ConcurrentRouter.route_request` takes them.
            key: for the strategy ``"hash"``; None: the first message.

        Raises:
            InvalidInputError: there are no messages, or they are something else.
        """
        messages = _messages(prompt)
        if "stream" in options:
            raise InvalidInputError("stream= is no option: call stream_request() for a stream")
        sent = json.dumps([messages, options.get("tools")], ensure_ascii=False, default=str)
        tokens_in = len(sent.encode("utf-8", "replace")) // _BYTES_PER_TOKEN + 1
        out = next((options[name] for name in _LIMITS if isinstance(options.get(name), int)), _TOKENS_OUT)
        begins = json.dumps(messages[0], ensure_ascii=False, default=str) if key is None else str(key)
        return cls(messages, options, Load(begins, tokens_in, out))

    @property
    def tokens(self) -> int:
        """Tokens that the request will use, estimated."""
        return self.load.tokens_in + self.load.tokens_out

    def to(self, endpoint: ModelEndpoint, *, stream: bool) -> Outgoing:
        """The request to one endpoint.

        Raises:
            EndpointError: it cannot be put in the endpoint's wire format, or there is no key any more.
        """
        try:
            model = endpoint.model or endpoint.name
            request = ModelRequest(endpoint.url, model, self.messages, self.options, stream, endpoint.key())
            return endpoint.adapter.write(request)
        except Exception as err:
            raise EndpointError(
                f"{endpoint.name}: it cannot be put as {endpoint.adapter.name!r} ({type(err).__name__}: {err})",
                blameless=True,
            ) from err


def _messages(prompt: str | Sequence[Message]) -> Sequence[Message]:
    if isinstance(prompt, str):
        if not prompt.strip():
            raise InvalidInputError("the prompt is empty")
        return [{"role": "user", "content": prompt}]
    if not isinstance(prompt, Sequence) or not prompt:
        raise InvalidInputError(f"prompt={prompt!r:.80} must be a text, or a list of messages that has some")
    for message in prompt:
        if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
            raise InvalidInputError(
                f"the message {message!r:.80} must be a dict with a role, one of {', '.join(_ROLES)}"
            )
    return cast("Sequence[Message]", prompt)
