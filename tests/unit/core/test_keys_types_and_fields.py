"""Types that are spelled alike, fields that were set, and the order of keywords: each tells two calls apart."""

import collections.abc
import typing

import numpy as np
import pydantic
import pytest

from exp_pool.core.identity.canonical import encode
from exp_pool.errors import UnkeyableError

Ts = typing.TypeVarTuple("Ts")


class M(pydantic.BaseModel):
    a: int = 1
    tags: list[str] = []


class Other(pydantic.BaseModel):
    a: int = 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (typing.Callable[[int], str], collections.abc.Callable[[int], str]),
        (typing.Callable[..., str], collections.abc.Callable[..., str]),
        (typing.Callable[[], str], typing.Callable[..., str]),
        (tuple[int], next(iter(tuple[int]))),
        (tuple[int, ...], next(iter(tuple[int, ...]))),
        (tuple[int], typing.Tuple[int]),  # noqa: UP006
        (tuple[int], tuple[int, ...]),
        (typing.Tuple, typing.Tuple[()]),  # noqa: UP006
        (tuple[()], typing.Tuple[()]),  # noqa: UP006
        (list[int], list[bool]),
        (M(a=1), M()),
        (M(tags=[]), M()),
        (M(a=1, tags=[]), M(a=1)),
        (M.model_construct(a=2), M.model_construct(set(), a=2)),
        (M(a=1), Other(a=1)),
        ([M(a=1)], [M()]),
    ],
    ids=repr,
)
def test_what_is_spelled_alike_is_told_apart(one, other):
    assert encode(one) != encode(other)
    assert encode([one, one]) != encode([one, other])


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (typing.Callable[[int], str], typing.Callable[[int], str]),
        (next(iter(tuple[int])), next(iter(tuple[int]))),
        (typing.Tuple[()], typing.Tuple[()]),  # noqa: UP006
        (M(a=1), M(a=1)),
        (M(), M()),
        (M(a=2), M(a=2)),
        (M(tags=["x"]), M.model_validate({"tags": ["x"]})),
    ],
    ids=repr,
)
def test_what_is_the_same_has_one_encoding(one, same):
    assert encode(one) == encode(same)


def test_a_data_type_with_metadata_is_refused():
    plain, noted = np.dtype("f4"), np.dtype("f4", metadata={"unit": "m"})
    assert plain == noted  # numpy itself does not tell them apart
    encode(plain)
    for value in (noted, np.zeros(2, noted), [noted]):
        with pytest.raises(UnkeyableError, match="metadata"):
            encode(value)


def test_the_order_of_keywords_counts_where_the_function_sees_it(make_manager):
    manager = make_manager(index="none://", embedder="none")

    @manager.exp_cache
    def ask(q, **options):
        return [q, *options]

    assert [ask("q", a=1, b=2), ask("q", b=2, a=1), ask("q", a=1, b=2)] == [["q", *"ab"], ["q", *"ba"], ["q", *"ab"]]
    assert ask(b=2, q="q", a=1) == ["q", *"ba"]  # where the parameters of its own stand does not
    assert (manager.stats().hits, manager.stats().misses) == (2, 2)


def test_the_order_of_named_parameters_does_not_count(make_manager):
    manager = make_manager(index="none://", embedder="none")

    @manager.exp_cache
    def ask(q, a=0, b=0):
        return [q, a, b]

    assert [ask("q", a=1, b=2), ask(b=2, a=1, q="q")] == [["q", 1, 2]] * 2
    assert manager.stats().hits == 1
