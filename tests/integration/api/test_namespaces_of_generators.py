"""Guarantee 9: a generator keeps to its own namespace, and leaves nothing behind."""

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from support.tenants import namespaces_of, plain

from exp_pool import (
    bypass,
    carry,
    in_namespace,
    race,
)
from exp_pool.errors import ConfigurationError, ExpPoolWarning, NamespaceError


@pytest.fixture
def manager():
    with plain() as made:
        yield made


@pytest.fixture
def ask(manager):
    @manager.exp_cache(name="ask")
    def ask(question: str) -> str:
        return f"to {question}"

    return ask


# ── Generators ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_generators_that_take_turns_stay_each_in_its_own_namespace(manager, ask):
    def answers(tenant):
        with in_namespace(tenant):
            for number in range(3):
                yield ask(f"{number} of {tenant}")

    list(zip(answers("acme"), answers("bolt"), answers("core"), strict=True))
    ask("afterwards")
    assert namespaces_of(manager) == {
        tenant: [f"{number} of {tenant}" for number in range(3)] for tenant in ("acme", "bolt", "core")
    } | {"default": ["afterwards"]}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1), (1, 0, 2), (2, 0, 1)])
def test_whatever_is_closed_first_nothing_is_left_behind(manager, ask, order):
    def inside(block):
        with block:
            yield

    generators = [inside(in_namespace("acme")), inside(bypass()), inside(in_namespace("bolt"))]
    for generator in generators:
        next(generator)
    for place in order:
        generators[place].close()
    ask("afterwards")
    assert namespaces_of(manager) == {"default": ["afterwards"]}


def test_async_generators_that_take_turns(manager):
    @manager.exp_cache
    async def ask(question: str) -> str:
        await asyncio.sleep(0)
        return question

    @manager.exp_cache
    async def outer(question: str) -> str:
        return await ask(f"nested {question}")

    async def answers(tenant):
        with in_namespace(tenant):
            for number in range(2):
                yield await outer(f"{number} of {tenant}")

    async def together():
        first, second = answers("acme"), answers("bolt")
        for _ in range(2):
            await anext(first)
            await anext(second)
        await first.aclose()
        await second.aclose()
        await ask("afterwards")

    asyncio.run(together())
    assert namespaces_of(manager) == {
        tenant: sorted(f"{nested}{number} of {tenant}" for number in range(2) for nested in ("", "nested "))
        for tenant in ("acme", "bolt")
    } | {"default": ["afterwards"]}


def test_a_generator_whose_steps_are_made_on_several_threads_stays_in_its_namespace(manager, ask):
    """As a web framework streams a response: each step in a thread, with a context of its own."""

    def answers(tenant):
        with in_namespace(tenant):
            for number in range(3):
                yield ask(f"{number} of {tenant}")

    source = answers("acme")
    with ThreadPoolExecutor(1) as threads:
        for _ in range(3):
            threads.submit(contextvars.copy_context().run, next, source).result()
        threads.submit(source.close).result()
        threads.submit(ask, "afterwards").result()
    ask("here")
    assert namespaces_of(manager) == {
        "acme": ["0 of acme", "1 of acme", "2 of acme"],
        "default": ["afterwards", "here"],
    }


def test_a_generator_that_is_closed_in_another_context_leaves_nothing_in_its_own(manager, ask):
    def inside():
        with in_namespace("acme"):
            yield

    source = inside()
    next(source)
    copied = contextvars.copy_context()  # as a task that was begun inside: it goes on there
    contextvars.copy_context().run(source.close)
    ask("afterwards")
    copied.run(ask, "begun inside")
    assert namespaces_of(manager) == {"acme": ["begun inside"], "default": ["afterwards"]}


def test_what_cannot_be_known_runs_uncached_and_says_so(manager):
    runs = []

    @manager.exp_cache
    def ask(question: str) -> str:
        runs.append(question)
        return question

    def inside(tenant):
        with in_namespace(tenant):
            yield

    first, second = inside("acme"), inside("bolt")
    next(first)
    ask("of acme")
    next(second)
    with pytest.warns(ExpPoolWarning, match=r"'acme' and 'bolt'.*leave the block before each `yield`"):
        ask("of whom")
    assert ask("of whom") == "of whom"
    assert "cannot be known" in ask.explain("of whom")
    with pytest.raises(NamespaceError, match="'acme' and 'bolt'"):
        manager.sync.get_exps_count()
    first.close()
    ask("of bolt")
    second.close()
    assert runs == ["of acme", "of whom", "of whom", "of bolt"]
    assert namespaces_of(manager) == {"acme": ["of acme"], "bolt": ["of bolt"]}


