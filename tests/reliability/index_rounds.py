"""Rounds of writers that are killed, and of damage done to the index; after each, what the next process finds.

``python index_rounds.py kill|damage FOLDER ROUNDS SEED ROWS [milvus]`` prints one JSON line a round. One process loads
Chroma (or Milvus Lite, for kills only) once;
writers and lookers are children by fork, before anything was opened.
"""

import hashlib
import json
import os
import random
import select
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
from every_step import in_child

from exp_pool import Experience, ExpManager
from exp_pool.core.values.vectors import to_unit
from exp_pool.maintenance.worker import MaintenanceWorker
from exp_pool.protocols import RecordQuery, VectorQuery
from exp_pool.search.indexes.chroma import ChromaIndex
from exp_pool.search.indexes.milvus_lite import MilvusLiteIndex

MILVUS = sys.argv[6:] == ["milvus"]
MILVUS_GIVES = 16384  # neighbours at most
if MILVUS:  # loaded before the forks
    import pymilvus  # noqa: F401
else:
    import chromadb  # noqa: F401

DIED = "died"
DIMENSION, WRITERS, BATCH = 384, 4, 20
DIRECTIONS = np.random.default_rng(0).normal(size=(12, DIMENSION))
SYNC_THRESHOLD = 20  # Chroma writes its graph at every flush of ours, in place: there kills hurt


def embed(texts):
    """Vectors that say nothing, but always the same; of twelve directions, as those of real texts have few."""
    digests = np.stack([np.frombuffer(hashlib.sha384(text.encode()).digest(), dtype="<u4") for text in texts])
    return (digests / 2**31 - 1) @ DIRECTIONS


def manager_of(folder, sync_threshold=SYNC_THRESHOLD):
    if MILVUS:
        index = MilvusLiteIndex(folder / "file.db", timeout_s=30)
    else:
        index = ChromaIndex(folder / "chroma", timeout_s=30, sync_threshold=sync_threshold)
    return ExpManager(store=f"sqlite:///{folder}/pool.db", index=index, embedder=embed, index_from=1)


def write(folder, name, acknowledge):
    """Until killed: store, have it indexed, say so."""
    MaintenanceWorker._start = lambda self: None  # upkeep by `flush` alone, so that kills hit it most of the time
    manager, number = manager_of(folder), 0
    while True:
        exps = [Experience(function="f", request=f"{name}-{number + i}", response=number + i) for i in range(BATCH)]
        number += BATCH
        manager.sync.create_exps(exps)
        os.write(acknowledge, "".join(f"{e.id} {e.request}\n" for e in exps).encode())
        manager.sync.flush()


def kill_round(folder, number, chance):
    """What was acknowledged by writers that were killed at random moments."""
    read, acknowledge = os.pipe()
    pids = []
    for writer in range(WRITERS):
        pid = os.fork()
        if not pid:
            os.close(read)
            try:
                write(folder, f"{number}-{writer}", acknowledge)
            except BaseException as err:
                os.write(acknowledge, f"{DIED} {err!r}\n".encode())
            os._exit(1)
        pids.append(pid)
    os.close(acknowledge)
    told = os.read(read, 65536)  # they are at it
    until = time.monotonic() + chance.uniform(0.05, 0.7)
    while (left := until - time.monotonic()) > 0:  # until a random instant, whatever they are doing then
        if select.select([read], [], [], left)[0]:
            told += os.read(read, 65536)
    if number % 2:  # or until Chroma is writing its graph, which it does in place
        until = time.monotonic() + 3
        before = written_at(folder)
        while written_at(folder) == before and time.monotonic() < until:
            while select.select([read], [], [], 0)[0] and (more := os.read(read, 65536)):
                told += more
        until = time.monotonic() + chance.uniform(0, 0.004)
        while time.monotonic() < until:
            pass
    for pid in chance.sample(pids, len(pids)):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    while more := os.read(read, 65536):
        told += more
    os.close(read)
    said = [line.split(" ", 1) for line in told.decode().split("\n")[:-1]]
    died = [why for what, why in said if what == DIED]
    assert not died, died
    return said


