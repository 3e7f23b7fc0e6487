"""What type checkers see: run by `tests/typing/test_typing.py` with mypy and pyright; never imported."""

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import TypeVar, assert_type, cast

from exp_pool import Answer, Experience, ExpManager, Hit, Ttl, exp_cache
from exp_pool.runtime.counters import CacheInfo


@exp_cache
def plain(q: str, times: int = 1) -> list[str]:
    return [q] * times


@exp_cache(ttl=Ttl("1h"), exclude=["times"])
def with_options(q: str, *, times: int = 1) -> list[str]:
    return [q] * times


@exp_cache
async def coroutine(q: str) -> int:
    return len(q)


@exp_cache(ttl=60)
async def coroutine_with_options(q: str) -> int:
    return len(q)


@exp_cache
def chunks(q: str) -> Iterator[str]:
    yield q


@exp_cache(ttl=60)
async def achunks(q: str) -> AsyncIterator[str]:
    yield q


@exp_cache(batch="items")
def many(items: list[str]) -> list[int]:
    return [len(item) for item in items]


T = TypeVar("T")


@exp_cache
def first(items: list[T]) -> T:
    return items[0]


@exp_cache
async def afirst(items: list[T]) -> T:
    return items[0]


ints = cast("Callable[[list[int]], int]", exp_cache(first.original))  # what the docs say for mypy


class Agent:
    @exp_cache(self_key=())
    def act(self, q: str) -> float:
        return 1.0

    @exp_cache(self_key=())
    async def aact(self, q: str) -> float:
        return 1.0

    @staticmethod
    @exp_cache
    def check(q: str) -> bool:
        return True

    @classmethod
    @exp_cache
    def make(cls, q: str) -> bytes:
        return b""

    @exp_cache(ttl="1h")
    @classmethod
    async def amake(cls, q: str) -> bytes:
        return b""


assert_type(plain("q"), list[str])
assert_type(plain("q", times=2), list[str])
assert_type(with_options("q", times=2), list[str])
assert_type(plain.call("q"), Answer[list[str]])
assert_type(plain.lookup("q"), Hit | None)
assert_type(plain.key("q"), str)
assert_type(plain.refresh("q"), Answer[list[str]])
assert_type(plain.explain("q"), str)
assert_type(plain.invalidate("q"), int)
assert_type(plain.cache_info(), CacheInfo)
assert_type(many(["a"]), list[int])
assert_type(Agent().act("q"), float)
assert_type(Agent().act.call("q"), Answer[float])
assert_type(Agent.check("q"), bool)
assert_type(Agent.make("q"), bytes)  # type: ignore[call-arg, arg-type]  # docs/keys-and-types.md says so
assert_type(first([1]), int)  # type: ignore[arg-type, assert-type, unused-coroutine]  # likewise
assert_type(ints([1]), int)
assert_type(Agent().make("q"), bytes)
assert_type(Agent().make.call("q"), Answer[bytes])


async def awaited() -> None:
    assert_type(await coroutine("q"), int)
    assert_type(await coroutine_with_options("q"), int)
    assert_type(await coroutine.call("q"), Answer[int])
    assert_type(await coroutine.lookup("q"), Hit | None)
    assert_type(await Agent().aact("q"), float)
    assert_type(await afirst(["a"]), str)
    assert_type(await Agent().amake("q"), bytes)
    stream: AsyncGenerator[str, object] = achunks("q")
    async for chunk in stream:
        assert_type(chunk, str)


for chunk in chunks("q"):
    assert_type(chunk, str)


def with_a_manager(manager: ExpManager) -> None:
    @manager.exp_cache
    def inner(q: str) -> int:
        return len(q)

    @manager.exp_cache(ttl=60)
    def inner_with_options(q: str) -> int:
        return len(q)

    assert_type(inner("q"), int)
    assert_type(inner_with_options("q"), int)


def asked(manager: ExpManager) -> None:
    assert_type(manager.sync.search("q", function=plain, top_k=3, where={"kind": "success"}), list[Hit])
    assert_type(manager.sync.query_exps("q", query_type="exact", namespace=None), list[Experience])
    manager.sync.search("q", topk=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    manager.sync.query_exps("q", top_k="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def asked_async(manager: ExpManager) -> None:
    assert_type(await manager.search("q", min_similarity=0.5, reranker="none"), list[Hit])
    assert_type(await manager.query_exps("q"), list[Experience])
    await manager.search("q", wher={})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


bound = exp_cache(functools.partial(len, "abc"))
assert_type(bound(), int)

# What must be refused.
plain(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
plain("q", wrong=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
plain.call()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Agent().act(2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
exp_cache(single_flight="no")(len)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
Agent().make(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ExpManager(max_entrys=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
ExpManager(eviction="newest")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ExpManager(store="memory://", max_entries=3, max_bytes="1GB", default_ttl="1h", eviction="lfu")
exp_cache(ttll=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
