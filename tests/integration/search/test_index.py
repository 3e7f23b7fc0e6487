"""The derived index: when it is used, who owns it, how it is filled, doubted, rebuilt and given up."""

import itertools
import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import traceback
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from conftest import letters

from exp_pool import Experience, ExpManager, ThresholdJudge
from exp_pool.core.values.vectors import to_unit
from exp_pool.errors import EmbedderError, ExpPoolWarning, InvalidInputError, StoreError
from exp_pool.protocols import Neighbour, RecordQuery, VectorQuery
from exp_pool.runtime import clock
from exp_pool.search.indexes._identifiers import digest
from exp_pool.search.indexes.chroma import ChromaIndex
from exp_pool.search.indexes.none import NoIndex
from exp_pool.testing import FaultyStore, every

WORDS = [f"{a}{b}{c}" for a in "abcde" for b in "fghij" for c in "klm"]  # 75 texts, no two alike to `letters`


def exp(request, **fields):
    return Experience(**{"function": "f", "request": request, "response": request, **fields})


@pytest.fixture
def settings(tmp_path):
    pool = tmp_path / "pool"
    return {
        "store": f"sqlite:///{pool}/pool.db",
        "index": f"chroma:///{pool}/chroma",
        "embedder": letters,
        "index_from": 1,
    }


def fill(manager, words=WORDS):
    manager.sync.create_exps([exp(word) for word in words])
    manager.sync.flush()


def shelf(tmp_path):
    (found,) = [path for path in (tmp_path / "pool" / "chroma").iterdir() if path.is_dir()]
    return found


def current(tmp_path):
    return (shelf(tmp_path) / "current").read_text()


def in_index(manager, namespace="default"):
    """What the index finds by itself, without the join."""
    index, (space, *_) = manager.sync._index, manager.sync._store.partitions(namespace)
    found = index.search(VectorQuery(*space, to_unit(letters(["abc"]), 1), 10 * len(WORDS)))[0]
    ids = {row.id: row.request for row in manager.sync._store.scan(RecordQuery(namespace))}
    return sorted(ids.get(neighbour.id, neighbour.id) for neighbour in found)


def answers(manager, text, top_k=3):
    return [hit.experience.request for hit in manager.sync.search(text, top_k=top_k)]


def test_a_small_pool_has_no_index_at_all(settings, tmp_path):
    with ExpManager(**{**settings, "index_from": 76}) as manager:
        fill(manager)
        assert answers(manager, "afk", 1) == ["afk"]
        assert not (tmp_path / "pool" / "chroma").exists()
        manager.sync.create_exp(exp("xyz"))
        manager.sync.flush()
        assert shelf(tmp_path).exists()
        assert in_index(manager) == sorted([*WORDS, "xyz"])


def test_what_the_index_does_not_have_yet_is_found_at_once(settings):
    with ExpManager(**settings) as manager:
        fill(manager)
        manager.sync.create_exps([exp("zzzz"), exp("zzzy")])
        assert set(answers(manager, "zzzz", 2)) == {"zzzz", "zzzy"}
        assert "zzzz" not in in_index(manager)
        manager.sync.delete_exps({"request": "zzzy"})
        assert "zzzy" not in answers(manager, "zzzz", 5)
        manager.sync.flush()
        assert in_index(manager) == sorted([*WORDS, "zzzz"])


def test_superseded_evicted_and_deleted_rows_leave_the_index_also_after_a_kill(settings):
    script = """
        import os
        from conftest import letters
        from exp_pool import Experience, ExpManager, ThresholdJudge
        from exp_pool.runtime import clock as _clock
        manager = ExpManager(**SETTINGS, embedder=letters)
        exps = [Experience(function="f", request=word, response="a") for word in ("abc", "abd", "abe")]
        manager.sync.create_exps(exps)
        manager.sync.flush()
        manager.sync.create_exp(Experience(function="f", request="abc", response="newer"))
        manager.sync.delete_exp(exps[1].id)
        os._exit(0)
    """
    child(script, settings)
    with ExpManager(**settings) as manager:
        manager.sync.flush()
        assert in_index(manager) == ["abc", "abe"]
        assert [e.response for e in manager.sync.query_exps("abc", top_k=1)] == ["newer"]


