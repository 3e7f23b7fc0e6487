"""Insights: one experience that says what several teach, and names them as its parents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from exp_pool.core.experience import Experience, ExperienceKind
from exp_pool.core.record import to_experience
from exp_pool.curation.bulk_edit import rows_of
from exp_pool.curation.change_log import commit
from exp_pool.curation.change_set import Change, planned
from exp_pool.errors import ConfigurationError, InvalidInputError
from exp_pool.reuse.context import SimpleContextBuilder
from exp_pool.runtime.async_bridge import resolve
from exp_pool.stores.lineage import with_inherited_trust

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager
    from exp_pool.routing import ConcurrentRouter, ModelEndpoint

Using: TypeAlias = "Callable[[list[Experience]], Any | Awaitable[Any]] | ModelEndpoint | ConcurrentRouter"

_ASKED = """Below are experiences of an agent with similar requests. Write down what they teach together: one short \
insight, in the words of somebody who tells a colleague what to do next time and what to avoid. Say only what the \
experiences show. Answer with the insight alone."""
_REQUESTS, _REQUEST_CHARS = 5, 200  # of which the insight's own request text is made: what embedders read


def distill(
    manager: ExpManager,
    experiences: Iterable[str | Experience],
    using: Using,
    *,
    request: str | None = None,
    who: str | None = None,
    why: str = "",
) -> Change:
    """Make an insight from experiences. They stay as they are; the insight names them as its `parents`.

    An insight (`kind`) is found and shown like other experiences of its function, answers no call, and is never
    evicted. It is trusted no more than its sources: of a quarantined one comes a quarantined insight. `undo` takes it
    away again.

    Args:
        manager: whose pool.
        experiences: which, or their ids, of one function and version.
        using: a callable of these experiences, ``def`` or ``async def``, that gives the insight (a text, as a rule);
            or a `ModelEndpoint` that is asked for it, or a `ConcurrentRouter` that was used on no other loop. What a
            model reads of the experiences is marked as data; what it writes is a suggestion: read it.
        request: the text by which the insight is found; by default the sources' requests.
        who: for `history`; by default the user of this machine.
        why: likewise.

    Returns:
        the change; ``change.added[0]`` is the insight.

    Raises:
        InvalidInputError: the sources differ in function or version, or nothing came of it.
        NotFoundError: one is not in this namespace.
        ConfigurationError: `using` cannot be used.
        AllModelsFailed: the endpoint did not answer.
        ConflictError: these experiences have an insight already; undo or delete that one first.
        StoreError: see `apply_frame`.
    """
    pool = manager.sync
    rows = rows_of(pool, experiences)
    if not rows:
        raise InvalidInputError("no experiences, so there is nothing to learn from; give some")
    for row in rows:
        if (row.function, row.version) != (rows[0].function, rows[0].version):
            raise InvalidInputError(
                f"{row.id!r} is of {row.function!r} {row.version!r}, and {rows[0].id!r} of {rows[0].function!r} "
                f"{rows[0].version!r}; an insight belongs to one function and version: distill them apart"
            )
    sources = [to_experience(row) for row in rows]
    said, model = _insight_of(using, sources)
    if said is None or (isinstance(said, str) and not said.strip()):
        raise InvalidInputError(f"nothing came of {len(sources)} experiences: {said!r}")
    ids = [source.id for source in sources]
    text = request or "\n".join(dict.fromkeys(source.request[:_REQUEST_CHARS] for source in sources[:_REQUESTS]))
    insight = Experience(
        function=rows[0].function,
        version=rows[0].version,
        arguments={
            "insight_from": sorted(ids)
        },  # so that its key is that of no call, and the same for the same sources
        request=text,
        response=said,
        kind=ExperienceKind.INSIGHT,
        parents=ids,
        model=model,
    )
    (row,) = with_inherited_trust(pool.store, [pool.editor.record_of(insight)])
    return commit(pool, planned(pool.namespace, "distill", [(None, row)]), who=who, why=why)


def _insight_of(using: Using, sources: list[Experience]) -> Any:
    """Insight, and the model that wrote it."""
    answer: Any
    if hasattr(using, "route_request"):
        answer = _ask_router(using, sources)
        return resolve(answer)
    if not callable(using):
        from exp_pool.routing import ModelEndpoint

        if not isinstance(using, ModelEndpoint):
            raise ConfigurationError(
                f"using={using!r:.80} is neither a callable nor a ModelEndpoint or ConcurrentRouter"
            )
        answer = _ask_endpoint(using, sources)
        return resolve(answer)
    return resolve(using(sources)), None


async def _ask_endpoint(endpoint: ModelEndpoint, sources: Sequence[Experience]) -> tuple[str, str]:
    from exp_pool.routing import ConcurrentRouter

    async with ConcurrentRouter([endpoint]) as router:
        return await _ask_router(router, sources)


async def _ask_router(router: Any, sources: Sequence[Experience]) -> tuple[str, str]:
    prompt = SimpleContextBuilder(limit=len(sources)).build(_ASKED, sources)
    answer = await router.route_request(prompt)
    return answer["response"].strip(), answer["model"]
