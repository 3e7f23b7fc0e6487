"""Guarantee 9: nothing crosses from one tenant's namespace to another: threads, generators, background work.

Where a call cannot know whose it is, and was told not to guess, it runs uncached and says so.
"""

import asyncio
import contextvars
import multiprocessing
import threading
import warnings
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from exp_pool import (
    Answer,
    Experience,
    ExpManager,
    Refine,
    Score,
    Step,
    VerifiedJudge,
    bypass,
    carry,
    exp_cache,
    in_namespace,
    race,
    record,
)
from exp_pool.errors import ConfigurationError, ExpPoolError, ExpPoolWarning, InvalidInputError, NamespaceError
from exp_pool.protocols import RecordQuery, Verdict


def plain(**settings):
    return ExpManager(store="memory://", index="none://", embedder="none", **settings)


def by_one_vector():
    """A manager to which all texts are the same."""
    return ExpManager(store="memory://", index="exact://", embedder=lambda texts: [[1.0, 0.0] for _ in texts])


@pytest.fixture
def manager():
    with plain() as made:
        yield made


def namespaces_of(manager):
    """Where experiences lie, and the requests there."""
    found = {}
    for row in manager.sync.store.scan(RecordQuery(None)):
        found.setdefault(row.namespace, []).append(row.request)
    return {space: sorted(requests) for space, requests in found.items()}


@pytest.fixture
def ask(manager):
    @manager.exp_cache(name="ask")
    def ask(question: str) -> str:
        return f"to {question}"

    return ask


# ── Threads and processes ─────────────────────────────────────────────────────────────────────────────────────────────


def test_an_executor_carries_the_namespace_of_where_work_is_submitted(manager, ask):
    with carry(ThreadPoolExecutor(4)) as threads:
        for tenant in ("acme", "bolt"):
            with in_namespace(tenant):
                threads.submit(ask, f"one of {tenant}").result()
                list(threads.map(ask, [f"{n} of {tenant}" for n in range(3)]))
        threads.submit(ask, "nobody's").result()
    assert namespaces_of(manager) == {
        tenant: [f"{n} of {tenant}" for n in (0, 1, 2, "one")] for tenant in ("acme", "bolt")
    } | {"default": ["nobody's"]}


async def _in_executor(ask, threads):
    loop = asyncio.get_running_loop()
    with in_namespace("acme"):
        return await loop.run_in_executor(threads, ask, "hi")


def test_an_executor_of_a_loop_carries_it_too(manager, ask):
    with carry(ThreadPoolExecutor(1)) as threads:
        asyncio.run(_in_executor(ask, threads))
    assert namespaces_of(manager) == {"acme": ["hi"]}


def test_bypass_and_record_go_into_the_executor(manager):
    runs = []

    @manager.exp_cache
    def inner(question: str) -> str:
        runs.append(question)
        return question

    @manager.exp_cache
    def outer(question: str) -> list[str]:
        def part(number):
            record(tokens_in=1, step=Step(action=f"part {number}"))
            return question

        return list(threads.map(part, range(50)))

    with carry(ThreadPoolExecutor(8)) as threads:
        with bypass():
            threads.submit(inner, "hi").result()
            threads.submit(inner, "hi").result()
        assert runs == ["hi", "hi"]
        assert manager.sync.get_exps_count() == 0
        found = manager.sync.get_exp(outer.call("many").id)
    assert found.metric.tokens_in == 50, "none was lost among the threads"
    assert len(found.trajectory) == 50


def _where(question):
    from exp_pool.surroundings import current_namespace, current_switches

    switches = current_switches()
    return question, current_namespace(), switches.read, switches.write


def test_processes_get_namespace_and_bypass_by_value():
    with carry(ProcessPoolExecutor(1)) as processes:
        with in_namespace("acme"), bypass(write=False):
            there = processes.submit(_where, "one")
            several = processes.map(_where, ["two", "three"], chunksize=2)
        nobody = processes.submit(_where, "four")
        assert there.result() == ("one", "acme", False, True)
        assert list(several) == [("two", "acme", False, True), ("three", "acme", False, True)]
        assert nobody.result() == ("four", None, True, True)


class OneAfterTheOther(Executor):
    """An executor of somebody's own."""

    def submit(self, fn, /, *args, **kwargs):
        done = Future()
        thread = threading.Thread(target=lambda: done.set_result(fn(*args, **kwargs)))
        thread.start()
        thread.join()
        return done


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_worker_that_was_forked_inside_a_block_is_not_that_tenants_for_ever():
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as processes:
        with in_namespace("acme"), bypass():
            processes.submit(_where, "one").result()
        assert processes.submit(_where, "two").result() == ("two", None, True, True)


def test_any_executor_and_one_that_carries_already(manager, ask):
    threads = carry(carry(OneAfterTheOther()))
    with in_namespace("acme"):
        list(threads.map(ask, ["a", "b"]))
    assert namespaces_of(manager) == {"acme": ["a", "b"]}