def test_another_process_scans_and_is_not_in_trouble(settings):
    with ExpManager(**settings) as manager:
        fill(manager)
        out = child(
            """
            from conftest import letters
            from exp_pool import Experience, ExpManager, ThresholdJudge
            from exp_pool.runtime import clock as _clock
            with ExpManager(**SETTINGS, embedder=letters) as manager:
                manager.sync.create_exp(Experience(function="f", request="wwww", response="a"))
                manager.sync.flush()
                print([hit.experience.request for hit in manager.sync.search("wwww", top_k=1)], manager.stats().degraded, manager.stats().indexed)
            """,
            settings,
        )
        assert out == "['wwww'] 0 0\n"
        assert answers(manager, "wwww", 1) == ["wwww"]
    with ExpManager(**settings) as successor:  # and it can be taken over
        successor.sync.flush()
        assert in_index(successor) == sorted([*WORDS, "wwww"])


def test_a_child_by_fork_scans(settings):
    with ExpManager(**settings) as manager:
        fill(manager)
        pid = os.fork()
        if not pid:
            try:
                found = answers(manager, "afk", 1)
                sys.stderr.write(f"{found}\n")
                os._exit(0 if found == ["afk"] else 1)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
        manager.sync.create_exp(exp("vvvv"))
        manager.sync.flush()
        assert "vvvv" in in_index(manager)


def test_rebuilding_goes_on_beside_the_old_one_which_answers(settings, tmp_path):
    with ExpManager(**settings) as manager:
        fill(manager)
        before, seen = current(tmp_path), []

        def progress(done, total):
            seen.append(
                (done, total, current(tmp_path), answers(manager, "afk", 1), in_index(manager) == sorted(WORDS))
            )

        assert manager.sync.reindex(progress) == 75
        assert seen == [(75, 75, before, ["afk"], True)]
        assert current(tmp_path) != before
        assert not (shelf(tmp_path) / before).exists()
        assert in_index(manager) == sorted(WORDS)
        assert manager.stats().repaired == 0


def test_a_clean_index_is_opened_as_it_is(settings, tmp_path):
    with ExpManager(**settings) as manager:
        fill(manager)
        generation = current(tmp_path)
    assert not (shelf(tmp_path) / "open").exists()
    with ExpManager(**settings) as manager:
        manager.sync.flush()
        assert (shelf(tmp_path) / "open").exists()
        assert (manager.stats().indexed, manager.stats().repaired, current(tmp_path)) == (0, 0, generation)
        assert in_index(manager) == sorted(WORDS)


def test_an_index_left_open_is_looked_at_and_kept_if_it_is_sound(settings, tmp_path):
    kill_with_rows(settings)
    generation = current(tmp_path)
    assert (shelf(tmp_path) / "open").exists()
    with ExpManager(**settings) as manager:
        (problem,) = manager.sync.doctor().problems
        assert "not closed by the process that wrote it" in problem
        manager.sync.flush()
        assert (manager.stats().repaired, current(tmp_path)) == (0, generation)
        assert in_index(manager) == sorted(WORDS)
        assert manager.sync.doctor().sound


def test_observers_hear_how_far_building_got(settings, tmp_path):
    class Heard:
        def __init__(self):
            self.events = []

        def notify(self, event):
            if event.kind == "rebuild":
                self.events.append((event.namespace, dict(event.detail)))

    heard = Heard()
    with ExpManager(**settings, observers=[heard]) as manager:
        fill(manager)
        assert heard.events == [("default", {"done": 75, "total": 75})]
        manager.sync.create_exp(exp("xyz"))
        manager.sync.flush()
        assert len(heard.events) == 1  # keeping up is no building


