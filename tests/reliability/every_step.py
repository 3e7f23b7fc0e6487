"""Dies after the n-th step of an operation, for every n, and says what the pool that is opened next has.

``python every_step.py OPERATION FOLDER STRIDE`` prints one JSON line for each n. A step is an SQL statement that changes
something, a file or folder created, written, renamed or removed, a call that changes Chroma. One process loads
everything once; each try and each look afterwards is a child by fork, before anything was opened.
"""

import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import chromadb  # noqa: F401  loaded before the forks
import chromadb.api.models.Collection as chroma_collection
from conftest import letters
from support.children import in_child

from exp_pool import Experience, ExpManager
from exp_pool.core.values.vectors import to_unit
from exp_pool.maintenance.worker import MaintenanceWorker
from exp_pool.protocols import EvictionOrder, RecordQuery, VectorQuery
from exp_pool.stores.sql.sqlite_schema import MIGRATIONS

DIED = 77
WORDS = [f"{a}{b}{c}" for a in "abcd" for b in "efg" for c in "hi"]
SECRET = "verysecretverysecret"
_CHANGES = (
    "BEGIN",
    "COMMIT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "ALTER",
    "DROP",
    "VACUUM",
    "PRAGMA WAL_CHECKPOINT",
    "PRAGMA USER_VERSION",
)


class Steps:
    """Counts steps in this process, and ends it before the n-th."""

    def __init__(self, last):
        self.left = last

    def one(self):
        self.left -= 1
        if self.left == 0:
            os._exit(DIED)

    def watch(self, folder):
        inside = str(folder)

        def hear(event, args):
            if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") and str(args[0]).startswith(inside):
                self.one()
            elif (
                event == "open"
                and str(args[0]).startswith(inside)
                and isinstance(args[2], int)
                and args[2] & (os.O_WRONLY | os.O_RDWR)
            ):
                self.one()

        sys.addaudithook(hear)
        connect, fsync = sqlite3.connect, os.fsync

        def tracing(*args, **kwargs):
            connection = connect(*args, **kwargs)
            connection.execute(
                "PRAGMA secure_delete = OFF"
            )  # some systems' SQLite overwrites what is deleted by itself
            connection.set_trace_callback(lambda sql: self.one() if sql.lstrip().upper().startswith(_CHANGES) else None)
            return connection

        def fsyncing(descriptor):
            fsync(descriptor)
            self.one()

        sqlite3.connect, os.fsync = tracing, fsyncing
        for name in ("upsert", "delete"):
            method = getattr(chroma_collection.Collection, name)

            def stepping(*args, method=method, **kwargs):
                self.one()
                method(*args, **kwargs)
                self.one()

            setattr(chroma_collection.Collection, name, stepping)


def manager_of(folder, **settings):
    MaintenanceWorker._start = lambda self: None  # its thread would make steps of its own, at other times
    return ExpManager(
        store=f"sqlite:///{folder}/pool.db",
        index=f"chroma:///{folder}/chroma",
        embedder=letters,
        index_from=1,
        **settings,
    )


def exp(request, response="a", **fields):
    return Experience(function="f", request=request, response=response, **fields)


def id_of(manager, request):
    return manager.sync.query_exps(request, query_type="exact")[0].id


# Operations: each gets a manager on a filled pool and a function to say what it was told is done.


def create(manager, done):
    new, newer = exp("xxx"), exp(WORDS[0], "newer")
    manager.sync.create_exp(new)
    done(there=[new.id])
    manager.sync.create_exps([newer, exp("yyy"), exp("qqq", trust="quarantined")])
    done(there=[new.id, newer.id])
    manager.sync.flush()


def update(manager, done):
    one, two = id_of(manager, WORDS[1]), id_of(manager, WORDS[2])
    manager.sync.update_exp(one, trust="quarantined")
    done(hidden=[one])
    manager.sync.annotate(two, expected="right")
    done(hidden=[one], annotated=[two])
    manager.sync.flush()


def delete(manager, done):
    one, two = id_of(manager, WORDS[3]), id_of(manager, WORDS[4])
    manager.sync.delete_exp(one)
    done(gone=[one])
    manager.sync.flush()
    manager.sync.delete_exps({"request": WORDS[4]})
    done(gone=[one, two])
    manager.sync.flush()


def evict(manager, done):
    gone = [row.id for row in manager.sync._store.evict("default", EvictionOrder.FIFO, 5)]
    done(gone=gone)
    manager.sync.flush()


def erase(manager, done):
    one = id_of(manager, SECRET)
    manager.sync.erase({"request": SECRET})
    done(gone=[one], erased=True)
    manager.sync.flush()


def clear(manager, done):
    ids = [e.id for e in manager.sync.iter_exps()]
    manager.sync.delete_all_exps()
    done(gone=ids)
    manager.sync.create_exp(exp("after"))
    manager.sync.flush()


