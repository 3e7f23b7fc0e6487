"""The first second of a program: a model on its way is waited for, once, by who needs it and by nobody else."""

import asyncio
import secrets
import threading

import pytest
from conftest import letters
from support.children import in_child
from support.gates import until

from exp_pool import Experience, ExpManager, ThresholdJudge
from exp_pool.api import registry
from exp_pool.core.record import TaskKind
from exp_pool.errors import EmbedderError, ExpPoolWarning, StillLoadingError
from exp_pool.protocols import RecordQuery
from exp_pool.stores.memory import MemoryStore

pytestmark = pytest.mark.timeout(60)


class SlowEmbedder:
    """Is there once the gate is open; by letters."""

    identity = "letters"
    url, gate, entered, made = "", threading.Event(), threading.Event(), []

    def __init__(self, name):
        self.made.append(name)
        self.entered.set()
        if not self.gate.wait(30):
            raise EmbedderError("the gate stayed shut")

    def embed(self, texts):
        return letters(texts)

    def fits(self, texts):
        return [True] * len(texts)


class Unobtainable:
    def __init__(self, name):
        raise EmbedderError(f"{name} is not to be had: install it")


@pytest.fixture(autouse=True)
def slow(monkeypatch):
    """A new kind of embedder, as a new plug would be: one line in the registry."""
    monkeypatch.setitem(registry.EMBEDDERS, "slow", f"{__name__}:SlowEmbedder")
    monkeypatch.setitem(registry.EMBEDDERS, "unobtainable", f"{__name__}:Unobtainable")
    monkeypatch.setattr(SlowEmbedder, "url", f"slow/{secrets.token_hex(4)}")  # a test shares its model with no other
    monkeypatch.setattr(SlowEmbedder, "gate", threading.Event())
    monkeypatch.setattr(SlowEmbedder, "entered", threading.Event())
    monkeypatch.setattr(SlowEmbedder, "made", [])
    yield SlowEmbedder
    SlowEmbedder.gate.set()


def exp(request, function="f", **fields):
    return Experience(**{"function": function, "request": request, "response": f"to {request}", **fields})


def injected(manager, **options):
    """A function that gives what it is shown."""

    @manager.exp_cache(name="f", inject="experiences", **options)
    def f(req, experiences=()):
        return [e.request for e in experiences]

    return f


def owed(manager):
    return manager.sync.store.count(RecordQuery(None, pending=TaskKind.EMBED))


# Waiting


def test_the_first_call_waits_for_the_model_not_out_of_embed_timeout(make_manager, slow):
    manager = make_manager(embedder=slow.url, embed_timeout=0.05)
    manager.sync.create_exps([exp("abc"), exp("xyz")])
    answers = []
    call = threading.Thread(target=lambda: answers.append(injected(manager)("abd")))
    call.start()
    assert slow.entered.wait(20)
    call.join(0.5)  # ten times embed_timeout
    assert answers == []
    slow.gate.set()
    call.join(20)
    assert answers == [["abc", "xyz"]]
    assert manager.stats().degraded == 0


async def _all_but_the_model(manager, slow):
    @manager.exp_cache(name="f", inject="experiences")
    async def f(req, experiences=()):
        return [e.request for e in experiences]

    @manager.exp_cache(name="exact")
    async def exact(req):
        return req

    await exact("x")
    waiting = [asyncio.create_task(f(f"ab{i}")) for i in range(20)]  # more than there are threads for blocking work
    while not slow.entered.is_set():
        await asyncio.sleep(0)
    assert await asyncio.wait_for(exact.call("x"), 10)
    assert (await asyncio.wait_for(manager.query_exps("x", query_type="exact"), 10))[0].request == "x"
    assert not any(task.done() for task in waiting)
    slow.gate.set()
    return await asyncio.gather(*waiting)


def test_coroutines_wait_on_their_loop_and_keep_nobody_from_a_hit(make_manager, slow, tmp_path):
    manager = make_manager(store=f"sqlite:///{tmp_path}/p.db", embedder=slow.url, embed_timeout=60, hot_ttl=0)
    manager.sync.create_exps([exp("abc")])
    shown = asyncio.run(_all_but_the_model(manager, slow))
    assert all("abc" in each for each in shown)
    assert manager.stats().degraded == 0


