"""The options of a decorated function that decide about reuse and storing, and what one call may do with the pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from exp_pool.core.codecs.typed import ResponseCodec
from exp_pool.core.contracts.plugs import ContextBuilder, Judge
from exp_pool.core.record import Record
from exp_pool.core.results import Call
from exp_pool.core.ttl import Duration, Ttl
from exp_pool.errors import MisfitError
from exp_pool.reuse.context import Inject
from exp_pool.reuse.judges import good_enough
from exp_pool.reuse.refine import Refine
from exp_pool.runtime.clock import now_us

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Policy:
    """The options of a decorated function about reuse and storing; the same for all its calls."""

    codec: ResponseCodec
    judge: Judge | None = None  # None: identical requests are answered, which needs no step of its own
    min_score: float | None = None
    inject: Inject | None = None
    context_builder: ContextBuilder | None = None
    ttl: Ttl | Callable[[Call, Any], Duration | Ttl | None] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    scored: bool = False
    cache_if: Callable[[Call, Any], Any] | None = None
    record_failures: bool = False
    single_flight: bool = True
    refine: Refine | None = None
    learns: bool = False  # the judge learns from how calls end
    first_stays: bool = False  # where identical calls may run side by side, the first to finish is stored

    @property
    def stale_s(self) -> float:
        """How long after its expiry an answer is still served while a call renews it."""
        return self.ttl.stale_s if isinstance(self.ttl, Ttl) else 0.0

    @property
    def if_error_s(self) -> float:
        """How long after its expiry an answer is still served in place of the function's exception."""
        return self.ttl.if_error_s if isinstance(self.ttl, Ttl) else 0.0

    def returns(self, record: Record) -> bool:
        """Whether the answer of a row can be one of the function as it is now; `misfit` looks closer."""
        return self.codec.gives(record.codec) or record.by_people

    def misfit(self, record: Record) -> str:
        """Why the function as it is now would not return the answer of a row; "" where it would."""
        if record.answer is None:
            return ""
        try:
            self.codec.read(record.answer, record.codec, given=record.by_people)
        except MisfitError as err:
            return str(err)
        return ""

    def renew_at(self, record: Record) -> int | None:
        """From when on (microseconds) asking for the row has it renewed before it expires; None: never."""
        if record.expires_at is None or not isinstance(self.ttl, Ttl) or not self.ttl.early_s:
            return None
        return record.expires_at - int(self.ttl.early_s * _MICROSECONDS)

    def lets_answer(self, record: Record, source: str, late_s: float = 0.0) -> bool:
        """Whether a row may answer a function of this source at all, whatever a judge thinks of it.

        Args:
            record: the row.
            source: digest of the function's source as it is now.
            late_s: how long ago (seconds) it may have expired.
        """
        return (
            record.answer is not None
            and record.made_by(source)
            and record.kind == "success"
            and record.trust == "trusted"
            and self.returns(record)
            and (record.expires_at is None or not record.expired(now_us() - int(late_s * _MICROSECONDS)))
            and (self.min_score is None or good_enough(record.score, self.min_score))
        )


@dataclass(frozen=True, slots=True)
class Mode:
    """What this call may do with the pool."""

    read: bool = True
    write: bool = True
    replay: bool = False  # a miss is an error, the function does not run
    remedy: str = "record it first"  # what to do then
