"""What goes on beside the calls, and how it ends: shutdown, closing, the end of the process."""

import asyncio
import gc
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from loguru import logger

from exp_pool import ExpManager, Refine
from exp_pool.errors import ExpPoolWarning, InvalidInputError

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture
def manager(make_manager):
    return make_manager(**PLAIN)


async def job(log, gate=None, stubborn=None):
    try:
        if gate:
            await gate.wait()
        log.append("done")
    except asyncio.CancelledError:
        log.append("cancelled")
        if stubborn:
            await stubborn.wait()
        raise


def test_what_has_ended_is_forgotten_and_the_others_have_names(manager):
    async def main():
        gate, log = asyncio.Event(), []
        manager.background.register(asyncio.create_task(job(log)), "short")
        manager.background.register(asyncio.create_task(job(log, gate)), "long")
        assert (manager.background.count, manager.background.names) == (2, ["short", "long"])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert manager.background.names == ["long"]
        gate.set()
        assert await manager.background.shutdown() == []
        assert (manager.background.count, log) == (0, ["done", "done"])

    asyncio.run(main())
    for wrong in ("a task", None, threading.Thread()):
        with pytest.raises(InvalidInputError, match="takes an asyncio.Task or a concurrent.futures.Future"):
            manager.background.register(wrong, "x")


def test_more_than_a_limit_at_once_is_said_once(manager):
    futures = [Future() for _ in range(13)]
    manager.background.limit = 11
    for future in futures[:11]:
        manager.background.register(future, "mine")
    with pytest.warns(
        ExpPoolWarning, match="12 tasks run in the background, such as 'twelfth'.*background.limit"
    ) as said:
        manager.background.register(futures[11], "twelfth")
        manager.background.register(futures[12], "thirteenth")
    assert len(said) == 1
    for future in futures:
        future.set_result(None)
    assert manager.background.count == 0


def test_shutdown_waits_then_cancels_then_reports(manager):
    log, said = [], []
    sink = logger.add(lambda m: said.append(m.record["message"]), level="WARNING")
    logger.enable("exp_pool")

    async def main():
        never, stubborn = asyncio.Event(), asyncio.Event()
        for name, task in (("quick", job(log)), ("long", job(log, never)), ("stubborn", job(log, never, stubborn))):
            manager.background.register(asyncio.create_task(task), name)
        names = await manager.background.shutdown(timeout=0.01)
        assert manager.background.names == names
        stubborn.set()
        await manager.background.shutdown()
        return names

    assert asyncio.run(main()) == ["stubborn"]
    logger.remove(sink)
    logger.disable("exp_pool")
    assert log == ["done", "cancelled", "cancelled"]
    assert said == ["the background task 'stubborn' did not end"]
    assert manager.background.count == 0


def test_what_is_begun_while_it_shuts_down_is_waited_for(manager):
    log = []

    async def child():
        for _ in range(50):
            await asyncio.sleep(0)
        log.append("done")

    async def parent():
        await asyncio.sleep(0)
        manager.background.register(asyncio.create_task(child()), "child")

    async def main():
        manager.background.register(asyncio.create_task(parent()), "parent")
        assert await manager.background.shutdown() == []

    asyncio.run(main())
    assert log == ["done"]


def test_threads_and_tasks_of_other_loops_are_waited_for_within_the_same_limit(manager):
    began, gate, log = threading.Event(), threading.Event(), []

    async def other_loop():
        manager.background.register(asyncio.create_task(asyncio.to_thread(gate.wait, 30)), "of another loop")
        began.set()
        await asyncio.to_thread(gate.wait, 30)
        await asyncio.sleep(0)
        log.append("other loop")

    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(asyncio.run, other_loop())
        assert began.wait(30)
        manager.background.register(threads.submit(lambda: gate.wait(30) and log.append("thread")), "thread")
        # Cancelled: the task ends; the thread, which runs, goes on.
        assert asyncio.run(manager.background.shutdown(timeout=0.01)) == ["thread"]
        assert manager.background.shutdown_blocking(timeout=0.01) == ["thread"]
        gate.set()
        assert asyncio.run(manager.background.shutdown()) == []
        other.result()
    assert sorted(log) == ["other loop", "thread"]


