"""Random programs of what can be said to a record store: two stores that do the same say the same.

An operation is plain data, so that a program can be shortened and done again. What a store chooses itself is left out of
what is compared: positions (readers that continue from theirs have the same in the end) and tokens (a lease is the
n-th that was given).
"""

import json
from dataclasses import replace

from exp_pool.core.contracts.rows import SCAN_ORDERS
from exp_pool.core.filters import parse_where
from exp_pool.core.record import TaskKind, hash_text
from exp_pool.protocols import Completion, Deletion, EvictionOrder, Put, PutMode, RecordQuery, Touch
from exp_pool.testing.factories import NASTY_TEXTS, row, unit, vector

FAR = 2**52  # microseconds: in 2112, by any clock
HOUR_US = 3600 * 10**6
ANY = row()
SPACES = ["n", "N ", "%' \ud800\0?"]
TEXTS = ["a", "A", "b", "a ", "ab", "é", "e\u0301", "?", "%s", *NASTY_TEXTS]
SORTED = ["f", "F", "f ", "", "é", "日本語 🤷", "\uffff", '%_*$."\\', "'; --"]  # without those that SQL stores escape
NAMES = [text or "empty" for text in TEXTS]
EMBEDDERS = ["e", "E\0?"]
WHERES = [
    *({field: {operator: text}} for field in ("request", "function", "model") for operator in ("eq", "ne") for text in TEXTS),
    # SQL stores write NUL and lone surrogates as hexadecimal digits, in which they would find an "a", too.
    *({field: {"contains": text}} for field in ("request", "model") for text in TEXTS if text not in ("a", "b", "ab")),
    *({field: text} for field in ("id", "key", "principal", "version") for text in TEXTS),
    *({"function": {operator: text}} for operator in ("gte", "lte") for text in ("", "f", "é", "日")),
    {"id": {"in": NAMES[::2]}},
    {"function": {"in": []}},
    {"strategy": {"exists": True}},
    {"model": {"exists": False}},
    {"score": {"gte": 0.25, "lte": 0.75}},
    {"score": {"ne": 0.5}},
    {"score": 0.1},
    {"annotated": True},
    {"trust": "quarantined"},
    {"kind": {"ne": "insight"}},
    {"origin": {"in": ["manual", "refined"]}},
    {"access_count": {"gte": 2}},
    {"size_bytes": {"lte": 50}},
    {"revision": {"gte": 2}},
    {"metadata.n": 1},
    {"metadata.n": True},
    {"metadata.n": {"gte": 1}},
    {"metadata.n": {"lte": "b"}},
    {"metadata.n": {"ne": "1"}},
    {"metadata.n": {"in": [1, "1", None]}},
    {"metadata.tags": {"contains": "%"}},
    {"metadata.tags": {"contains": 1}},
    {"metadata.a ?%s$*": {"exists": True}},
    {"metadata.a ?%s$*": {"contains": "?"}},
    {"metric.tokens_in": {"gte": 3}},
    {"scores.me.value": {"exists": False}},
]  # fmt: skip
METADATA = [
    *({}, {"n": 1}, {"n": True}, {"n": "1"}, {"n": None}, {"n": 1.5}, {"n": "日本"}, {"tags": ["%", 1]}),
    *({"tags": "50%"}, {"a ?%s$*": "?"}, {"n": 2**60, "tags": [True, "1"]}),
]


