"""Requests found by their words, and by words and meaning together, on every kind of store."""

import math
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from conftest import large_data
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from questions import rows

from exp_pool import Experience, in_namespace
from exp_pool.core.tokenizer import words
from exp_pool.errors import ExpPoolError, InvalidInputError, StoreError
from exp_pool.search.indexes.lexical import LexicalIndex, LexicalQuery
from exp_pool.stores.memory import MemoryStore
from exp_pool.testing import FaultyStore
from exp_pool.testing.faults import at, every

STORES = {"memory": "memory://", "sqlite": "sqlite:///pool.db", "json": "json:///pool"}


@pytest.fixture(params=STORES)
def pool(request, make_manager):
    """Neither an embedder nor an index is needed."""
    return make_manager(store=STORES[request.param], index="none://", embedder="none").sync


def exp(request, response="a", **fields):
    return Experience(**{"function": "f", "request": request, "response": response, **fields})


def found(pool, text, **how):
    return [e.request for e in pool.query_exps(text, query_type="lexical", **how)]


# What is found


def test_rare_words_count_and_common_ones_do_not(pool):
    pool.create_exps([exp(f"how do I open the door number {n}") for n in range(20)])
    pool.create_exp(exp("how do I open the safe"))
    hits = pool.search("how do I crack the safe", query_type="lexical", top_k=3)
    assert hits[0].experience.request == "how do I open the safe"
    assert [hit.found_by for hit in hits] == ["lexical"] * 3
    assert 1 > hits[0].similarity > hits[1].similarity > 0
    (same,) = pool.search("How do I open the SAFE?", query_type="lexical", top_k=1)
    assert same.similarity == 1.0
    assert found(pool, "how do I crack the safe", min_similarity=hits[0].similarity) == ["how do I open the safe"]


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("为什么我的订单还没有发货", "订单何时发货"),
        ("東京タワーへの行き方を教えて", "タワーの行き方"),
        ("วิธีรีเซ็ตรหัสผ่านของฉัน", "ลืมรหัสผ่าน"),
        ("비밀번호를 재설정하는 방법", "비밀번호 변경"),
        ("Où est le café près de l'hôtel", "cafe pres de l'hotel"),
        ("fix NullPointerException in user_client.getUserById", "user by id"),
        ("TypeError in parse_config since v2.3.1", "parseConfig 2.3.1"),
        ("payment fails with error E1001", "what is E1001"),
        ("如何用Python调用getUserById接口", "getUserById"),
    ],
)
def test_languages_and_code(pool, stored, asked):
    others = [
        "今天天气怎么样",
        "京都の天気",
        "อากาศวันนี้",
        "오늘 날씨",
        "Où est la gare",
        "TypeError in main.py",
        "E1002",
    ]
    pool.create_exps([exp(text) for text in [*others, stored]])
    assert found(pool, asked, top_k=1) == [stored]


@pytest.mark.parametrize("text", ["", " \n", "?!… -- ***", "\0", "\ud800", "🙂", "the of and"])
def test_nothing_to_look_for_is_harmless(pool, text):
    pool.create_exps([exp(text), exp("a request of other words")])
    assert found(pool, "quite different") == []
    assert all("of" in words(request) for request in found(pool, text))


@pytest.mark.parametrize(
    "text",
    ["x" * 1_000_000, "word " * 200_000, " ".join(f"w{n}" for n in range(10_000)), "ﷺ" * 200_000, "好" * 500_000],
)
def test_huge_requests(pool, text):
    pool.create_exps([exp(text), exp("short")])
    assert found(pool, text) == [text]
    assert found(pool, "short") == ["short"]