def test_tasks_of_a_loop_that_was_closed_are_forgotten(manager):
    loop = asyncio.new_event_loop()
    task = loop.create_task(asyncio.sleep(60))
    manager.background.register(task, "lost")
    assert manager.background.shutdown_blocking(0) == []
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert task.cancelled()
    assert manager.background.count == 0

    loop = asyncio.new_event_loop()
    task = loop.create_task(asyncio.sleep(60))
    manager.background.register(task, "lost")
    loop.close()
    assert manager.background.shutdown_blocking(0) == []
    assert manager.background.count == 0
    task._log_destroy_pending = False
    task.get_coro().close()
    del task
    gc.collect()


def test_a_task_that_is_looked_after_may_shut_down_the_others(manager):
    async def closer(log):
        manager.background.register(asyncio.create_task(job(log)), "other")
        assert await manager.background.shutdown() == []
        await manager.close()
        return log

    async def main():
        task = asyncio.create_task(closer([]))
        manager.background.register(task, "closer")
        return await task

    assert asyncio.run(main()) == ["done"]
    assert manager.sync.closed


@pytest.mark.parametrize("how", ["close", "async with", "with", "sync.close"])
def test_closing_waits_for_refinements_and_tasks(tmp_path, how):
    settings = {"store": f"sqlite:///{tmp_path}/pool.db", **PLAIN}
    manager, gate, log = ExpManager(**settings), threading.Event(), []

    def better(q):
        assert gate.wait(30)
        return "better"

    @manager.exp_cache(refine=Refine(better), name="f")
    def quick(q):
        return "quick"

    def begin():
        quick("q")
        manager.background.register(threads.submit(lambda: gate.wait(30) and log.append("done")), "mine")
        threading.Timer(0.05, gate.set).start()

    async def within():
        if how == "async with":
            async with manager:
                begin()
        else:
            begin()
            await manager.close()

    with ThreadPoolExecutor(1) as threads:
        if how in ("async with", "close"):
            asyncio.run(within())
        elif how == "with":
            with manager:
                begin()
        else:
            begin()
            manager.sync.close()
        assert log == ["done"]
    assert manager.background.count == 0
    with ExpManager(**settings) as again:
        assert [e.response for e in again.sync.iter_exps()] == ["better"]


def test_closing_cancels_what_takes_too_long(tmp_path):
    manager, log = ExpManager(store="memory://", exit_timeout=0.01, **PLAIN), []

    async def main():
        manager.background.register(asyncio.create_task(job(log, asyncio.Event())), "long")
        await asyncio.sleep(0)
        await manager.close()

    asyncio.run(main())
    assert (log, manager.background.count) == (["cancelled"], 0)


def test_closing_on_the_loops_own_thread_cancels_and_waits_for_nothing():
    manager, log = ExpManager(store="memory://", exit_timeout=60, **PLAIN), []

    async def main():
        with manager:
            manager.background.register(asyncio.create_task(job(log, asyncio.Event())), "long")
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert (log, manager.background.count) == (["cancelled"], 0)


PROGRAM = """
import asyncio, signal, sys, threading
from exp_pool import ExpManager, Refine

manager = ExpManager(store="sqlite:///pool.db", index="none://", embedder="none")
began = threading.Event()

def better(q):
    began.wait(30)
    return "better"

@manager.exp_cache(name="f", refine=Refine(better))
def quick(q):
    return "quick"

if sys.argv[1] == "exit":
    quick("q")
    threading.Timer(0.1, began.set).start()  # the process ends meanwhile, and nobody closes the manager
else:
    async def main():
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, asked.set)
        async with manager:
            await asyncio.to_thread(quick, "q")
            print("ready", flush=True)
            await asked.wait()
            began.set()

    asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["exit", "SIGTERM"])
def test_the_end_of_the_process_waits(tmp_path, way):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, way], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    if way == "SIGTERM":
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    with ExpManager(store=f"sqlite:///{tmp_path}/pool.db", **PLAIN) as manager:
        assert [e.response for e in manager.sync.iter_exps()] == ["better"]