class Program:
    """So many operations of a seed.

    Each method that makes one is named as the method of `Session` that does it.
    """

    def __init__(self, chance, length):
        self.chance = chance
        makers = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
        self.operations = [self._one(name) for name in chance.choices(makers, k=length)]

    def _one(self, name):
        return name, getattr(self, name)()

    def space(self):
        return self.chance.choice(SPACES)

    def few(self, values, least=1, most=6):
        return self.chance.choices(values, k=self.chance.randint(least, most))

    def number(self, *, most=9):
        return self.chance.randint(1, most)

    def maybe(self, value, odds=0.5):
        return value if self.chance.random() < odds else None

    def row(self, space):
        pick = self.chance.choice
        request, expected = pick(TEXTS), self.maybe(json.dumps(pick(TEXTS)), 0.1)
        return replace(
            ANY,
            namespace=space,
            request=request,
            request_hash=hash_text(request),
            response=json.dumps(pick(TEXTS)),
            expected=expected,
            id=pick(NAMES),
            key=pick(NAMES[:12]),
            function=pick(SORTED),
            version=pick(TEXTS[:4]),
            model=self.maybe(pick(TEXTS)),
            strategy=self.maybe(pick(TEXTS)),
            principal=self.maybe(pick(TEXTS)),
            metadata=json.dumps(pick(METADATA)),
            metric=pick(["{}", '{"tokens_in": 3}']),
            scores=pick(["{}", '{"me": {"value": 0.5}}']),
            created_at=pick([1, 2, 2, 3, 10**15, FAR - 1]),
            expires_at=pick([None, None, None, 5, FAR, FAR + 1]),
            last_access=pick([None, None, 2, 9]),
            access_count=pick([0, 0, 1, 5]),
            score=pick([None, 0.1, 0.5, 0.5, 1.0]),
            size_bytes=pick([0, 10, 50, 99]),
            origin=pick(["automatic"] * 6 + ["manual", "refined"]),
            kind=pick(["success"] * 6 + ["insight", "failure"]),
            trust=pick(["trusted"] * 4 + ["quarantined"]),
            reuse_scope=pick(["", "s"]),
            is_current=pick([True] * 7 + [False]),
            embed_due=pick([None, 5, FAR]),
            score_due=pick([None, None, 5]),
        )

    def vector(self):
        seed = self.chance.randrange(50)
        return vector(*unit(seed)[0], embedder=self.chance.choice(EMBEDDERS), whole=seed % 5 > 0)

    def where(self):
        wanted = {}
        for conditions in self.few(WHERES, 0, 2):
            wanted |= conditions
        return parse_where(wanted)

    def query(self, *, everywhere=0.1):
        return RecordQuery(
            None if self.chance.random() < everywhere else self.space(),
            self.where(),
            history=self.chance.random() < 0.5,
            expired=self.chance.random() < 0.7,
            quarantined=self.chance.random() < 0.7,
            pending=self.maybe(self.chance.choice(list(TaskKind)), 0.2),
        )

    # Operations

    def put(self):
        spaces = self.few(SPACES, 1, 2)
        modes = [PutMode.INSERT, PutMode.INSERT, PutMode.REPLICATE]
        return [
            Put(self.row(self.chance.choice(spaces)), self.chance.choice(modes), self.maybe(self.vector()))
            for _ in range(self.chance.choice([1, 1, 2, 5, 20]))
        ]

    def edit(self):
        space = self.space()
        return [(self.row(space), self.chance.choice([0, 0, 0, 1])) for _ in range(self.number(most=4))]

    def mixed(self):
        """Rows that are added and edited in one batch."""
        space = self.space()
        return [
            Put(self.row(space), self.chance.choice([PutMode.INSERT, PutMode.UPDATE]), None, self.number(most=2))
            for _ in range(self.number(most=6))
        ]

    def get(self):
        return self.space(), self.few(NAMES, 0, 8), self.chance.choice(["key", "id"])

    def delete(self):
        return self.space(), self.few(NAMES, 0, 4)

    clear = usage = names = cutoff = space

    def bury(self):
        buried = [Deletion(id_, self.number() * 2 * HOUR_US) for id_ in self.few(NAMES, 0, 3)]
        return self.space(), buried, self.maybe(self.number(most=3), 0.2)

    def evict(self):
        return self.space(), self.chance.choice(list(EvictionOrder)), self.chance.choice([1, 2, 5])

    def scan(self):
        return self.query(), self.chance.choice(SCAN_ORDERS), self.chance.random() < 0.5, self.maybe(self.number())

    def count(self):
        return self.query(), self.maybe(self.number())

    def touch(self):
        return self.space(), [Touch(id_, self.number(), self.number(most=99)) for id_ in self.few(NAMES, 0)]

    def settle(self):
        return [
            Completion(
                self.space(),
                self.chance.choice(NAMES),
                duty := self.chance.choice(list(TaskKind)),
                done := self.chance.random() < 0.6,
                self.maybe(self.vector()) if done and duty is TaskKind.EMBED else None,
                None if done else self.chance.choice([5, FAR]),
            )
            for _ in range(self.number(most=12))
        ]

    def owe(self):
        return replace(self.query(everywhere=0), pending=None), self.chance.choice(list(TaskKind))

    def get_vectors(self):
        return self.space(), self.few(NAMES, 0, 8)

    def follow_vectors(self):
        return self.space(), self.chance.choice(EMBEDDERS), self.number(), self.chance.random() < 0.6

    def follow_requests(self):
        return self.space(), self.number(), self.chance.random() < 0.6

    def partitions(self):
        return self.maybe(self.space(), 0.7)

    def claim(self):
        return self.space(), self.chance.choice(NAMES[:12]), self.chance.choice("ab"), self.chance.choice([3600, -1])

    def renew(self):
        return self.number(most=6), self.chance.choice([3600, -1])

    def release(self):
        return self.number(most=6)

    def put_leased(self):
        return self.number(most=6), self.row("later"), self.maybe(self.vector())

    def write_state(self):
        names, values = self.chance.choice(TEXTS[5:]), self.chance.choice(TEXTS)
        return self.space(), names, values, self.chance.choice(["read", "read", None, 1, 2])

    def append_log(self):
        return self.space(), self.chance.choice(TEXTS[5:]), self.few(TEXTS, 0, 5)

    def read_log(self):
        return self.space(), self.chance.choice(TEXTS[5:]), self.chance.randint(0, 5), self.number()

    def drop_logs(self):
        return self.space(), self.few(TEXTS[5:], 0, 3)

    def deletions(self):
        return self.space(), self.number()

    def namespaces(self):
        return ()

    def tidy(self):
        """Twice as far apart as stores tidy up at most; of deletions that were brought from elsewhere at these times."""
        return self.number() * 2 * HOUR_US + 1