def test_queries_that_wait_keep_no_coroutine_from_a_hit(make_manager, slow, tmp_path):
    manager = make_manager(store=f"sqlite:///{tmp_path}/p.db", embedder=slow.url, hot_ttl=0)
    manager.sync.create_exps([exp("abc", "exact")])

    async def ask():
        @manager.exp_cache(name="exact")
        async def exact(req):
            return req

        await exact("x")
        waiting = [asyncio.create_task(manager.search("abd")) for _ in range(10)]
        waiting += [asyncio.create_task(manager.embed(["abd"])) for _ in range(10)]
        waiting += [asyncio.create_task(manager.warm_up()) for _ in range(10)]
        while not slow.entered.is_set():
            await asyncio.sleep(0)
        assert (await asyncio.wait_for(exact.call("x"), 10)).found_by == "exact"
        assert not any(task.done() for task in waiting)
        slow.gate.set()
        return await asyncio.gather(*waiting)

    found = asyncio.run(ask())
    assert [[hit.experience.request for hit in hits] for hits in found[:10]] == [["abc", "x"]] * 10


@pytest.mark.timeout(20)  # 60 calls that each waited would take half a minute
def test_the_wait_is_counted_once_not_for_each_call(make_manager, slow):
    manager = make_manager(embedder=slow.url, load_timeout=0.5, exit_timeout=0)
    manager.sync.create_exps([exp("abc")])
    f = injected(manager)
    with pytest.warns(ExpPoolWarning, match=r"slow/[0-9a-f]+ is still loading, for \d+ s so far.*warm_up\(\)"):
        assert [f(f"ab{i}") for i in range(60)] == [[]] * 60
    assert manager.stats().degraded == 60
    slow.gate.set()
    manager.sync.warm_up()
    assert len(f("abd")) == 5


@pytest.mark.timeout(20)
def test_a_load_timeout_of_0_waits_for_nothing(make_manager, slow):
    manager = make_manager(embedder=slow.url, load_timeout=0)
    manager.sync.create_exps([exp("abc")])
    f = injected(manager)
    with pytest.warns(ExpPoolWarning, match="still loading"):
        assert f("abd") == []
    assert slow.entered.wait(10), "it loads all the same"


def test_with_nothing_to_compare_with_nobody_waits(make_manager, slow):
    manager = make_manager(embedder=slow.url)
    assert injected(manager)("abd") == []
    assert slow.entered.wait(10), "the next call will need it"
    assert manager.stats().degraded == 0


def test_a_judge_waits_as_well(make_manager, slow):
    manager = make_manager(embedder=slow.url, embed_timeout=0.05)
    manager.sync.create_exps([exp("abc abc")])

    @manager.exp_cache(name="f", judge=ThresholdJudge(0.9))
    def f(req):
        return "live"

    threading.Timer(0.3, slow.gate.set).start()
    assert f("abc acb") == "to abc abc"


# Warming up


def test_warm_up_waits_for_the_model_and_then_nobody_does(make_manager, slow):
    manager = make_manager(embedder=slow.url, load_timeout=0, query_timeout=0.1)
    manager.sync.create_exps([exp("abc")])
    threading.Timer(0.3, slow.gate.set).start()  # longer than any time-out: a big model may come from the hub
    asyncio.run(manager.warm_up())
    assert injected(manager)("abd") == ["abc"]


def test_warm_up_of_an_exact_only_manager_opens_its_store(make_manager, tmp_path, slow):
    for settings in ({"embedder": "none"}, {"embedder": slow.url, "index": "none://"}):
        make_manager(store=f"sqlite:///{tmp_path}/{len(settings)}.db", **settings).sync.warm_up()
        assert (tmp_path / f"{len(settings)}.db").exists()
    assert slow.made == []