def test_what_another_version_of_chroma_wrote_is_looked_at(settings, tmp_path):
    with ExpManager(**settings) as manager:
        fill(manager)
    mark = shelf(tmp_path) / f"{current(tmp_path)}.sound"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "library": "chromadb 1.0.0"}))
    with ExpManager(**settings) as manager:
        assert "not written by chromadb" in manager.sync.doctor().problems[0]
        report = manager.sync.doctor(fix=True)
        assert (report.sound, report.done) == (True, ["the index was built anew"])


def test_rows_that_a_left_open_index_lost_are_noticed(settings, tmp_path):
    kill_with_rows(settings)
    (segment,) = [path for path in (shelf(tmp_path) / current(tmp_path)).iterdir() if path.is_dir()]
    shutil.rmtree(segment)  # Chroma then counts all of them and finds those of its log
    with ExpManager(**settings) as manager:
        manager.sync.flush()
        assert in_index(manager) == sorted(WORDS)


def test_a_store_put_back_from_a_copy_has_its_index_built_anew(settings, tmp_path):
    with ExpManager(**settings) as manager:
        fill(manager)
    shutil.copytree(tmp_path / "pool", tmp_path / "copy")
    with ExpManager(**settings) as manager:
        manager.sync.delete_exps({"request": {"in": WORDS[:5]}})
        manager.sync.flush()
        assert in_index(manager) == sorted(WORDS[5:])
    for name in ("pool.db", "pool.db-wal", "pool.db-shm"):
        if (tmp_path / "copy" / name).exists():
            shutil.copy(tmp_path / "copy" / name, tmp_path / "pool" / name)
    with ExpManager(**settings) as manager:
        manager.sync.flush()
        assert in_index(manager) == sorted(WORDS)
        assert manager.stats().repaired == 1


def test_the_index_of_another_pool_is_left_alone(settings, tmp_path):
    with ExpManager(**settings) as manager:
        fill(manager)
    before = {path: path.read_bytes() for path in (tmp_path / "pool" / "chroma").rglob("*") if path.is_file()}
    with ExpManager(**{**settings, "store": f"sqlite:///{tmp_path}/other.db"}) as manager:
        with pytest.warns(ExpPoolWarning, match="index of another pool; give this one a folder of its own"):
            fill(manager)
        assert answers(manager, "afk", 1) == ["afk"]
        manager.sync.delete_all_exps()
    assert {path: path.read_bytes() for path in (tmp_path / "pool" / "chroma").rglob("*") if path.is_file()} == before


def test_two_embedders_over_one_namespace_are_told_apart(settings):
    def reverse(texts):
        return letters(texts)[:, ::-1] + 1

    with ExpManager(**settings) as first, ExpManager(**{**settings, "embedder": reverse}) as second:
        fill(first, ["abc", "xyz"])
        assert answers(second, "abc", 1) == ["abc"]  # the one that came last has it
        with pytest.raises(EmbedderError, match="use the same embedder in both, or another namespace"):
            first.sync.search("abc")
        first.sync.create_exp(exp("mno"))
        first.sync._worker._touches.clear()
        with pytest.raises(EmbedderError):
            first.sync.flush()
        assert answers(second, "mno", 1) == ["mno"]


def test_a_link_out_of_the_folder_is_not_followed(settings, tmp_path):
    with ExpManager(**settings) as manager:
        fill(manager)
    outside = tmp_path / "outside"
    shutil.move(shelf(tmp_path), outside)
    before = sorted(path.name for path in outside.rglob("*"))
    with ExpManager(**settings) as manager:
        space = next(iter(manager.sync._store.partitions()))
        name = f"{digest(space.namespace)}-{digest(space.embedder)}"
        (tmp_path / "pool" / "chroma" / name).symlink_to(outside)
        manager.sync.flush()
        assert in_index(manager) == sorted(WORDS)
    assert sorted(path.name for path in outside.rglob("*")) == before
    assert any(path.is_symlink() and "set-aside" in path.name for path in (tmp_path / "pool" / "chroma").iterdir())