WEIGHTS = {
    **dict.fromkeys("put edit scan count get follow_vectors follow_requests claim settle".split(), 6),
    **dict.fromkeys("put_leased delete touch get_vectors".split(), 3),
    **dict.fromkeys("mixed renew release write_state append_log read_log deletions evict bury owe".split(), 2),
    **dict.fromkeys("usage partitions names namespaces cutoff drop_logs tidy clear".split(), 1),
}


def lately(at):
    """A time of which it is up to the store whose clock it is; the times that a program brings along are long ago."""
    return "lately" if at is not None and at > 10**15 else at


def told(row):
    """A row; since when it owes something is up to the store's clock, where the program does not say."""
    if row is None:
        return None
    dues = {name: "lately" for name in ("embed_due", "score_due") if 10**15 < (getattr(row, name) or 0) < FAR}
    return replace(row, **dues) if dues else row


class Session:
    """Somebody who uses a store, and follows what changes in it.

    Each method does one operation, and gives what is seen of it.
    """

    def __init__(self, store):
        self.store = store
        self._leases = []
        self._vectors = {}  # by space: how far it was read, and what was told
        self._requests = {}
        self._tidied = 0

    def do(self, operation):
        name, given = operation
        return getattr(self, f"do_{name}")(*given if isinstance(given, tuple) else [given])

    def do_put(self, puts):
        return self.store.put_many(puts)

    do_mixed = do_put

    def do_edit(self, rows):
        """Rows get the content of others, on the revision that was read, or another one."""
        found = self.store.get_many(rows[0][0].namespace, [r.id for r, _ in rows], by="id")
        puts = [
            Put(r, PutMode.UPDATE, expected_revision=known.revision + more)
            for (r, more), known in zip(rows, found, strict=True)
            if known is not None
        ]
        return self.store.put_many(puts)

    def do_get(self, space, refs, by):
        return [told(found) for found in self.store.get_many(space, refs, by=by)]

    def do_delete(self, space, ids):
        return sorted(self.store.delete_many(space, ids))

    def do_clear(self, space):
        return self.store.clear(space)

    def do_usage(self, space):
        return self.store.usage(space)

    def do_names(self, space):
        return self.store.names(space)

    def do_cutoff(self, space):
        return lately(self.store.cleared_at(space))

    def do_bury(self, space, deletions, cutoff):
        return self.store.apply_tombstones(space, deletions, cutoff)

    def do_evict(self, space, order, count):
        return self.store.evict(space, order, count)

    def do_scan(self, query, order, descending, limit):
        found = [told(r) for r in self.store.scan(query, order_by=order, descending=descending, limit=limit)]
        if query.namespace is not None:
            return found
        # Between namespaces there is no order of insertion where each has a slot or a shard of its own.
        return [getattr(r, order) for r in found] if limit else sorted(map(repr, found))

    def do_count(self, query, limit):
        return self.store.count(query, limit=limit)

    def do_touch(self, space, touches):
        return self.store.touch_many(space, touches)

    def do_settle(self, settlements):
        return self.store.complete_many(settlements)

    def do_owe(self, query, duty):
        return self.store.enqueue(query, duty)

    def do_get_vectors(self, space, ids):
        return self.store.get_vectors(space, ids)

    def do_follow_vectors(self, space, embedder, limit, to_the_end=True):
        position, told = self._vectors.get((space, embedder), (0, {}))
        while page := self.store.vectors_after(space, embedder, position, limit):
            assert len(page) <= limit
            for found in page:
                assert found.position > position
                position = found.position
                told[found.id] = None if found.vector is None else replace(found, position=0)
            self._vectors[space, embedder] = position, told
            if not to_the_end:
                break
        # How far one page goes depends on positions.
        return to_the_end and {id_: found for id_, found in told.items() if found is not None}

    def do_follow_requests(self, space, limit, to_the_end=True):
        position, told = self._requests.get(space, (0, {}))
        while page := self.store.requests_after(space, position, limit):
            assert len(page) <= limit
            for found in page:
                assert found.position > position
                position = found.position
                told[found.id] = found._replace(position=0)
            self._requests[space] = position, told
            if not to_the_end:
                break
        rows = self.store.get_many(space, list(told), by="id")
        return to_the_end and {r.id: told[r.id] for r in rows if r is not None and r.is_current}

    def do_partitions(self, space):
        return self.store.partitions(space)

    def do_claim(self, space, key, owner, ttl_s):
        claim = self.store.claim(space, key, owner, ttl_s)
        if claim.lease is not None:
            self._leases.append(claim.lease)
        return told(claim.record), claim.lease is not None

    def do_renew(self, number, ttl_s):
        renewed = self._leases[-number:] and self.store.renew(self._leases[-number:][0], ttl_s)
        return bool(renewed)

    def do_release(self, number):
        for lease in self._leases[-number:][:1]:
            self.store.release(lease)

    def do_put_leased(self, number, new, vector):
        leases = self._leases[-number:][:1]
        return self.store.put_many(
            [Put(replace(new, namespace=at.namespace, key=at.key), vector=vector, lease=at) for at in leases]
        )

    def do_write_state(self, space, name, value, revision):
        if revision == "read":
            known = self.store.read_state(space, name)
            revision = None if known is None else known.revision
        return self.store.write_state(space, name, value, revision), self.store.read_state(space, name)

    def do_append_log(self, space, name, entries):
        last = self.store.append_log(space, name, entries)
        found = self.store.read_log(space, name)
        return [entry for _, entry in found], bool(entries) and found[-1].position == last

    def do_read_log(self, space, name, skipped, limit):
        first = self.store.read_log(space, name, limit=skipped) if skipped else []
        after = first[-1].position if first else 0
        return [entry for _, entry in self.store.read_log(space, name, after=after, limit=limit)]

    def do_drop_logs(self, space, names):
        return self.store.drop_logs(space, names)

    def do_deletions(self, space, limit):
        """In what order ids are that have a NUL or a lone surrogate is up to the store."""
        page = told = self.store.deletions(space, limit=limit)
        while page:
            page = self.store.deletions(space, after=page[-1].id, limit=limit)
            told = told + page
        return sorted((id_, lately(at)) for id_, at in told)

    def do_namespaces(self):
        return self.store.namespaces()

    def do_tidy(self, before):
        for space in SPACES:  # who reads too late misses what was forgotten, and is told so by nobody
            for embedder in EMBEDDERS:
                self.do_follow_vectors(space, embedder, 100)
        if before - self._tidied >= 2 * HOUR_US:  # otherwise it is up to the store
            self._tidied = before
            self.store.tidy(before)

    def everything(self):
        """All that can be seen in the end."""
        for space in SPACES:
            rows = [told(r) for r in self.store.scan(RecordQuery(space, history=True))]
            yield rows
            yield self.store.get_vectors(space, [r.id for r in rows])
            yield [self.do_follow_vectors(space, embedder, 100) for embedder in EMBEDDERS]
            yield self.do_follow_requests(space, 100)
            yield self.do_deletions(space, 9)
            yield from (self.do_cutoff(space), self.store.usage(space), names := self.store.names(space))
            yield [self.store.read_state(space, name) for name in names.states]
            yield [[entry for _, entry in self.store.read_log(space, name)] for name in names.logs]
            fresh = Session(self.store)
            yield [fresh.do_follow_vectors(space, embedder, 7) for embedder in EMBEDDERS]
            yield fresh.do_follow_requests(space, 7)
        yield self.store.namespaces()
        yield self.store.partitions()
        yield self.store.check()