def test_the_reason_is_the_true_one(make_manager):
    manager = make_manager(embedder="unobtainable/model")
    manager.sync.create_exps([exp("abc")])
    with pytest.raises(EmbedderError, match="model is not to be had: install it"):
        manager.sync.warm_up()
    with pytest.warns(ExpPoolWarning, match="f: the pool could not show.*model is not to be had: install it"):
        assert injected(manager)("abd") == []


def test_each_reason_is_said(make_manager, slow):
    """First it loads, then it is too slow: the second is no repetition of the first."""
    manager = make_manager(embedder=slow.url, load_timeout=0, embed_timeout=0.05, exit_timeout=0)
    manager.sync.create_exps([exp("abc")])
    f = injected(manager)
    with pytest.warns(ExpPoolWarning, match="still loading"):
        f("abd")
    slow.gate.set()
    manager.sync.warm_up()
    hanging = threading.Event()
    manager.sync._embeddings._source.wait(0).embed = lambda texts: hanging.wait(30) and letters(texts)
    with pytest.warns(ExpPoolWarning, match="too slow for embed_timeout"):
        f("abe")
    hanging.set()


def test_a_query_says_that_it_waited_for_the_model(make_manager, slow):
    manager = make_manager(embedder=slow.url, query_timeout=0.2)
    manager.sync.create_exps([exp("abc")])
    with pytest.raises(StillLoadingError, match="slow/[0-9a-f]+ is still loading"):
        manager.sync.query_exps("abd")
    slow.gate.set()
    manager.sync.warm_up()
    assert [e.request for e in manager.sync.query_exps("abd")] == ["abc"]


# One for all


def test_managers_of_one_embedder_share_its_loading(make_manager, slow):
    one, two = make_manager(embedder=slow.url), make_manager(embedder=slow.url)
    slow.gate.set()
    one.sync.warm_up()
    two.sync.warm_up()
    assert len(slow.made) == 1


@pytest.mark.timeout(20)
def test_managers_of_one_embedder_share_the_wait(make_manager, slow):
    managers = [make_manager(embedder=slow.url, load_timeout=0.3, exit_timeout=0) for _ in range(40)]
    for manager in managers:
        manager.sync.create_exps([exp("abc")])
        with pytest.warns(ExpPoolWarning, match="still loading"):
            assert injected(manager)("abd") == []


@pytest.mark.timeout(30)
def test_a_child_that_was_forked_meanwhile_does_not_hang_and_says_why(make_manager, slow):
    manager = make_manager(embedder=slow.url, exit_timeout=0)
    manager.sync.create_exps([exp("abc")])
    manager.sync._embeddings.begin()
    assert slow.entered.wait(10)

    def child():
        with pytest.warns(ExpPoolWarning, match="forked while its parent was loading slow/[0-9a-f]+, and.*warm_up"):
            assert injected(manager)("abd") == []
        assert manager.sync.query_exps("abc", query_type="exact")

    assert in_child(child) == 0
    slow.gate.set()
    assert injected(manager)("abd") == ["abc"], "the parent's goes on"

    def later():
        assert injected(manager)("abe")[:1] == ["abc"]

    assert in_child(later) == 0


# Who loads it


class Tidied(MemoryStore):
    """Says when a round of upkeep has come to its end."""

    def __init__(self):
        super().__init__()
        self.rounds = 0

    def tidy(self, forget_before):
        super().tidy(forget_before)
        self.rounds += 1


def test_exact_calls_load_no_model(make_manager, slow):
    store = Tidied()
    manager = make_manager(store=store, embedder=slow.url)

    @manager.exp_cache(name="f")
    def f(req):
        return req

    f("abc")
    until(lambda: store.rounds)
    assert slow.made == []
    assert owed(manager) == 1
    slow.gate.set()
    assert injected(manager)("abd") == ["abc"], "who wants meaning gets it"