def test_what_an_executor_cannot_know_stays_its_own():
    threads = ThreadPoolExecutor(3)
    carrying = carry(threads)
    assert carrying._max_workers == 3
    assert repr(threads) in repr(carrying)
    carrying.shutdown(cancel_futures=True)
    with pytest.raises(RuntimeError, match="shutdown"):
        threads.submit(print)


@pytest.mark.parametrize("wrong", [print, None, ThreadPoolExecutor])
def test_what_is_no_executor_is_refused_with_the_way_to_do_it_by_hand(wrong):
    with pytest.raises(InvalidInputError, match=r"copy_context\(\)\.run"):
        carry(wrong)


def test_a_thread_by_hand(manager, ask):
    with in_namespace("acme"):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(ask, "hi"))
        thread.start()
        thread.join()
    assert namespaces_of(manager) == {"acme": ["hi"]}


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


# ── Background work ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def model(manager):
    """A cached model that scorers and judges ask."""

    @manager.exp_cache(name="model")
    def model(prompt: str) -> str:
        return prompt

    @manager.exp_cache(name="model")
    async def async_model(prompt: str) -> str:
        return prompt

    model.later = async_model
    return model


def asked_by(manager):
    return {
        space: [request for request in requests if request.startswith("rate")]
        for space, requests in namespaces_of(manager).items()
    }


@pytest.mark.parametrize("of_decorator", [True, False], ids=["namespace=", "in_namespace"])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_scorers_ask_the_pool_in_the_namespace_of_what_they_rate(manager, model, kind, of_decorator):
    def rate(context):
        model(f"rate {context.experience.request}")
        return Score(value=1.0)

    async def async_rate(context):
        await model.later(f"rate {context.experience.request}")
        return Score(value=1.0)

    scorer = rate if kind == "def" else async_rate
    for tenant in ("acme", "bolt"):
        if of_decorator:
            manager.exp_cache(name="f", namespace=tenant, scorer=scorer)(lambda q: q)(f"of {tenant}")
        else:
            with in_namespace(tenant):
                manager.exp_cache(name="f", scorer=scorer)(lambda q: q)(f"of {tenant}")
    manager.sync.flush()
    assert asked_by(manager) == {"acme": ["rate of acme"], "bolt": ["rate of bolt"]}


def test_scoring_by_hand_asks_in_the_namespace_of_what_it_rates(manager, model, ask):
    def rate(context):
        model(f"rate {context.experience.request}")
        return Score(value=1.0)

    with in_namespace("acme"):
        ask("hi")
        manager.sync.score_exps(rate, {"function": "ask"})
    assert asked_by(manager) == {"acme": ["rate hi"]}


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_refinements_run_in_the_namespace_of_their_call(manager, model, kind):
    def better(question):
        return model(f"rate {question}")

    async def async_better(question):
        return await model.later(f"rate {question}")

    async def quick(question):
        return question

    if kind == "def":
        manager.exp_cache(name="f", namespace="acme", refine=Refine(better))(lambda question: question)("hi")
    else:
        function = manager.exp_cache(name="f", namespace="acme", refine=Refine(async_better))(quick)

        async def call():
            await function("hi")
            await manager.flush()

        asyncio.run(call())
    manager.sync.flush()
    assert asked_by(manager) == {"acme": ["rate hi"]}


class AskingJudge:
    """A judge that asks a cached model about what it is shown."""

    candidates = 1

    def __init__(self, model):
        self.model = model

    def judge(self, question):
        self.model(f"rate {question.request}")
        return Verdict(question.hits[0], "yes")


def test_judges_ask_the_pool_in_the_namespace_of_the_call():
    with by_one_vector() as manager:
        model = manager.exp_cache(name="model")(lambda prompt: prompt)
        function = manager.exp_cache(name="f", namespace="acme", judge=AskingJudge(model))(lambda question: question)
        function("hi")
        manager.sync.flush()
        assert function("you") == "hi"
        assert asked_by(manager) == {"acme": ["rate you"]}


def test_what_compares_answers_asks_in_the_namespace_of_the_call():
    with by_one_vector() as manager:
        model = manager.exp_cache(name="model")(lambda prompt: prompt)

        def same(stored, live):
            model(f"rate {stored} and {live}")
            return True

        judge = VerifiedJudge(max_error_rate=0.02, same=same)
        function = manager.exp_cache(name="f", namespace="acme", judge=judge)(lambda question: question)
        function("hi")
        manager.sync.flush()
        function("you")
        manager.sync.flush()
        assert asked_by(manager) == {"acme": ["rate hi and you"]}


def test_a_reranker_asks_in_the_namespace_of_the_query(manager, model):
    def relevance(request, texts):
        for text in texts:
            model(f"rate {text}")
        return [1.0] * len(texts)

    for text in ("the sky is blue", "the sea is blue"):
        manager.sync.create_exp(Experience(function="f", request=text, response="yes", namespace="acme"))
    found = manager.sync.search("blue", query_type="lexical", namespace="acme", reranker=relevance)
    assert len(found) == 2
    assert asked_by(manager) == {"acme": ["rate the sea is blue", "rate the sky is blue"]}


