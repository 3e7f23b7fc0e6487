"""Two tiers: what is in front is never older than what is behind, and either may die."""

import secrets
import threading
from dataclasses import replace

import pytest
from support.servers import until

from exp_pool import ExpManager
from exp_pool.api.registry import open_cache_tier
from exp_pool.core.config import ExpPoolConfig
from exp_pool.errors import ConfigurationError, StoreError
from exp_pool.protocols import Deletion, EvictionOrder, Put, PutMode, PutStatus
from exp_pool.stores.memory import MemoryStore
from exp_pool.stores.near_cache import NearCacheStore
from exp_pool.stores.sql.sqlite import SqliteStore
from exp_pool.testing import FaultyStore, every
from exp_pool.testing.factories import put, row


@pytest.fixture
def tier_url(redis_url):
    return f"{redis_url}?prefix=t{secrets.token_hex(4)}"


@pytest.fixture
def tier(tier_url):
    tier = open_cache_tier(tier_url, ExpPoolConfig(store_timeout=2))
    yield tier
    tier.close()


@pytest.fixture
def back():
    return FaultyStore(MemoryStore())


@pytest.fixture
def store(back, tier):
    return NearCacheStore(back, tier, 0.2)


def reads(back):
    return back.calls.count("get_many") + back.calls.count("claim")


def test_what_was_read_or_written_once_is_not_asked_of_the_store_again(store, back):
    mine, other = row("a"), row("b")
    put(store, mine)
    assert store.get_many("n", [mine.key]) == [mine]
    assert store.claim("n", mine.key, "me", 60).record == mine
    assert reads(back) == 0
    back.put_many([Put(other)])  # as another process would
    assert store.get_many("n", [other.key, mine.key, "none"]) == [other, mine, None]
    assert store.get_many("n", [mine.key, other.key]) == [mine, other]
    assert reads(back) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda s, r: s.delete_many("n", [r.id]),
        lambda s, r: s.clear("n"),
        lambda s, r: s.evict("n", EvictionOrder.LRU, 5),
        lambda s, r: s.apply_tombstones("n", [Deletion(r.id, 1)]),
        lambda s, r: put(s, replace(r, response='"new"'), mode=PutMode.UPDATE, expected_revision=1),
        lambda s, r: put(s, replace(r, response='"new"', key="other"), mode=PutMode.UPDATE, expected_revision=1),
        lambda s, r: put(s, row(r.request, "new")),
        lambda s, r: s.put_many([Put(row(r.request, "newer")), Put(row(r.request, "new"))]),
    ],
    ids=["delete", "clear", "evict", "apply_tombstones", "update", "update-by-id", "supersede", "twice"],
)
def test_another_process_sees_each_change_at_once(store, back, tier_url, change):
    mine = row()
    put(store, mine)
    other = NearCacheStore(back, open_cache_tier(tier_url, ExpPoolConfig()), 0.2)
    assert other.get_many("n", [mine.key]) == [mine]
    change(store, mine)
    assert other.get_many("n", [mine.key]) == back.get_many("n", [mine.key]) != [mine]
    other.close()


def test_a_reader_overtaken_by_a_writer_does_not_put_back_what_he_read(store, back, tier):
    """Between his look and his fill somebody has written: before, within, and after the writer's own two steps."""
    old = row()
    back.put_many([Put(old)])
    contents = store._contents()
    ((_, ticket),) = tier.look(contents, "n", [old.key])
    new = row(response="new")
    put(store, new)
    tier.fill(contents, [(old, ticket)])
    assert store.get_many("n", [old.key]) == [new]

    mark = tier.begin(contents, "n", [old.key])
    ((found, within),) = tier.look(contents, "n", [old.key])
    assert (found, within) == (None, None)  # nobody fills while somebody writes
    tier.fill(contents, [(old, ticket)])
    assert tier.look(contents, "n", [old.key])[0][0] is None
    tier.end(contents, "n", [old.key], mark)
    assert store.get_many("n", [old.key]) == [new]