def test_a_pool_that_is_asked_by_meaning_is_kept_up_to_date_by_whoever_writes(make_manager, slow, tmp_path):
    url = f"sqlite:///{tmp_path}/pool.db"
    slow.gate.set()
    with ExpManager(store=url, index="exact://", embedder=slow.url) as manager:
        manager.sync.create_exps([exp("abc")])
        assert manager.sync.query_exps("abd")
    slow.made.clear()
    slow.url += "-of-another-process"
    manager = make_manager(store=url, embedder=slow.url)

    @manager.exp_cache(name="f")
    def f(req):
        return req

    f("xyz")
    until(lambda: slow.made and not owed(manager))


def test_flush_embeds_whatever_is_owed_however_long_the_model_takes(make_manager, slow):
    manager = make_manager(embedder=slow.url, query_timeout=0.1)

    @manager.exp_cache(name="f")
    def f(req):
        return req

    f("abc")
    threading.Timer(0.2, slow.gate.set).start()
    manager.sync.flush()
    assert (manager.stats().embedded, owed(manager)) == (1, 0)


# What was put in by hand


@pytest.mark.parametrize("put", ["create_exp", "create_exps", "change", "import", "snapshot"])
def test_the_next_call_finds_what_was_put_in_by_hand(make_manager, tmp_path, put):
    from exp_pool import snapshots
    from exp_pool.curation import apply_frame, to_frame, undo
    from exp_pool.curation.importers import load

    manager = make_manager()
    f = injected(manager)
    assert f("first") == []
    manager.sync.flush()
    added = exp("abc abc")
    if put == "create_exp":
        manager.sync.create_exp(added)
    elif put == "create_exps":
        manager.sync.create_exps([added])
    elif put == "change":
        manager.sync.create_exp(added)
        manager.sync.flush()
        frame = to_frame(manager)
        gone = apply_frame(manager, frame[frame.request == "first"], dry_run=False, delete_missing=True)
        undo(manager, gone.id)
    elif put == "import":
        from exp_pool.curation.exporters import save

        other = make_manager()
        other.sync.create_exp(added)
        save(other, tmp_path / "rows.jsonl", "jsonl")
        load(manager, tmp_path / "rows.jsonl", trust="trusted")
    else:
        other = make_manager(embedder="none")
        other.sync.create_exp(added)
        snapshots.save(other, tmp_path / "snapshot")
        assert snapshots.load(manager, tmp_path / "snapshot") == 1
    assert f("abc acb")[0] == "abc abc"


def test_the_judge_finds_it_too_at_its_next_call(make_manager):
    manager = make_manager()

    @manager.exp_cache(name="f", judge=ThresholdJudge(0.9))
    def f(req):
        return "live"

    assert f("first one") == "live"
    manager.sync.create_exp(exp("abc abc"))
    assert f("abc acb") == "to abc abc"


def test_the_first_call_finds_what_another_process_has_left_to_be_embedded(make_manager, tmp_path):
    url = f"sqlite:///{tmp_path}/pool.db"
    with ExpManager(store=url, index="none://") as writer:
        writer.sync.create_exps([exp(f"abc {letter}") for letter in "defgh"])
    assert len(injected(make_manager(store=url))("abc x")) == 5


class Stuck:
    """Embeds one text at once, and more only when it is let go."""

    def __init__(self):
        self.released, self.entered = threading.Event(), threading.Event()

    def __call__(self, texts):
        if len(texts) > 1:
            self.entered.set()
            assert self.released.wait(30)
        return letters(texts)


@pytest.mark.timeout(30)  # 40 calls that each waited for their time-out would take 40 s
def test_a_call_waits_for_many_rows_no_longer_than_embed_timeout_and_only_once(make_manager):
    stuck = Stuck()
    embedder = registry.CallableEmbedder(stuck, "stuck")
    manager = make_manager(embedder=embedder, embed_timeout=1.0, exit_timeout=0)
    manager.sync.create_exps([exp(f"abc {i}") for i in range(200)])
    f = injected(manager)
    with pytest.warns(ExpPoolWarning, match=r"f: calls do not see all that is stored yet.*flush\(\)"):
        for i in range(40):
            f(f"abd {i}")
    stuck.released.set()
    manager.sync.flush()
    assert owed(manager) == 0, "nothing was put off"
    assert len(f("abc abc")) == 5