# ── A namespace is required ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def strict():
    with plain(require_namespace=True) as manager:
        yield manager


def test_a_call_without_a_namespace_runs_uncached_and_says_so_once(strict):
    runs = []

    @strict.exp_cache(name="asking")
    def ask(question: str) -> str:
        runs.append(question)
        return question

    with pytest.warns(ExpPoolWarning) as warned:
        for _ in range(3):
            assert ask("hi") == "hi"
        with ThreadPoolExecutor(1) as threads, in_namespace("acme"):
            threads.submit(ask, "hi").result()
    assert len(warned) == 1
    for part in ("asking", "in_namespace", "namespace=", "carry"):
        assert part in str(warned[0].message)
    assert len(runs) == 4
    assert strict.stats().uncached == 4
    assert "no namespace" in ask.explain("hi")
    assert namespaces_of(strict) == {}


def test_a_call_with_a_namespace_is_cached_as_ever(strict):
    runs = []

    @strict.exp_cache
    def ask(question: str) -> str:
        runs.append(question)
        return question

    @strict.exp_cache(namespace="fixed")
    def fixed(question: str) -> str:
        return question

    @strict.exp_cache(namespace=lambda call: call.arguments["tenant"])
    def asked(question: str, tenant: str) -> str:
        return question

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with in_namespace("acme"):
            assert ask("hi") == ask("hi")
        with carry(ThreadPoolExecutor(1)) as threads, in_namespace("acme"):
            threads.submit(ask, "hi").result()
        fixed("hi")
        asked("hi", "bolt")
    assert runs == ["hi"]
    assert namespaces_of(strict) == {"acme": ["hi"], "bolt": ["hi"], "fixed": ["hi"]}


QUERIES = {
    "search": lambda pool: pool.search("hi", query_type="exact"),
    "query_exps": lambda pool: pool.query_exps("hi", query_type="exact"),
    "get_exps_count": lambda pool: pool.get_exps_count(),
    "iter_exps": lambda pool: list(pool.iter_exps()),
    "create_exp": lambda pool: pool.create_exp(Experience(function="f", request="hi", response="yes")),
    "get_exp": lambda pool: pool.get_exp("id"),
    "update_exp": lambda pool: pool.update_exp("id", model="m"),
    "annotate": lambda pool: pool.annotate("id", expected="no"),
    "feedback": lambda pool: pool.feedback("id", 1.0),
    "history": lambda pool: pool.history("id"),
    "delete_exp": lambda pool: pool.delete_exp("id"),
    "delete_exps": lambda pool: pool.delete_exps({"function": "f"}),
    "delete_all_exps": lambda pool: pool.delete_all_exps(),
    "erase": lambda pool: pool.erase({"function": "f"}),
    "clear_expired": lambda pool: pool.clear_expired(),
    "clear_by_key": lambda pool: pool.clear_by_key("key"),
    "report": lambda pool: pool.report(),
    "why_unscored": lambda pool: pool.why_unscored("id"),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_what_is_asked_for_no_namespace_is_an_error_that_says_what_to_do(strict, query):
    with pytest.raises(NamespaceError, match=r"in_namespace.*namespace="):
        query(strict.sync)
    with in_namespace("acme"):
        try:
            query(strict.sync)
        except NamespaceError:
            pytest.fail("one is named here")
        except ExpPoolError:
            pass  # there is no such experience


def test_a_query_or_an_experience_may_name_it_itself(strict):
    made = strict.sync.create_exp(Experience(function="f", request="hi", response="yes", namespace="acme"))
    assert [found.id for found in strict.sync.query_exps("hi", query_type="exact", namespace="acme")] == [made]


def test_what_is_about_the_whole_pool_needs_none(strict):
    with in_namespace("acme"):
        strict.sync.create_exp(Experience(function="f", request="hi", response="yes"))
    strict.sync.flush()
    strict.sync.warm_up()
    assert not strict.sync.doctor().problems
    assert strict.sync.stats().stored == 1


def test_the_managers_own_namespace_is_what_nobody_falls_back_to():
    with plain(namespace="acme", require_namespace=True) as manager:
        with pytest.raises(NamespaceError):
            manager.sync.get_exps_count()


def test_the_processs_manager_may_require_it_by_its_environment(monkeypatch):
    from exp_pool import get_exp_manager, set_exp_manager

    for name, value in (("STORE", "memory://"), ("INDEX", "none://"), ("REQUIRE_NAMESPACE", "true")):
        monkeypatch.setenv(f"EXP_POOL_{name}", value)
    set_exp_manager(None)

    @exp_cache
    def ask(question: str) -> str:
        return question

    try:
        with pytest.warns(ExpPoolWarning, match="require_namespace is on"):
            ask("hi")
        with in_namespace("acme"):
            assert isinstance(ask.call("hi"), Answer)
            assert get_exp_manager().sync.get_exps_count() == 1
    finally:
        set_exp_manager(None)


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