def test_of_two_writers_the_first_does_not_put_its_row_over_the_second(store, tier):
    contents, first, second = store._contents(), row(response="first"), row(response="second")
    one = tier.begin(contents, "n", [first.key])
    two = tier.begin(contents, "n", [first.key])
    tier.end(contents, "n", [first.key], two, [second])
    tier.end(contents, "n", [first.key], one, [first])
    assert tier.look(contents, "n", [first.key])[0][0] is None


def test_a_row_is_not_put_into_a_namespace_that_is_being_cleared(store, back, tier):
    kept = row()
    contents = store._contents()
    mark = tier.begin(contents, "n", [kept.key])
    clearing = tier.begin(contents, "n", [])
    tier.end(contents, "n", [kept.key], mark, [kept])
    tier.end(contents, "n", [], clearing)
    assert store.get_many("n", [kept.key]) == [None]


def orders(*stories):
    """Every way in which these stories, told step by step, can come between each other."""
    if not any(stories):
        yield ()
    for number, story in enumerate(stories):
        if story:
            rest = (*stories[:number], story[1:], *stories[number + 1 :])
            yield from ((story[0], *order) for order in orders(*rest))


@pytest.mark.parametrize("deletes", [False, True], ids=["writers", "a-deletion"])
@pytest.mark.parametrize("forgets", [False, True], ids=["", "forgetful"])
def test_in_no_order_of_steps_is_an_old_row_given_after_a_write_is_over(tier, forgets, deletes):
    """Two writers and a reader, who fills in what he read; the tier may forget everything once, too."""
    versions = [row(response=str(number)) for number in range(3)]
    key = versions[0].key
    writers = ("first",) if forgets else ("first", "second")
    stories = [tuple((who, step) for step in ("begin", "write", "end")) for who in writers]
    stories.append(tuple(("reader", step) for step in ("look", "read", "fill")))
    if forgets:
        stories.append((("tier", "forget"), ("reader", "look again")))
    seen = 0
    for number, order in enumerate(orders(*stories)):
        contents, behind, known = f"{deletes}{forgets}{number}", versions[0], {}
        for who, step in order:
            if step == "begin":
                known[who] = tier.begin(contents, "n", [key])
            elif step == "write":
                behind = None if deletes and who == "first" else versions[1 + writers.index(who)]
                known[who, "row"] = behind
            elif step == "end":
                tier.end(contents, "n", [key], known[who], [known[who, "row"]])
            elif step == "look":
                ((found, known["ticket"]),) = tier.look(contents, "n", [key])
                assert found in (None, behind), order
            elif step == "read":
                known["read"] = behind
            elif step == "fill":
                if known["read"] is not None and known["ticket"] is not None:
                    tier.fill(contents, [(known["read"], known["ticket"])])
            elif step == "forget":
                tier._server.call("DEL", *tier._places(contents, "n", [key]))
        ((found, _),) = tier.look(contents, "n", [key])
        assert found in (None, behind), order
        seen += found is not None
    assert seen or (forgets and deletes)  # it does keep something


class Meanwhile:
    """A store in which others act between any two steps of whoever uses it: `before` and `after` its next write."""

    def __init__(self, store):
        self._store = store
        self.before = self.after = lambda: None

    def __getattr__(self, name):
        return getattr(self._store, name)

    def put_many(self, puts):
        before, after, self.before, self.after = self.before, self.after, lambda: None, lambda: None
        before()
        statuses = self._store.put_many(puts)
        after()
        return statuses


class Broken:
    """A cache tier that is out of reach of one process."""

    def __getattr__(self, name):
        def fail(*args):
            raise StoreError("away")

        return fail


@pytest.fixture
def meanwhile(back):
    return Meanwhile(back)


@pytest.fixture
def reader(back, tier_url):
    """Another process."""
    store = NearCacheStore(back, open_cache_tier(tier_url, ExpPoolConfig()), 0.2)
    yield store
    store._tier.close()


def look_again(store):
    """What it does once a second: ask what the contents are called."""
    store._looked = -2.0
    return store