def written_at(folder):
    """When the files of Chroma's graph were written last."""
    return max((path.stat().st_mtime_ns for path in (folder / "chroma").rglob("*.bin")), default=0)


def look(folder, acknowledged):
    """What the next process finds, and how long it took to the first answer."""
    began = time.perf_counter()
    with manager_of(folder) as manager:
        first = [hit.experience.request for hit in manager.sync.search("base-0", top_k=1)]
        answered_s = time.perf_counter() - began
        manager.sync.flush()
        repaired = manager.stats().repaired
        store = manager.sync._store
        rows = {row.id: row for row in store.scan(RecordQuery("default", history=True))}
        lost = [id_ for id_, request in acknowledged if id_ not in rows or rows[id_].request != request]
        wrong = [] if first or not rows else ["no first answer"]
        names = [row.request for row in rows.values() if row.is_current]
        vectors, hits = to_unit(embed(names), len(names)), 0
        for query in [f"q{i}" for i in range(20)]:
            similarities = vectors @ to_unit(embed([query]), 1)[0]
            best = {names[at] for at in np.argsort(-similarities)[:5]}
            hits += len(best & {hit.experience.request for hit in manager.sync.search(query, top_k=5)})
        if hits < 95 or (hits < 100 and len(rows) < 1000):  # the graph of thousands misses a few, sound as it is
            wrong.append(f"found {hits} of 100 nearest neighbours")
        for space, count in store.partitions().items():
            if 2 * count > MILVUS_GIVES and isinstance(manager.sync._index, MilvusLiteIndex):
                continue  # it cannot be asked for everything that it has
            held = manager.sync._index.search(VectorQuery(*space, to_unit(embed(["x"]), 1), 2 * count))[0]
            found, current = {near.id for near in held}, {row.id for row in rows.values() if row.is_current}
            # A sound graph, too, may have a node that no way leads to: one of a few thousand.
            if found - current or len(current - found) > len(current) // 1000:
                wrong.append(f"the index finds {len(found)} of {count}, {len(found - current)} of them wrongly")
        wrong += store.check()
        return {
            "rows": len(rows),
            "lost": len(lost),
            "wrong": wrong,
            "repaired": repaired,
            "first_answer_s": round(answered_s, 3),
        }


# Damage


def shelf_of(folder):
    (shelf,) = [path for path in (folder / "chroma").iterdir() if path.is_dir() and not path.is_symlink()]
    return shelf


def files_of(folder):
    generation = shelf_of(folder) / (shelf_of(folder) / "current").read_text()
    return sorted(path for path in generation.rglob("*") if path.is_file() and path.stat().st_size)


def truncated(folder, chance):
    file = chance.choice(files_of(folder))
    os.truncate(file, chance.randrange(file.stat().st_size))


def zeroed(folder, chance):
    overwrite(chance.choice(files_of(folder)), chance, b"\0" * 4096)


def random_bytes(folder, chance):
    overwrite(chance.choice(files_of(folder)), chance, chance.randbytes(64))


def overwrite(file, chance, content):
    with file.open("r+b") as opened:
        opened.seek(chance.randrange(file.stat().st_size))
        opened.write(content)


def missing_file(folder, chance):
    chance.choice(files_of(folder)).unlink()


def swapped_files(folder, chance):
    one, other = chance.sample(files_of(folder), 2)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def emptied_folder(folder, chance):
    shutil.rmtree(files_of(folder)[0].parent)
    (shelf_of(folder) / (shelf_of(folder) / "current").read_text()).mkdir(exist_ok=True)


def foreign_file(folder, chance):
    chance.choice(files_of(folder)).write_bytes(b"this is somebody's letter\n" * 100)


def old_version(folder, chance):
    (mark,) = shelf_of(folder).glob("*.sound")
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "library": "chromadb 0.4.0"}))
    random_bytes(folder, chance)


def half_copied_folder(folder, chance):
    for file in files_of(folder)[::2]:
        file.unlink()


