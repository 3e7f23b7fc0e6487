"""A judge that asks a model: may this stored answer be given to this request? It decides; it scores nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from exp_pool.errors import ConfigurationError, ScorerError
from exp_pool.protocols import Hit, Question, Verdict

from ._chat import Chat, material_of
from ._texts import text_of

_INSTRUCTIONS = (
    "A new request has come, and an earlier one like it was answered before. Decide whether the stored answer may be "
    "given to the new request as it is: whether a careful expert would give just that answer to it. Different numbers, "
    "units, dates, names, places, negations, directions or languages mean no; so does any doubt. The material is a "
    'JSON object with the fields "new_request", "earlier_request" and "stored_answer". Say true or false in the field '
    '"same", and your reason, in one sentence, in the field "reason".'
)
_FIELDS = {"same", "reason"}
_REASON = 200  # characters


class LLMJudge:
    """Answers from the pool where a model says yes, and abstains on everything else; then the function runs.

    It is asked on the caller's path, so it costs each miss up to `timeout` seconds; an identical request is answered
    without it. The reply must be one JSON object with the question's nonce, ``same`` (true or false) and ``reason``;
    see `LLMScorer` for what that prevents, and what not. It promises no error rate: `VerifiedJudge` does. A guard that
    vetoes pairs that differ in numbers, names or negation belongs in front of it; it is faster, and is not persuaded.

    Args:
        model: its name at the endpoint.
        candidates: how many of the most similar experiences it may be asked about, one after another.
        min_similarity: of those that it is asked about, -1 to 1.
        base_url: the endpoint, by default ``OPENAI_BASE_URL``, else OpenAI's own.
        api_key: by default ``OPENAI_API_KEY``; any text for a server that asks for none.
        client: an ``openai.AsyncOpenAI`` or ``openai.OpenAI`` instead of these two.
        timeout: seconds for a whole judgement.
        max_tokens: of an answer; None leaves it to the server.
        max_chars: of the material; it abstains on longer ones.
        options: further fields of the request, such as ``{"temperature": 0}``.
        cache: what caches the calls, such as the `exp_cache` of a manager.

    Raises:
        ConfigurationError: one of these cannot be, there is no key, or OpenAI's client is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        candidates: int = 1,
        min_similarity: float = 0.7,
        base_url: str | None = None,
        api_key: str | None = None,
        client: Any = None,
        timeout: float = 10.0,
        max_tokens: int | None = 256,
        max_chars: int = 60_000,
        options: Mapping[str, Any] | None = None,
        cache: Callable[..., Any] | None = None,
    ) -> None:
        if isinstance(candidates, bool) or not isinstance(candidates, int) or candidates < 1:
            raise ConfigurationError(f"candidates={candidates!r} must be a whole number of at least 1")
        if not -1 <= min_similarity <= 1:
            raise ConfigurationError(f"min_similarity={min_similarity!r} must be between -1 and 1")
        self.candidates = candidates
        self._min_similarity, self._max_chars = min_similarity, max_chars
        self._chat = Chat(
            model=model,
            base_url=base_url,
            api_key=api_key,
            client=client,
            timeout=timeout,
            max_tokens=max_tokens,
            options=options,
            usd_per_million=None,
            cache=cache,
            purpose="scorers.llm_judge",
        )

    async def judge(self, question: Question) -> Verdict:
        """The first hit that the model says yes to.

        Raises:
            ScorerUnavailableError: the endpoint does not answer, or refuses. The pool takes that for an abstention,
                too, and says once what to check.
            TimeoutError: its time is over; likewise.
        """
        exact = next((hit for hit in question.hits if hit.found_by == "exact"), None)
        if exact is not None:
            return Verdict(exact, "identical request")
        refusals = []
        async with asyncio.timeout(self._chat.timeout):
            for hit in question.hits[: self.candidates]:
                if hit.similarity >= self._min_similarity:
                    same, reason = await self._may_answer(question.request, hit)
                    if same:
                        return Verdict(hit, f"the model says yes: {reason}")
                    refusals.append(reason)
        return Verdict(None, "; ".join(refusals) or f"nothing with a similarity of {self._min_similarity:g}")

    async def _may_answer(self, request: str, hit: Hit) -> tuple[bool, str]:
        stored = hit.experience
        material = material_of(new_request=request, earlier_request=stored.request, stored_answer=text_of(stored.value))
        if len(material) > self._max_chars:
            return False, f"the material has {len(material)} characters, more than max_chars={self._max_chars}"
        try:
            reply = await self._chat.ask(_INSTRUCTIONS, material, stored.namespace or "default")
        except ScorerError as err:
            if type(err) is not ScorerError:
                raise
            return False, f"abstained: {err}"
        same, reason = reply.get("same"), reply.get("reason")
        if reply.keys() != _FIELDS or not isinstance(same, bool) or not isinstance(reason, str):
            return False, f"abstained: the model's reply must have same (true or false) and reason, got {reply!r:.80}"
        return same, reason[:_REASON]