def test_who_reads_while_a_writer_without_the_front_writes_does_not_keep_the_old_row(back, meanwhile, reader):
    """The new name is known before the row is written, so the old one may have been filled in under it."""
    old, new = row(), row(response="new")
    put(back, old)
    writer = NearCacheStore(meanwhile, Broken(), 0.2)
    meanwhile.before = lambda: look_again(reader).get_many("n", [old.key])
    assert put(writer, new) == [PutStatus.CURRENT]
    assert look_again(reader).get_many("n", [old.key]) == [new]


def test_who_writes_under_a_name_that_is_over_leaves_nothing_old_under_the_new_one(back, store, reader):
    old, new = row(), row(response="new")
    put(back, old)
    store._contents()  # known for a second
    put(NearCacheStore(back, Broken(), 0.2), row("other"))  # all that the tier has is worth nothing
    assert look_again(reader).get_many("n", [old.key]) == [old]
    assert put(store, new) == [PutStatus.CURRENT]
    assert reader.get_many("n", [old.key]) == [new]


@pytest.mark.parametrize("whole", [False, True], ids=["key", "namespace"])
def test_what_the_front_forgot_while_somebody_wrote_does_not_bring_an_old_row_back(
    back, meanwhile, tier_url, reader, whole
):
    """A server that starts anew, or another one that had not heard of the writer yet."""
    old, new = row(), row(response="new")
    put(back, old)
    tier = open_cache_tier(tier_url, ExpPoolConfig())
    writer = NearCacheStore(meanwhile, tier, 0.2)
    contents, ticket = reader._contents(), []

    def forgotten():
        places = tier._places(contents, "n", [old.key])
        tier._server.call("DEL", *places)
        ticket.extend(reader._tier.look(contents, "n", [old.key]))
        assert reader.get_many("n", [old.key]) == [old]

    if whole:
        mark = tier.begin(contents, "n", [])
        forgotten()
        back.clear("n")
        tier.end(contents, "n", [], mark)
    else:
        meanwhile.before = forgotten
        assert put(writer, new) == [PutStatus.CURRENT]
    answer = back.get_many("n", [old.key])
    assert reader.get_many("n", [old.key]) == answer != [old]
    reader._tier.fill(contents, [(old, ticket[0][1])])  # a slow one
    assert reader.get_many("n", [old.key]) == answer
    tier.close()


def test_after_a_write_of_which_nobody_knows_whether_it_came_about_the_front_stays_empty(back, meanwhile, reader):
    """The answer to COMMIT was lost; the server may carry it out later, after others have read."""
    old, new = row(), row(response="new")
    put(back, old)
    meanwhile.put_many = StoreFailing()
    writer = NearCacheStore(meanwhile, reader._tier, 0.2)
    with pytest.raises(StoreError, match="lost"):
        put(writer, new)
    assert reader.get_many("n", [old.key]) == [old]
    put(back, new)
    assert reader.get_many("n", [old.key]) == [new]


class StoreFailing:
    def __call__(self, puts):
        raise StoreError("the answer was lost")


def test_with_the_front_away_the_store_answers_and_nothing_old_comes_back(own_redis, tmp_path):
    settings = {"store": f"sqlite:///{tmp_path}/pool.db", "index": "none://", "hot": own_redis.url, "hot_ttl": 0}
    manager = ExpManager(**settings, store_timeout=1)
    runs = []

    @manager.exp_cache(name="f")
    def f(x):
        runs.append(x)
        return [x, len(runs)]

    with manager:
        assert f(1) == f(1) == [1, 1]
        own_redis.kill()
        assert f(1) == [1, 1]
        assert f(2) == [2, 2]
        (stored,) = manager.sync.query_exps('{"x":1}', query_type="exact") or [
            e for e in manager.sync.iter_exps() if e.arguments == {"x": 1}
        ]
        manager.sync.annotate(stored.id, expected="right")
        own_redis.restart()  # with all that it had: its writes survive
        with ExpManager(**settings) as other:  # which has not heard that it was away
            assert other.exp_cache(name="f")(lambda x: "live")(1) == "right"
        assert f(1) == "right"
        assert runs == [1, 2]