def link_out(folder, chance):
    shelf = shelf_of(folder)
    outside = folder.parent / f"outside-{chance.randrange(10**9)}"
    shutil.move(shelf, outside)
    shelf.symlink_to(outside)


def read_only(folder, chance):
    for path in (folder / "chroma").rglob("*"):
        path.chmod(0o500 if path.is_dir() else 0o400)


def wrong_owner(folder, chance):
    for path in [folder / "chroma", *(folder / "chroma").rglob("*")]:
        os.chown(path, 1, 1)
        path.chmod(0o700 if path.is_dir() else 0o600)


KINDS = (truncated, zeroed, random_bytes, missing_file, swapped_files, emptied_folder, foreign_file, old_version)
KINDS += (half_copied_folder, link_out, read_only, wrong_owner)
UNUSABLE = (read_only, wrong_owner)  # not for root: another user looks


def damage_round(folder, number, chance, filled):
    """A fresh copy of a filled pool, one kind of damage, and a look at it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(filled, folder)
    kind = (
        KINDS[number % len(KINDS)]
        if number < len(KINDS)
        else chance.choice([truncated, zeroed, random_bytes, swapped_files])
    )
    if number >= len(KINDS) and chance.random() < 0.3:  # as it is after a kill
        (shelf_of(folder) / "open").touch()
    kind(folder, chance)
    if kind in UNUSABLE and os.geteuid() == 0:
        for path in [folder, *folder.iterdir()]:
            if path.name != "chroma" or kind is read_only:
                os.chown(path, 65534, 65534)
        if kind is read_only:
            for path in (folder / "chroma").rglob("*"):
                os.chown(path, 65534, 65534)
    return kind


def fill(folder, rows):
    with manager_of(folder, 1000) as manager:
        manager.sync.create_exps([Experience(function="f", request=f"base-{i}", response=i) for i in range(rows)])
        manager.sync.flush()


def rounds(what, place, count, seed, rows):
    place, chance = Path(place), random.Random(seed)
    place.chmod(0o755)
    folder, result, acknowledged = place / "pool", place / "result", []
    assert in_child(lambda: fill(folder if what == "kill" else place / "filled", rows)) == 0
    for number in range(count):
        kind = "kill"
        unusable = False
        if what == "kill":
            acknowledged += kill_round(folder, number, chance)
        else:
            chosen = damage_round(folder, number, chance, place / "filled")
            kind, unusable = chosen.__name__, chosen in UNUSABLE
        result.unlink(missing_ok=True)
        result.touch(mode=0o666)
        result.chmod(0o666)

        def job(unusable=unusable):
            if unusable and os.geteuid() == 0:
                rehearse(place)
                os.setgid(65534)
                os.setuid(65534)
            result.write_text(json.dumps(look(folder, acknowledged) if not unusable else look_without_index(folder)))

        status = in_child(job)
        found = (
            json.loads(result.read_text()) if status == 0 else {"wrong": [f"could not be opened: {status}"], "lost": -1}
        )
        print(json.dumps({"round": number, "kind": kind, **found}), flush=True)


def rehearse(place):
    """Load what is loaded late: the clone may lie where another user may read no module, as below /root."""
    import encodings.ascii  # noqa: F401

    shutil.copytree(place / "filled", place / "rehearsal", dirs_exist_ok=True)
    look_without_index(place / "rehearsal")
    shutil.rmtree(place / "rehearsal")


def look_without_index(folder):
    """The index can be neither read nor written: exact scan answers, and nothing raises."""
    with manager_of(folder) as manager:
        found = [hit.experience.request for hit in manager.sync.search("base-7", top_k=1)]
        manager.sync.flush()
        found += [hit.experience.request for hit in manager.sync.search("base-8", top_k=1)]
        wrong = [] if found == ["base-7", "base-8"] else [f"found {found}"]
        if manager.stats().degraded == 0:
            wrong.append("nothing was counted as degraded")
        return {"lost": 0, "wrong": wrong, "repaired": 0}


if __name__ == "__main__":
    rounds(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))
