"""An experience pool for LLM agents.

A call of a decorated function goes this way; `exp_pool.calls.flow` is the whole of it:

1. `api`: the call becomes a request (`calls.request`), with a key (`core.identity.keys`) and a text.
2. `calls.drivers`: of concurrent identical calls one goes on, the others wait for it and get copies.
3. `stores`: an identical request is looked up by key. Found and fresh: its answer is returned (`core.codecs`).
4. `search`: only if someone wants similar experiences: embed, search an index, join to the store.
5. `reuse`: a judge decides whether one of them may answer.
6. `calls.drivers`: the function runs.
7. `stores`: its answer is stored.
8. `maintenance`: later, one worker embeds, indexes, scores.

Names are imported when first used: ``import exp_pool`` loads neither numpy nor pydantic, let alone torch or chromadb.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from loguru import logger

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager, exp_cache, get_exp_manager, set_exp_manager
    from exp_pool.api.race import race
    from exp_pool.core.capture import record
    from exp_pool.core.config import ExpPoolConfig
    from exp_pool.core.experience import MISSING, Experience, ExperienceKind, Metric, Origin, Score, Step, Trust
    from exp_pool.core.results import Answer, Call, Hit, QueryType
    from exp_pool.core.ttl import Ttl
    from exp_pool.core.values.registered_types import register_type
    from exp_pool.reuse.context import Inject, SimpleContextBuilder
    from exp_pool.reuse.judges import ExactJudge, PerfectJudge, ThresholdJudge, all_of, any_of, guarded
    from exp_pool.reuse.refine import Refine
    from exp_pool.reuse.verified import VerifiedJudge
    from exp_pool.runtime.call_context import bypass, in_namespace
    from exp_pool.runtime.carry import carry
    from exp_pool.snapshots.migration import migrate

__version__ = "0.1.0"

logger.disable("exp_pool")  # a library is silent until somebody calls logger.enable("exp_pool")

_HOMES = {
    "core.capture": ("record",),
    "runtime.carry": ("carry",),
    "core.config": ("ExpPoolConfig",),
    "core.ttl": ("Ttl",),
    "core.values.registered_types": ("register_type",),
    "core.experience": ("MISSING", "Experience", "ExperienceKind", "Metric", "Origin", "Score", "Step", "Trust"),
    "core.results": ("Answer", "Call", "Hit", "QueryType"),
    "api.manager": ("ExpManager", "exp_cache", "get_exp_manager", "set_exp_manager"),
    "snapshots.migration": ("migrate",),
    "api.race": ("race",),
    "reuse.context": ("Inject", "SimpleContextBuilder"),
    "reuse.judges": ("ExactJudge", "PerfectJudge", "ThresholdJudge", "all_of", "any_of", "guarded"),
    "reuse.refine": ("Refine",),
    "reuse.verified": ("VerifiedJudge",),
    "runtime.call_context": ("bypass", "in_namespace"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "MISSING",
    "Answer",
    "Call",
    "ExactJudge",
    "ExpManager",
    "ExpPoolConfig",
    "Experience",
    "ExperienceKind",
    "Hit",
    "Inject",
    "Metric",
    "Origin",
    "PerfectJudge",
    "QueryType",
    "Refine",
    "Score",
    "SimpleContextBuilder",
    "Step",
    "ThresholdJudge",
    "Trust",
    "Ttl",
    "VerifiedJudge",
    "all_of",
    "any_of",
    "bypass",
    "carry",
    "exp_cache",
    "get_exp_manager",
    "guarded",
    "in_namespace",
    "migrate",
    "race",
    "record",
    "register_type",
    "set_exp_manager",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'exp_pool' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"exp_pool.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