def rebuild(manager, done):
    manager.sync.reindex()
    done()


def close(manager, done):
    manager.sync.flush()
    manager.sync.close()
    done()


def migrate(manager, done):
    manager.sync.flush()
    done(there=["old"])


def restore(manager, done):
    backup = manager.sync.place.with_name("backup.db")
    there = id_of(manager, WORDS[5])
    others = [e.id for e in manager.sync.iter_exps() if e.id != there]
    manager.sync.backup(backup)
    manager.sync.delete_exp(there)
    done(gone=[there], there=others)
    done(there=others)  # from here on it may be there again
    manager.sync.restore(backup)
    done(there=[there, *others])
    manager.sync.flush()


def prepare(operation, folder):
    """A pool with an index, closed; for `migrate`, one of the first version."""
    if operation == "migrate":
        folder.mkdir()
        with sqlite3.connect(folder / "pool.db") as raw:
            for statement in MIGRATIONS[0]:
                raw.execute(statement)
            raw.execute("PRAGMA application_id = 1481658188")
            raw.execute("PRAGMA user_version = 1")
            values = {
                "id": "old",
                "namespace": "default",
                "function": "f",
                "version": "",
                "key": "k",
                "request": "old",
                "request_hash": "h",
                "arguments": "{}",
                "response": '"a"',
                "codec": "json",
                "kind": "success",
                "origin": "manual",
                "trust": "trusted",
                "scores": "{}",
                "metric": "{}",
                "trajectory": "[]",
                "parents": "[]",
                "metadata": "{}",
                "created_at": 1,
                "access_count": 0,
                "schema_version": 1,
                "reuse_scope": "",
                "size_bytes": 1,
                "revision": 1,
                "is_current": 1,
                "embed_due": 1,
                "embed_tries": 0,
                "index_tries": 0,
                "score_tries": 0,
            }
            raw.execute(
                f"INSERT INTO experiences ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
                list(values.values()),
            )
        raw.close()
        return
    with manager_of(folder) as manager:
        manager.sync.create_exps(
            [exp(word, created_at="2026-01-01T00:00:00Z") for word in (*WORDS[:9], SECRET, *WORDS[9:])]
        )
        manager.sync.flush()


def look(folder, told):
    """What the next process finds: what differs from what was promised."""
    wrong = []
    with manager_of(folder) as manager:
        manager.sync.flush()
        store = manager.sync._store
        rows = {row.id: row for row in store.scan(RecordQuery("default", history=True))}
        searchable = {row.id for row in rows.values() if row.is_current and row.trust == "trusted"}
        found = {hit.experience.id for hit in manager.sync.search("abc", top_k=1000)}
        if found != searchable:
            wrong.append(f"found {len(found)} instead of {len(searchable)}: {sorted(found ^ searchable)[:3]}")
        for space, count in store.partitions().items():
            held = manager.sync._index.search(VectorQuery(*space, to_unit(letters(["abc"]), 1), 1000))[0]
            current = {row.id for row in rows.values() if row.is_current}
            if {neighbour.id for neighbour in held} != current or count != len(current):
                wrong.append(f"the index holds {len(held)}, the store {count} vectors of {len(current)} rows")
        keys = [row.key for row in rows.values() if row.is_current]
        if len(set(keys)) != len(keys):
            wrong.append("two current rows of one key")
        wrong += [f"lost {id_}" for id_ in told.get("there", ()) if id_ not in rows]
        wrong += [f"back again {id_}" for id_ in told.get("gone", ()) if id_ in rows]
        wrong += [f"in use again {id_}" for id_ in told.get("hidden", ()) if id_ in found]
        wrong += [f"forgot {id_}" for id_ in told.get("annotated", ()) if not rows[id_].annotated]
        wrong += store.check()
    if told.get("erased"):
        wrong += [
            f"bytes left in {p.name}" for p in folder.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()
        ]
    return wrong


def attempt(operation, folder, told, last):
    def done(**what):
        told.write_text(json.dumps(what))

    Steps(last).watch(folder)
    globals()[operation](manager_of(folder), done)


def main(operation, place, stride):
    place = Path(place)
    assert in_child(lambda: prepare(operation, place / "base")) == 0
    last, tried = stride, 0
    while True:
        folder, told, wrong = place / "pool", place / "told", place / "wrong"
        shutil.copytree(place / "base", folder)
        told.write_text("{}")
        status = in_child(lambda: attempt(operation, folder, told, last))
        looked = in_child(lambda: wrong.write_text(json.dumps(look(folder, json.loads(told.read_text())))))
        found = json.loads(wrong.read_text()) if looked == 0 else [f"could not be opened: {looked}"]
        print(json.dumps({"step": last, "status": status, "wrong": found}), flush=True)
        shutil.rmtree(folder)
        tried += 1
        if status != DIED:
            break
        last += stride


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