def test_conditions_that_few_rows_meet_are_applied_before_ranking(settings):
    with ExpManager(**settings) as manager:
        manager.sync.create_exps([exp("a" * n) for n in range(1, 200)])
        manager.sync.create_exps([exp("zz", metadata={"team": "rare"}), exp("yy", metadata={"team": "rare"})])
        manager.sync.flush()
        found = manager.sync.search("aaa", top_k=2, where={"metadata.team": "rare"})
        assert {hit.experience.request for hit in found} == {"zz", "yy"}


def test_filters_on_few_of_many_rows_find_all_of_them(tmp_path):
    """By widening, and in the end by Chroma's own filter."""
    from exp_pool.core.record import Vector
    from exp_pool.protocols import IndexPartition, VectorRow

    index, space = ChromaIndex(tmp_path / "c", timeout_s=30), IndexPartition("n", "e")
    index.generation(space, "p")
    vectors = to_unit(np.random.default_rng(0).normal(size=(6000, 8)), 6000)
    index.upsert_many(
        space,
        [
            VectorRow(str(i), "n", "f" if i % 1000 else "g", "", "", 0, Vector("e", v.tobytes()))
            for i, v in enumerate(vectors)
        ],
    )
    index.complete(space)
    found = index.search(VectorQuery("n", "e", vectors[:1] * -1, 10, function="g"))[0]
    assert {neighbour.id for neighbour in found} == {"0", "1000", "2000", "3000", "4000", "5000"}
    index.close()


def test_bad_settings_name_the_value_and_the_remedy(settings):
    for name, value in (("max_bytes", "lots"), ("scan_bytes", "-1"), ("compress_above", [])):
        with pytest.raises(ValueError, match=f"{name}=.*(write a number of bytes|must be above zero)"):
            ExpManager(**{**settings, name: value})
    with (
        ExpManager(**{**settings, "store": "memory://"}) as manager,
        pytest.raises(InvalidInputError, match="snapshots.save"),
    ):
        manager.sync.backup("x")


def kill_with_rows(settings):
    """A process that filled the index, in two writes of Chroma's graph, and was killed."""
    script = f"""
        import os
        from conftest import letters
        from exp_pool import Experience, ExpManager, ThresholdJudge
        from exp_pool.runtime import clock as _clock
        manager = ExpManager(**SETTINGS, embedder=letters)
        manager.sync.create_exps([Experience(function="f", request=word, response=word) for word in {WORDS}])
        manager.sync.flush()
        os._exit(0)
    """
    child(script, settings)


def child(script, settings):
    given = {name: value for name, value in settings.items() if name != "embedder"}
    script = textwrap.dedent(script).replace("SETTINGS", repr(given))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False, env=_env()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _env():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


class LyingIndex:
    """Knows every id of every tenant, and says that each is the same as what was asked for."""

    derived = True

    def __init__(self, ids):
        self.ids = ids

    def __getattr__(self, name):
        return getattr(NoIndex(), name)

    def search(self, query):
        return [[Neighbour(id_, chance) for id_, chance in zip(self.ids, itertools.cycle([1.0, math.nan, math.inf]))]]