HOSTILE = ["NEAR(a b)", '"a', "a*", "-a", "a AND NOT b", "request:a", "a') OR 1=1 --", "%", "_", "$where", "a\0b"]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=()))), st.sampled_from("mn"))
@example("a\ud800b", "m")
def test_whatever_is_asked_stays_in_its_namespace(make_manager, text, namespace):
    pool = make_manager(index="none://", embedder="none").sync
    for name in ("m", "n"):
        with in_namespace(name):
            pool.create_exps([exp(each, name) for each in {text, "a b", *HOSTILE}])
    for query_type in ("lexical", "exact"):
        hits = pool.search(text, query_type=query_type, namespace=namespace, top_k=100)
        assert {hit.experience.response for hit in hits} <= {namespace}
    assert (text in found(pool, text, namespace=namespace, top_k=100)) == bool(words(text))
    with pytest.raises(InvalidInputError):
        pool.search(text, query_type="hybrid", namespace=namespace)


def plain_bm25(texts, asked, scored):
    """The formula, word by word: what each of the scored texts gets among these texts."""
    split = [Counter(words(text)) for text in texts]
    mean = sum(each.total() for each in split) / len(split)
    scores = []
    for each in (Counter(words(text)) for text in scored):
        score = 0.0
        for word in words(asked):
            holding = sum(word in other for other in split)
            weight = math.log(1 + (len(split) - holding + 0.5) / (holding + 0.5))
            count = each[word]
            score += weight * count / (count + 1.2 * (1 - 0.75 + 0.75 * each.total() / mean))
        scores.append(score)
    return scores


def test_the_ranking_is_bm25(pool):
    chance = random.Random(3)
    vocabulary = [f"w{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(60)]
    texts = list({" ".join(chance.choices(vocabulary, range(60, 0, -1), k=chance.randint(1, 30))) for _ in range(260)})
    gone = texts[200:]
    ids = pool.create_exps([exp(text) for text in texts])
    for id_ in ids[200:]:
        pool.delete_exp(id_)
    for text in gone:  # what is found dead counts no longer
        found(pool, text)
    del texts[200:]
    for _ in range(30):
        asked = " ".join(chance.choices(vocabulary, k=chance.randint(1, 8)))
        scores = dict(zip(texts, plain_bm25(texts, asked, texts), strict=True))
        hits = pool.search(asked, query_type="lexical", top_k=200)
        assert len(hits) == sum(score > 0 for score in scores.values())
        mine = [scores[hit.experience.request] for hit in hits]
        assert all(before >= after - 1e-9 for before, after in zip(mine, mine[1:], strict=False))
        (itself,) = plain_bm25(texts, asked, [asked])
        shares = [min(1.0, score / itself) for score in mine]
        assert [hit.similarity for hit in hits] == pytest.approx(shares)


# Who is asked for


def test_the_scope_is_applied_before_the_ranking(pool):
    """A hundred better rows of another function, of other teams and of other namespaces do not crowd out the one."""
    better = [exp("reset my password", n, function="other", arguments={"n": n}) for n in range(100)]
    pool.create_exps([*better, exp("how can a password be reset", metadata={"team": "x"})])
    assert found(pool, "reset my password", function="f", top_k=1) == ["how can a password be reset"]
    assert found(pool, "reset my password", where={"metadata.team": "x"}, top_k=1) == ["how can a password be reset"]
    assert found(pool, "reset my password", function="nobody's") == []
    assert found(pool, "sesame", where={"metadata.team": "x"}) == []
    with in_namespace("another"):
        assert found(pool, "reset my password") == []


def test_twenty_namespaces_with_the_same_requests(pool):
    texts = [f"reset the password of account {n}" for n in range(10)]
    for space in range(20):
        with in_namespace(f"tenant {space}"):
            pool.create_exps([exp(text, space, id=f"row {n}") for n, text in enumerate(texts)])

    def ask(turn):
        space, n = turn % 20, turn % 10
        hits = pool.search(texts[n], query_type="lexical", namespace=f"tenant {space}", top_k=10)
        assert {hit.experience.response for hit in hits} == {space}
        assert (len(hits), hits[0].experience.request) == (10, texts[n])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(400)))


