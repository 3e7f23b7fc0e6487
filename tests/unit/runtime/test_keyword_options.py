"""Options that are stated once, as a TypedDict."""

import inspect

import pytest

from exp_pool import ExpManager, exp_cache
from exp_pool.api.options import DecoratorOptions
from exp_pool.api.pool import Pool
from exp_pool.api.queries import SearchOptions


def test_signatures_name_each_option_with_its_default():
    shown = inspect.signature(exp_cache).parameters
    assert list(shown) == ["func", *DecoratorOptions.__annotations__]
    assert (shown["judge"].default, shown["ttl"].default, shown["single_flight"].default) == ("exact", None, True)
    for searching in (ExpManager.search, ExpManager.query_exps, Pool.search, Pool.query_exps):
        shown = inspect.signature(searching).parameters
        assert list(shown) == ["self", "request", *SearchOptions.__annotations__]
        assert (shown["query_type"].default, shown["top_k"].default, shown["where"].default) == ("semantic", 5, None)
        assert shown["top_k"].kind is inspect.Parameter.KEYWORD_ONLY and shown["top_k"].annotation == "int"


def test_an_unknown_option_is_refused_and_the_known_ones_are_named():
    with pytest.raises(TypeError, match="unexpected keyword argument 'tttl'; its options: manager, .*ttl.*source"):
        exp_cache(tttl=3)
    with ExpManager(store="memory://", index="none://", embedder="none") as manager:
        for searching in (manager.sync.search, manager.sync.query_exps):
            with pytest.raises(TypeError, match="unexpected keyword argument 'topk'; its options: .*top_k"):
                searching("q", topk=3)
