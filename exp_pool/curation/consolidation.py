"""Merging: experiences of the same meaning get one answer, the best, for all their requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from exp_pool.core.experience import Experience
from exp_pool.core.record import Record, sized, to_experience
from exp_pool.core.values.codec_stamp import read_stamp
from exp_pool.curation.bulk_edit import rows_of
from exp_pool.curation.change_log import commit, undo
from exp_pool.curation.change_set import Change, planned
from exp_pool.curation.columns import METADATA
from exp_pool.curation.edited_row import edited_row
from exp_pool.errors import ConflictError, InvalidInputError
from exp_pool.runtime.async_bridge import resolve
from exp_pool.runtime.clock import now_us

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager

MERGED_INTO = "merged_into"

RateAnswer = Callable[[str, Any], float | Awaitable[float]]
"""How good an answer is to a request, 0 to 1."""


def merge(
    manager: ExpManager,
    experiences: Iterable[str | Experience],
    *,
    keep: str | Experience | None = None,
    rate: RateAnswer | None = None,
    who: str | None = None,
    why: str = "",
) -> Change:
    """Merge experiences of the same meaning: all requests are answered by the best answer.

    The best experience is the annotated one, else, if all have a deciding score, the one with the best score. The
    others get its answer as `expected` and its id as ``metadata["merged_into"]``. They keep their own response, and
    `undo` brings it back. None of them expires later than the best one.

    Nothing is merged if one of the requests would be answered worse: a person annotated it otherwise, it has a better
    score than the answer that it would get, or `rate` says so. After the merge every request is looked up. If one is
    not answered by the best answer, the merge is undone.

    Args:
        manager: whose pool.
        experiences: which, or their ids: current ones in use, of one function, version and codec, that differ in
            nothing but the text of the request.
        keep: the best one, where neither annotations nor scores tell.
        rate: asked with each request and its present answer, and with the one that it would get, ``def`` or ``async
            def``; in place of scores.
        who: for `history`; by default the user of this machine.
        why: likewise.

    Raises:
        InvalidInputError: they cannot be one, or nothing tells which is best.
        NotFoundError: one is not in this namespace.
        ConflictError: a replay gets worse (the message says which request), or one was changed meanwhile.
        StoreError: see `apply_frame`.
    """
    pool = manager.sync
    rows = rows_of(pool, experiences)
    _check(rows, now_us())
    best = _best(rows, keep.id if isinstance(keep, Experience) else keep)
    others = [row for row in rows if row is not best]
    if worse := list(filter(None, (_worse(row, best, rate) for row in others))):
        raise ConflictError(f"nothing is merged: {worse[0]}" + (f"; and {len(worse) - 1} more" if worse[1:] else ""))
    merged = (
        replace(
            edited_row(pool, row, {METADATA + MERGED_INTO: best.id}),
            expected=best.answer,
            expires_at=_earlier(row, best),
        )
        for row in others
    )
    pairs = [(row, sized(to)) for row, to in zip(others, merged, strict=True)]
    change = commit(pool, planned(pool.namespace, "merge", pairs), who=who, why=why)
    now, keys = now_us(), [row.key for row in rows if not row.expired(now_us())]
    for key, found in zip(keys, pool.store.get_many(pool.namespace, keys), strict=True):
        if found is None or found.answer != best.answer or found.trust != "trusted" or found.expired(now):
            if change.id is not None:
                undo(manager, change.id, why="the replay got worse", partly=True)
            raise ConflictError(
                f"the merge was undone: the request {_request(rows, key)!r:.80} is not answered by the best answer; "
                "somebody changed it meanwhile. Try again"
            )
    return change


def _check(rows: Sequence[Record], now: int) -> None:
    if len(rows) < 2:  # noqa: PLR2004
        raise InvalidInputError(f"{len(rows)} experience is nothing to merge; give two or more")
    for row in rows:
        if not row.is_current:
            raise InvalidInputError(f"{row.id!r} is history and answers nothing; merge {row.superseded_by!r} instead")
        if row.trust != "trusted":
            raise InvalidInputError(f"{row.id!r} is quarantined and answers nothing; promote it first, or leave it out")
        if row.kind != "success":
            raise InvalidInputError(f"{row.id!r} is of kind {row.kind!r} and answers nothing; leave it out")
        if row.expired(now):
            raise InvalidInputError(f"{row.id!r} has expired and answers nothing; leave it out")
        for name in ("function", "version", "codec", "reuse_scope"):
            # The shape beside the codec's name does not matter: what another row is given counts as written by people.
            here, there = (read_stamp(r.codec).codec if name == "codec" else getattr(r, name) for r in (row, rows[0]))
            if here != there:
                what = "arguments beside the request" if name == "reuse_scope" else name
                raise InvalidInputError(
                    f"{row.id!r} and {rows[0].id!r} differ in their {what}, so one does not answer the other's calls"
                )


def _earlier(row: Record, best: Record) -> int | None:
    """Earlier expiry of the two: an answer lives no longer for another request than for its own."""
    return min((at for at in (row.expires_at, best.expires_at) if at is not None), default=None)


def _best(rows: Sequence[Record], keep: str | None) -> Record:
    if keep is not None:
        found = [row for row in rows if row.id == keep]
        if not found:
            raise InvalidInputError(f"keep={keep!r} is none of the experiences that are to be merged")
        return found[0]
    answers = {row.answer for row in rows}
    annotated = [row for row in rows if row.annotated]
    of = annotated or [row for row in rows if row.score is not None]
    top = max((row.score or 0.0 for row in of), default=0.0)
    leaders = of if annotated else [row for row in of if row.score == top]
    untold = not annotated and any(row.score is None and row.answer != leaders[0].answer for row in rows if leaders)
    if untold or len({row.answer for row in leaders}) > 1 or not (leaders or len(answers) == 1):
        raise InvalidInputError(
            "neither annotations nor scores tell which answer is best; say it with keep=, score them, or annotate one"
        )
    return max(leaders or rows, key=lambda row: (row.score or 0.0, row.created_at))


def _worse(row: Record, best: Record, rate: RateAnswer | None) -> str:
    """Reason why the best answer is worse for this request; ``""``: it is not."""
    if row.answer == best.answer:
        return ""
    if row.annotated:
        return f"a person said that {row.request!r:.80} ({row.id}) is to be answered otherwise; see `annotate`"
    if rate is not None:
        old, new = (
            _rating(rate, row.request, to_experience(replace(row, response=text, expected=None)).response)
            for text in (row.answer, best.answer)
        )
        if new < old:
            return f"{row.request!r:.80} ({row.id}) would be answered worse: {new:g} instead of {old:g}"
    elif not best.annotated and (row.score or 0.0) > (best.score or 0.0):
        return f"{row.request!r:.80} ({row.id}) has the better score, {row.score} against {best.score}"
    return ""


def _rating(rate: RateAnswer, request: str, answer: Any) -> float:
    found = resolve(rate(request, answer))
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
        raise InvalidInputError(f"rate gave {found!r:.80} for {request!r:.80}; it must give a number of 0 to 1")
    return found


def _request(rows: Iterable[Record], key: str) -> str:
    return next(row.request for row in rows if row.key == key)