def test_what_must_not_be_returned_is_not(pool):
    texts = {name: f"open the {name} door" for name in ("deleted", "expired", "quarantined", "replaced", "kept")}
    ids = dict(zip(texts, pool.create_exps([exp(text) for text in texts.values()]), strict=True))
    assert set(found(pool, "open the door", top_k=10)) == set(texts.values())
    pool.delete_exp(ids["deleted"])
    pool.update_exp(ids["expired"], expires_at=datetime.now(UTC) - timedelta(1))
    pool.update_exp(ids["quarantined"], trust="quarantined")
    pool.create_exp(exp(texts["replaced"], "newer"))
    hits = pool.search("open the door", query_type="lexical", top_k=10)
    assert {hit.experience.request for hit in hits} == {texts["kept"], texts["replaced"]}
    assert "newer" in [hit.experience.response for hit in hits]
    pool.update_exp(ids["quarantined"], trust="trusted")
    assert found(pool, "quarantined", top_k=1) == [texts["quarantined"]]
    pool.delete_all_exps()
    assert found(pool, "open the door") == []
    pool.create_exp(exp("open the window"))
    assert found(pool, "open the door") == ["open the window"]


def test_many_dead_rows_do_not_hide_one_that_lives(pool):
    """The same call answered again and again: each answer but the last is history."""
    pool.create_exp(exp("how is the weather in Rome"))
    for n in range(300):
        pool.create_exp(exp("how is the weather", n))
        if n % 100 == 0:
            assert len(found(pool, "how is the weather")) == 2
    hits = pool.search("how is the weather", query_type="lexical")
    assert [hit.experience.response for hit in hits] == [299, "a"]


def test_what_was_written_is_found_at_once(pool):
    for n in range(50):
        pool.create_exp(exp(f"the {n}th request"))
        assert found(pool, f"{n}th", top_k=1) == [f"the {n}th request"]


# Where it comes from