def test_context_managers_made_of_generators_surround_their_caller(manager, ask):
    @contextmanager
    def tenant(name):
        with in_namespace(name):
            yield

    with tenant("acme"):
        ask("1")
        with tenant("bolt"), ExitStack() as stack:
            ask("2")
            stack.enter_context(in_namespace("core"))
            ask("3")
        ask("4")
    ask("5")
    assert namespaces_of(manager) == {"acme": ["1", "4"], "bolt": ["2"], "core": ["3"], "default": ["5"]}


def test_blocks_inside_of_a_generators_block(manager, ask):
    @contextmanager
    def tenant(name):
        with in_namespace(name):
            yield

    def inner():
        with in_namespace("inner"):
            yield ask("4")

    def answers():
        with in_namespace("acme"):
            yield ask("1")
            with tenant("bolt"):
                yield ask("2")
            with ExitStack() as stack:
                stack.enter_context(in_namespace("core"))
                yield ask("3")
            yield from inner()
            yield ask("5")

    def others():
        with in_namespace("other"):
            for _ in range(5):
                yield ask("other")

    list(zip(answers(), others(), strict=True))
    assert namespaces_of(manager) == {
        "acme": ["1", "5"],
        "bolt": ["2"],
        "core": ["3"],
        "inner": ["4"],
        "other": ["other"],
    }


def test_an_executor_and_tasks_begun_by_a_generator_among_others(manager, ask):
    @manager.exp_cache
    async def async_ask(question: str) -> str:
        return ask(question)  # in a task of its own

    def answers(tenant, threads):
        with in_namespace(tenant):
            yield
            threads.submit(ask, f"thread of {tenant}").result()
            yield

    async def async_answers(tenant):
        with in_namespace(tenant):
            yield
            yield await async_ask(f"task of {tenant}")

    async def tasks():
        sources = [async_answers("acme"), async_answers("bolt")]
        for _ in range(2):
            for source in sources:
                await anext(source)
        for source in sources:
            await source.aclose()

    with carry(ThreadPoolExecutor(1)) as threads:
        list(zip(answers("acme", threads), answers("bolt", threads), strict=True))
    asyncio.run(tasks())
    assert namespaces_of(manager) == {
        tenant: [f"task of {tenant}", f"task of {tenant}", f"thread of {tenant}"] for tenant in ("acme", "bolt")
    }


def test_a_block_decorates_plain_functions_and_refuses_what_would_run_after_it(manager, ask):
    @in_namespace("acme")
    def inside(question):
        return ask(question)

    inside("hi")
    inside("you")
    assert namespaces_of(manager) == {"acme": ["hi", "you"]}

    async def coroutine():
        pass

    def generator():
        yield

    async def async_generator():
        yield

    for function in (coroutine, generator, async_generator):
        for block in (in_namespace("acme"), bypass()):
            with pytest.raises(ConfigurationError, match="inside of it"):
                block(function)


def test_one_block_may_be_entered_again_and_again(manager, ask):
    block = in_namespace("acme")
    with block:
        ask("1")
        with in_namespace("bolt"), block:
            ask("2")
        ask("3")
    ask("4")
    with block:
        ask("5")
    assert namespaces_of(manager) == {"acme": ["1", "2", "3", "5"], "default": ["4"]}


def test_a_race_inside_of_a_generators_block(manager, ask):
    async def answers(tenant):
        with in_namespace(tenant):
            yield
            yield await race(lambda: ask(f"raced by {tenant}"))

    async def together():
        sources = [answers("acme"), answers("bolt")]
        for _ in range(2):
            for source in sources:
                await anext(source)
        for source in sources:
            await source.aclose()

    asyncio.run(together())
    assert namespaces_of(manager) == {"acme": ["raced by acme"], "bolt": ["raced by bolt"]}
