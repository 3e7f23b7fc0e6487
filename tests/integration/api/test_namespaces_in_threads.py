"""Guarantee 9: what surrounds a call goes into threads and processes where it is carried, and nowhere else."""

import asyncio
import contextvars
import multiprocessing
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from support.tenants import namespaces_of, plain

from exp_pool import (
    Step,
    bypass,
    carry,
    in_namespace,
    record,
)
from exp_pool.errors import InvalidInputError


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
    from exp_pool.runtime.call_context import current_access, current_namespace

    switches = current_access()
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
