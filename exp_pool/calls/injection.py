"""Shows the function similar experiences: passed to its parameter (`inject=`), or written into its prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence

from exp_pool.calls.degrade import degrades
from exp_pool.calls.lookup import readable
from exp_pool.calls.policy import Policy
from exp_pool.calls.request import Request
from exp_pool.calls.steps import FindSimilar, Flow, Judgement
from exp_pool.core.contracts.plugs import ContextBuilder
from exp_pool.core.experience import Experience
from exp_pool.core.record import Match
from exp_pool.core.results import Hit
from exp_pool.errors import InvalidInputError
from exp_pool.reuse.selection import InjectedExperiences, selection_of


@degrades("show similar experiences", default=None)
def inject(request: Request, policy: Policy, judgement: Judgement) -> Flow[tuple[Request, InjectedExperiences] | None]:
    """The call as the function gets it, and what it is shown there; None where it is shown nothing.

    A caller who passes experiences overrides the pool's choice.

    Args:
        request: the call as it was made.
        policy: the options of the function's decorator.
        judgement: what the judge said of the call.
    """
    selector = policy.inject if policy.inject is not None else policy.context_builder
    if selector is None or request.brings_context or (policy.inject is None and request.prompt is None):
        return None
    selection = selection_of(selector)
    hits: list[Hit] = []
    for where in selection.searches:
        matches: list[Match] = yield FindSimilar(
            request, selection.candidates, selection.min_similarity, to_answer=False, where=where
        )
        hits += readable(matches)
    # A function that saw what its own answer is to be compared with might copy it, and every label would be "same".
    compared = judgement.training.considered.id if judgement.training else None
    injected = selection.choose([hit for hit in hits if hit.experience.id != compared], random.random)
    rewritten = _rewritten(request, policy.context_builder, injected.experiences)
    if policy.inject is None and rewritten is None:
        left_out = injected.left_out or ()
        if injected.experiences or (left_out and _rewritten(request, policy.context_builder, left_out) is None):
            return None  # the builder has no room for any: nothing was left out by chance
    return request.with_context(None if policy.inject is None else injected.experiences, rewritten), injected


def _rewritten(request: Request, builder: ContextBuilder | None, experiences: Sequence[Experience]) -> str | None:
    """The request text with these experiences; None where it stays as it is."""
    if builder is None or request.prompt is None or not experiences:
        return None
    rewritten = builder.build(request.prompt.text, experiences[: builder.limit])
    if not isinstance(rewritten, str):
        raise InvalidInputError(f"{builder!r} built {rewritten!r:.80}; a context builder gives text")
    return None if rewritten == request.prompt.text else rewritten