def test_what_an_index_says_is_not_believed(tmp_path, monkeypatch):
    soon = datetime.now(UTC) + timedelta(hours=1)
    exps = {
        "near": exp("abc"),
        "far": exp("xyz"),
        "superseded": exp("abcc", response="old"),
        "deleted": exp("abca"),
        "quarantined": exp("abcb", trust="quarantined"),
        "expired": exp("abccc", expires_at=soon),
        "foreign": exp("abc", namespace="other"),
        "another function": exp("abc").clone(function="g"),
    }
    index = LyingIndex(["nobody", *(e.id for e in exps.values())])
    with ExpManager(store=f"sqlite:///{tmp_path}/pool.db", index=index, embedder=letters, index_from=1) as manager:
        manager.sync.create_exps(list(exps.values()))
        manager.sync.create_exp(exp("abcc", response="new", expires_at=soon))
        manager.sync.delete_exp(exps["deleted"].id)
        manager.sync.flush()
        monkeypatch.setattr("exp_pool.search.search.now_us", lambda: clock.to_us(soon) + 1)
        hits = manager.sync.search("abc", function="f", top_k=20)
        assert [hit.experience.request for hit in hits] == ["abc", "xyz"]
        assert hits[0].similarity == pytest.approx(1.0)
        assert hits[1].similarity < 0.1


@pytest.mark.parametrize("damage", ["an exponent", "not a number", "another length", "nothing"])
def test_a_damaged_vector_is_similar_to_nothing(settings, damage):
    index = "exact://" if damage != "nothing" else settings["index"]
    with ExpManager(**{**settings, "index": index, "hot_ttl": 0}) as manager:

        @manager.exp_cache(name="f", judge=ThresholdJudge(0.95))
        def f(req):
            return f"about {req}"

        f("two plus two"), f("zzz")
        manager.sync.flush()
        (row,) = [
            row
            for row in manager.sync._store.vectors_after("default", *_embedder(manager), 0, 9)
            if _text(manager, row) == "two plus two"
        ]
        values = np.frombuffer(row.vector.values, dtype="<f4").copy()
        if damage == "an exponent":
            values[np.argmax(values)] *= 2.0**60
        elif damage == "not a number":
            values[0] = np.nan
        elif damage == "another length":
            values = values[:-1]
        with closing(sqlite3.connect(manager.sync.place)) as raw:
            raw.execute(
                "UPDATE vectors SET data = ?, position = position + 100 WHERE id = ?", (values.tobytes(), row.id)
            )
            raw.commit()
        assert f("delete everything") == "about delete everything"
        found = [hit.experience.request for hit in manager.sync.search("two plus two", top_k=9)]
        assert ("two plus two" in found) is (damage == "nothing")
        assert "zzz" in found


def _embedder(manager):
    return [space.embedder for space in manager.sync._store.partitions()]


def _text(manager, row):
    return manager.sync.get_exp(row.id).request


def test_a_least_similarity_that_nothing_reaches_does_not_read_everything(settings):
    with ExpManager(**{**settings, "index": "exact://"}) as manager:
        manager.sync.create_exps([exp("a" * n) for n in range(1, 400)])
        manager.sync.flush()
        asked = []
        get_many = manager.sync._store.get_many
        manager.sync.queries.search._store = counting = type(
            "Counting", (), {"__getattr__": lambda _, name: getattr(manager.sync._store, name)}
        )()
        counting.get_many = lambda *args, **how: asked.append(len(args[1])) or get_many(*args, **how)
        assert manager.sync.search("zzz", min_similarity=0.9) == []
        assert sum(asked) < 50


def test_an_index_in_doubt_stays_so_until_it_was_compared(settings, tmp_path):
    kill_with_rows(settings)
    with ExpManager(**settings) as manager:
        store = manager.sync._index_sync._store
        faulty = FaultyStore(store, every("vectors_after"))
        manager.sync._index_sync._store = faulty
        with pytest.raises(StoreError):
            manager.sync.flush()
    assert (shelf(tmp_path) / "open").exists()
    with ExpManager(**settings) as manager:
        assert "not closed" in manager.sync.doctor().problems[0]
        manager.sync.flush()
        assert in_index(manager) == sorted(WORDS)


def test_an_index_that_is_cleared_during_a_search_is_not_asked_for_what_it_had(settings):
    with ExpManager(**settings) as manager:
        fill(manager)
        search = manager.sync._index.search

        def late(query):
            manager.sync._index_sync.clear("default")
            return search(query)

        manager.sync._index.search = late
        assert answers(manager, "afk", 1) == ["afk"]