def test_a_writer_who_was_given_up_leaves_nothing_old_behind(store, back, tier):
    old, contents = row(), store._contents()
    back.put_many([Put(old)])
    mark = tier.begin(contents, "n", [old.key])
    writers = tier._places(contents, "n", [old.key])[2]
    tier._server.call("DEL", writers)  # as its time-out does
    assert store.get_many("n", [old.key]) == [old]  # is filled now
    back.delete_many("n", [old.id])
    tier.end(contents, "n", [old.key], mark)
    assert store.get_many("n", [old.key]) == [None]


def test_with_the_store_away_what_is_in_front_still_answers(store, back):
    mine = row()
    put(store, mine)
    back.plan = every("*", StoreError("away"))
    assert store.get_many("n", [mine.key]) == [mine]
    assert store.claim("n", mine.key, "me", 60).record == mine
    with pytest.raises(StoreError, match="away"):
        store.get_many("n", ["other"])


def test_a_store_that_was_put_back_from_a_copy_has_nothing_in_front(tier_url, tmp_path):
    with ExpManager(store=f"sqlite:///{tmp_path}/pool.db", index="none://", hot=tier_url, hot_ttl=0) as manager:
        pool = manager.sync

        @manager.exp_cache(name="f")
        def f(x):
            return "before"

        f(1)
        pool.backup(tmp_path / "copy.db")
        (stored,) = pool.iter_exps()
        pool.annotate(stored.id, expected="after")
        assert f(1) == "after"
        pool.restore(tmp_path / "copy.db")
        assert f(1) == "before"


def test_expired_rows_leave_the_front_and_tenants_do_not_meet(store, back):
    gone, theirs = row(expires_at=1), row(namespace="m", response="theirs")
    put(store, gone, theirs)
    assert store.claim("n", gone.key, "me", 60).lease is not None
    assert store.get_many("m", [theirs.key]) == [theirs]
    assert store.get_many("n", [theirs.key]) == [gone]


def test_writers_and_readers_at_once_end_with_what_the_store_has(tier_url, tmp_path):
    path = tmp_path / "pool.db"
    stores = [NearCacheStore(SqliteStore(path), open_cache_tier(tier_url, ExpPoolConfig()), 0.2) for _ in range(4)]
    keys, trouble = [row(f"r{i}").key for i in range(3)], []

    def work(number):
        store = stores[number % 4]
        try:
            for turn in range(40):
                made = row(f"r{turn % 3}", f"{number}-{turn}")
                if turn % 7 == 3:
                    (found,) = store.get_many("n", [made.key])
                    store.delete_many("n", [found.id] if found else [])
                elif turn % 2:
                    assert put(store, made) == [PutStatus.CURRENT]
                store.get_many("n", keys)
        except BaseException as err:
            trouble.append(err)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert not trouble
    truth = SqliteStore(path).get_many("n", keys)
    assert [store.get_many("n", keys) for store in stores] == [truth] * 4
    [store.close() for store in stores]


def test_memory_in_front_hears_of_other_processes_through_postgresql(postgres_url):
    one, two = (ExpManager(store=postgres_url, index="none://", hot="memory://", hot_ttl=1) for _ in "ab")
    functions = []
    for manager in (one, two):

        @manager.exp_cache(name="f")
        def f(x):
            return "live"

        functions.append(f)
    with one, two:
        for f in functions:
            f(1), f(1)
        hot = two.sync.local_cache
        until(lambda: hot._announced, "PostgreSQL is listened to")
        assert functions[1](1) == functions[1](1) == "live"
        (entry,) = hot._entries.values()
        assert entry.until > 2**61  # it stays until something changes
        (stored,) = one.sync.iter_exps()
        one.sync.annotate(stored.id, expected="right")
        until(lambda: functions[1](1) == "right", "the change is heard")


@pytest.mark.parametrize("hot", ["mongo://x", "memory", "redis://", "redis://h/0?nonsense=1"])
def test_a_wrong_tier_is_said_where_the_manager_is_made(hot):
    with pytest.raises(ConfigurationError, match="hot|redis"):
        ExpManager(store="memory://", hot=hot)