@pytest.mark.parametrize("url", ["sqlite:///{}/pool.db", "json:///{}/pool"])
def test_what_another_process_writes_is_found(make_manager, tmp_path, url):
    store = url.format(tmp_path)
    pool = make_manager(store=store, index="none://", embedder="none").sync
    pool.create_exp(exp("written here"))
    assert found(pool, "written") == ["written here"]
    code = (
        "from exp_pool import Experience, ExpManager\n"
        f"with ExpManager(store={store!r}, index='none://', embedder='none') as manager:\n"
        "    manager.sync.create_exp(Experience(function='f', request='written there', response=1))\n"
        "    print([e.request for e in manager.sync.query_exps('written', query_type='lexical')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['written here', 'written there']"
    assert found(pool, "written") == ["written here", "written there"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_a_child_process_searches_for_itself(make_manager, tmp_path):
    pool = make_manager(store=f"sqlite:///{tmp_path}/pool.db", index="none://", embedder="none").sync
    pool.create_exp(exp("written before"))
    lexical = pool.services.search._lexical
    with lexical._lock:  # as another thread may have it at that moment
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # a child that waits for ever is one that failed
            try:
                pool.create_exp(exp("written in the child"))
                os._exit(0 if len(found(pool, "written")) == 2 else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(found(pool, "written")) == 2


def test_a_request_changed_by_hand_is_found_by_its_new_words(make_manager, tmp_path):
    pool = make_manager(store=f"json:///{tmp_path}/pool", index="none://", embedder="none").sync
    pool.create_exp(exp("the old words"))
    assert found(pool, "old") == ["the old words"]
    (path,) = [path for path in (tmp_path / "pool").rglob("*.json") if "the old words" in path.read_text()]
    path.write_text(path.read_text().replace("the old words", "quite other ones"))
    assert (found(pool, "old"), found(pool, "other")) == ([], ["quite other ones"])


def test_after_a_restore_nothing_is_remembered(make_manager, tmp_path):
    pool = make_manager(store=f"sqlite:///{tmp_path}/pool.db", index="none://", embedder="none").sync
    pool.create_exp(exp("first"))
    pool.backup(tmp_path / "backup.db")
    pool.create_exps([exp("second"), exp("third")])
    assert found(pool, "second") == ["second"]
    pool.restore(tmp_path / "backup.db")
    pool.create_exp(exp("second again"))  # at the position that the second had
    assert (found(pool, "second"), found(pool, "third")) == (["second again"], [])


def test_memory_is_bounded_by_dropping_what_was_searched_longest_ago(make_manager):
    manager = make_manager()
    for space in "abc":
        with in_namespace(space):
            manager.sync.create_exps([exp(f"request number {n}") for n in range(100)])
    index = LexicalIndex(manager.sync.store, max_bytes=120_000)  # two of the three
    sizes = set()
    for space in "abcabca":
        assert len(index.search(LexicalQuery(space, "number 7", 200))) == 100
        sizes.add(len(index._tables))
        assert space in index._tables
    assert sizes == {1, 2}
    index.close()
    assert len(index.search(LexicalQuery("a", "number 7", 200))) == 100


def test_dead_rows_are_dropped_from_memory(make_manager, monkeypatch):
    monkeypatch.setattr("exp_pool.search.indexes.lexical._SPARE_DEAD", 10)
    pool = make_manager().sync
    pool.create_exps([exp(f"request {n}") for n in range(50)])
    found(pool, "request")
    pool.delete_exps({"request": {"ne": "request 7"}})
    assert found(pool, "request 7", top_k=50) == ["request 7"]
    assert found(pool, "request") == ["request 7"]
    assert len(pool.services.search._lexical._tables["default"]._ids) == 1


@pytest.mark.parametrize("method", ["requests_after", "get_many"])
def test_a_store_that_fails_is_said_and_nothing_is_missing_afterwards(make_manager, method):
    store = FaultyStore(MemoryStore())
    pool = make_manager(store=store, index="none://", embedder="none").sync
    pool.create_exps([exp(f"request {n}") for n in range(2500)])  # three pages
    store.plan = every(method)
    with pytest.raises(StoreError, match=f"{method} was made to fail"):
        found(pool, "request")
    store.plan = at(len(store.calls) + 2)  # the second page; or, where all were read, the join
    with pytest.raises(StoreError, match="call"):
        found(pool, "request")
    store.plan = None
    assert len(found(pool, "request", top_k=3000)) == 2500
    assert found(pool, "2499") == ["request 2499"]


# Both


def test_a_hybrid_hit_says_how_it_was_found(make_manager):
    """The tiny embedder counts letters: what it finds similar shares letters, not words."""
    pool = make_manager().sync
    pool.create_exps([exp("listen now"), exp("silent won"), exp("xyz now"), exp("qqq")])
    hits = {hit.experience.request: hit for hit in pool.search("listen now", query_type="hybrid", top_k=10)}
    assert {request: hit.found_by for request, hit in hits.items()} == {
        "listen now": "semantic+lexical",
        "silent won": "semantic",
        "xyz now": "semantic+lexical",
        "qqq": "semantic",
    }
    assert next(iter(hits)) == "listen now"
    cosines = {hit.experience.request: hit.similarity for hit in pool.search("listen now", top_k=10)}
    assert {request: hit.similarity for request, hit in hits.items()} == pytest.approx(cosines)
    near = pool.search("listen now", query_type="hybrid", top_k=10, min_similarity=0.9)
    assert {hit.experience.request for hit in near} == {"listen now", "silent won"}
    assert [hit.experience.request for hit in pool.search("listen now", query_type="hybrid", top_k=1)] == ["listen now"]


def test_what_only_words_find_is_in_a_hybrid_result(make_manager):
    pool = make_manager().sync
    pool.create_exps([exp(f"aaa{'b' * (n % 40)} {n}") for n in range(200)])
    pool.create_exp(exp("zzzzzzzzzzzzzzzz E1001"))  # far from the question by its letters
    hits = pool.search("aaaaaaaaaa e1001", query_type="hybrid", top_k=10)
    (hit,) = [hit for hit in hits if hit.experience.request.endswith("E1001")]
    assert hit.found_by == "lexical"
    (semantic,) = [h for h in pool.search("aaaaaaaaaa e1001", top_k=300) if h.experience.id == hit.experience.id]
    assert hit.similarity == pytest.approx(semantic.similarity, abs=1e-5)


def test_hybrid_wants_an_embedder_and_says_so(pool):
    pool.create_exp(exp("r"))
    with pytest.raises(InvalidInputError, match=r"none://.*query_type='exact' or 'lexical'"):
        pool.search("r", query_type="hybrid")


def test_an_embedder_that_fails_is_an_error_of_hybrid_and_none_of_lexical(make_manager):
    def broken(texts):
        raise RuntimeError("out of order")

    pool = make_manager(embedder=broken).sync
    pool.create_exp(exp("r"))
    assert found(pool, "r") == ["r"]
    with pytest.raises(ExpPoolError, match="out of order"):
        pool.search("r", query_type="hybrid")


# Sentences with a word altered


@pytest.fixture(scope="session")
def chinese():
    """Chinese sentences of documents, some with English words and code in them."""
    folder = large_data("../seeds")
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt")))
    sentences = dict.fromkeys(sentence.strip() for sentence in re.split(r"[。！？；\n]", text))
    return [sentence for sentence in sentences if len(re.findall(r"[\u4e00-\u9fff]", sentence)) >= 10]


def altered_chinese(sentence, chance, others):
    """Two neighbouring characters, the length of most Chinese words, become those of another sentence."""
    places = [m.start() for m in re.finditer(r"(?=[\u4e00-\u9fff]{2})", sentence)]
    at = chance.choice(places)
    new = chance.choice(re.findall(r"[\u4e00-\u9fff]{2}", chance.choice(others)))
    return sentence[:at] + new + sentence[at + 2 :]


def altered_english(question, chance, others):
    split = question.split()
    split[chance.randrange(len(split))] = chance.choice(chance.choice(others).split())
    return " ".join(split)


def missed(pool, texts, altered, count, chance):
    asked = [(text, altered(text, chance, texts)) for text in chance.sample(texts, count)]
    return [pair for pair in asked if pair[0] not in found(pool, pair[1], top_k=3)]


def test_with_one_word_altered_the_question_is_found(make_manager):
    """Questions of the clone that nothing near stands beside, English and Chinese in one pool: each in the top 3."""
    chance = random.Random(11)
    long = {"en": lambda text: len(text.split()) >= 6, "zh": lambda text: len(text) >= 9}
    texts = {
        language: list(
            dict.fromkeys(row["a"] for row in rows("pairs") if row["language"] == language and enough(row["a"]))
        )
        for language, enough in long.items()
    }
    pool = make_manager(index="none://", embedder="none").sync
    pool.create_exps([exp(text) for text in chance.sample(sum(texts.values(), []), sum(map(len, texts.values())))])
    assert missed(pool, texts["zh"], altered_chinese, 30, chance) == []
    assert missed(pool, texts["en"], altered_english, 50, chance) == []


def test_with_one_word_altered_the_original_is_found(make_manager, chinese, question_pairs):
    """200 Chinese sentences and 200 English questions, all in one pool of 5,000 of both: each in the top 3."""
    chance = random.Random(11)
    english = list(dict.fromkeys(a for a, _, _ in question_pairs if len(a.split()) >= 4))[: 5000 - len(chinese)]
    assert len(chinese) >= 200
    pool = make_manager(index="none://", embedder="none").sync
    pool.create_exps([exp(text) for text in chance.sample([*chinese, *english], len(chinese) + len(english))])
    for texts, altered in ((chinese, altered_chinese), (english, altered_english)):
        assert missed(pool, texts, altered, 200, chance) == []
