"""Chunks of documents as they are ready: what is given, when, in how much memory, and what is left behind."""

import asyncio
import os
import random
import re
import tracemalloc
from collections import defaultdict
from contextlib import aclosing, suppress

import psutil
import pytest
from support.chunk_texts import SCRIPTS, put_together

from exp_pool import ExpManager
from exp_pool.errors import ConfigurationError, DocumentError, EmbedderError, ExpPoolWarning, InvalidInputError
from exp_pool.retrieval import AsyncRAGGenerator

FULL = "x" * 1000


def retrieve(query, documents, top_k=None, min_score=None, **settings):
    """All chunks. No task is left."""

    async def main():
        stream = AsyncRAGGenerator(**settings).stream_retrieval(query, documents, top_k=top_k, min_score=min_score)
        chunks = [chunk async for chunk in stream]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return chunks

    return asyncio.run(main())


async def in_pieces(text, size=100):
    for start in range(0, len(text), size):
        yield text[start : start + size]
        await asyncio.sleep(0)


async def lazily(documents):
    for document in documents:
        yield document


def scores(query, documents, **settings):
    """Of documents that are one chunk each."""
    chunks = retrieve(query, documents, **settings)
    assert sorted(chunk.document for chunk in chunks) == list(range(len(documents)))
    return [chunk.score for chunk in sorted(chunks, key=lambda chunk: chunk.document)]


# ── What is given ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_thousand_documents_in_six_scripts_are_given_back(tmp_path):
    rng = random.Random(8)
    texts = [SCRIPTS[rng.choice(sorted(SCRIPTS))](rng, rng.randrange(200)) for _ in range(1000)]
    for by, count in (("characters", 1000), ("sentences", 200), ("tokens", 100)):
        documents = []
        for number, text in enumerate(texts[:count]):
            path = tmp_path / f"{by}{number}"
            path.write_text(text, encoding="utf-8", newline="")
            documents.append([text, path, in_pieces(text, 17)][number % 3])
        pieces = defaultdict(list)
        for chunk in retrieve("a 中", documents, chunk_size=30, overlap=10, by=by):
            assert chunk.error is None
            pieces[chunk.document].append((chunk.position, chunk.text))
        assert [put_together(pieces[number]) for number in range(count)] == texts[:count]


def test_every_way_to_hand_over_documents_gives_the_same():
    texts = ["one two. " * 50, "", "drei vier. " * 50, " "]
    expected = sorted(retrieve("two", texts, chunk_size=40), key=repr)
    assert {chunk.document for chunk in expected} == {0, 2, 3}
    for documents in (iter(texts), tuple(texts), lazily(texts), (text for text in texts)):
        assert sorted(retrieve("two", documents, chunk_size=40, concurrency=1), key=repr) == expected


def test_a_file_in_another_encoding(tmp_path):
    (tmp_path / "gb").write_bytes("异步编程".encode("gb18030"))
    (tmp_path / "bom").write_bytes(b"\xff\xfea\x00\r\x00\n\x00")
    assert [chunk.text for chunk in retrieve("编程", [tmp_path / "gb"], encoding="gb18030")] == ["异步编程"]
    assert [chunk.text for chunk in retrieve("a", [tmp_path / "bom"], encoding="utf-16")] == ["a\r\n"]


# ── When ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_chunk_is_there_before_the_last_document_is_read():
    async def main():
        seen = asyncio.Event()

        async def late():
            yield "early " * 400
            await seen.wait()
            yield "late"

        chunks = AsyncRAGGenerator(100).stream_retrieval("late", [late(), late(), "here"])
        async with aclosing(chunks):
            first = await anext(chunks)
            seen.set()
            return first, [chunk async for chunk in chunks]

    first, others = asyncio.run(main())
    assert first.text
    assert sum("late" in chunk.text for chunk in others) == 2


def test_who_takes_slowly_is_not_read_ahead_of():
    taken = 0

    async def endless():
        nonlocal taken
        while True:
            taken += 1
            yield FULL

    async def main():
        chunks = AsyncRAGGenerator(100, concurrency=3).stream_retrieval("x", [endless() for _ in range(3)])
        async with aclosing(chunks):
            for number in range(200):
                await anext(chunks)
                for _ in range(5):
                    await asyncio.sleep(0)
                assert taken * 10 < number + 64 + 3 * 2 * 16 + 30

    asyncio.run(main())


def test_a_thousand_documents_of_ten_kilobytes_in_little_memory(tmp_path):
    path = tmp_path / "document"
    path.write_text("Some words about the pool. " * 380, encoding="utf-8")

    async def same(query, texts):  # counting words takes its time, above all where memory is traced
        return [0.5] * len(texts)

    async def main():
        chunks = AsyncRAGGenerator(1000, overlap=100, scoring=same).stream_retrieval(
            "pool words", (path if n % 2 else "Some words about the pool. " * 380 for n in range(1000))
        )
        return sum([len(chunk.text) async for chunk in chunks])

    tracemalloc.start()
    try:
        total = asyncio.run(main())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total > 10_000_000
    assert peak < 3_000_000


def test_what_has_enough_reads_no_further():
    read = []

    async def one(number):
        read.append(number)
        yield f"the pool {number}" if number % 2 else "nothing"

    chunks = retrieve("pool", (one(number) for number in range(100)), top_k=3, min_score=0.5, concurrency=2)
    assert [chunk.document for chunk in chunks] == [1, 3, 5]
    assert len(read) < 100
    assert [chunk.document for chunk in retrieve("pool", ["a", "pool", "b"], min_score=0.5)] == [1]


def test_the_best_of_all_best_first():
    documents = ["red", "red green", "", "red green blue", "none", "blue green red", "green blue"]
    found = retrieve("red green blue", documents, top_k=3)
    assert [(chunk.document, chunk.score) for chunk in found] == [(3, 1.0), (5, 1.0), (1, pytest.approx(2 / 3))]
    assert len(retrieve("red", documents, top_k=50)) == 6


# ── What is left behind ───────────────────────────────────────────────────────────────────────────────────────────────


def test_cancelled_in_the_middle_two_hundred_times_nothing_is_left(tmp_path):
    rng, opened, closed = random.Random(2), [], []
    path = tmp_path / "document"
    path.write_text(FULL * 30)

    async def document(key):
        opened.append(key)
        try:
            while True:
                yield FULL
                await asyncio.sleep(0)
        finally:
            closed.append(key)

    async def source(number):
        try:
            for n in range(100):
                yield [document((number, n)), path, FULL * 8][n % 3]
        finally:
            closed.append(number)

    async def taking(number, stop_after):
        opened.append(number)
        stream = AsyncRAGGenerator(rng.randrange(200, 500), overlap=20).stream_retrieval("x", source(number))
        async for _ in stream:
            stop_after -= 1
            if stop_after == 0 and number % 4 == 0:
                break  # without closing it
            if stop_after == 0 and number % 4 == 1:
                await stream.aclose()
                break

    async def main():
        for number in range(200):
            task = asyncio.create_task(taking(number, rng.randrange(1, 40)))
            if number % 4 > 1:
                for _ in range(rng.randrange(40)):
                    await asyncio.sleep(0)
                task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            del task
        for _ in range(20):  # those that were not closed are closed by the loop, at its next turns
            await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}

    files = psutil.Process().num_fds()
    assert asyncio.run(main()) == set()
    assert sorted(map(str, closed)) == sorted(map(str, opened)), "every generator of the user's was closed"
    assert psutil.Process().num_fds() <= files


def test_what_is_made_and_not_read_leaves_nothing():
    read = []

    async def main():
        AsyncRAGGenerator().stream_retrieval("x", map(read.append, [1, 2]))
        await AsyncRAGGenerator().stream_retrieval("x", map(read.append, [1, 2]), top_k=2).aclose()
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    assert read == []


# ── What goes wrong ───────────────────────────────────────────────────────────────────────────────────────────────────


async def raising():
    yield "some text " * 30
    raise OSError("the line is down")


async def numbers():
    yield 5


async def cancelled():
    yield "x"
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda path: path / "nowhere", "No such file"),
        (lambda path: path, "is no regular file"),
        (lambda path: path / "pipe", "is no regular file"),  # to which nobody writes: opening it would never end
        (lambda path: path / "bytes", "invalid start byte"),
        (lambda _: raising(), "ends at character 20[0-9].*the line is down"),
        (lambda _: numbers(), "it gave 5; an async iterable that is a document gives str"),
        (lambda _: cancelled(), "CancelledError"),
        (lambda _: b"bytes", r"b'bytes' is of type bytes; a document is a text \(str\), the path"),
    ],
)
def test_a_broken_document_is_an_item_and_the_others_go_on(tmp_path, broken, message):
    (tmp_path / "bytes").write_bytes(b"good \xff bad")
    os.mkfifo(tmp_path / "pipe")
    documents = ["first pool", broken(tmp_path), "last pool"]
    for choice in ({}, {"min_score": 0.5}, {"top_k": 5}):
        documents[1] = broken(tmp_path)
        chunks = retrieve("pool", iter(documents), chunk_size=100, **choice)
        assert {chunk.document for chunk in chunks if chunk.score == 1.0} == {0, 2}
        (failed,) = [chunk for chunk in chunks if chunk.error is not None]
        assert (failed.document, failed.text, failed.score) == (1, "", 0.0)
        assert isinstance(failed.error, DocumentError)
        assert failed.error.__cause__ is not None
        with pytest.raises(DocumentError, match=message):
            raise failed.error


def test_a_file_that_changes_while_it_is_read_is_broken(tmp_path):
    path = tmp_path / "document"
    path.write_text("a" * 100_000)

    async def main():
        chunks = AsyncRAGGenerator(1000).stream_retrieval("x", [path])
        async with aclosing(chunks):
            found = [await anext(chunks)]
            path.write_text("b" * 90_000)
            return [*found, *[chunk async for chunk in chunks]]

    *read, failed = asyncio.run(main())
    assert "was changed while it was read" in str(failed.error)
    assert {chunk.text for chunk in read} == {"a" * 1000}


def test_a_source_of_documents_that_breaks_ends_the_stream():
    def documents():
        yield "one"
        raise OSError("no more")

    async def cancelled():
        yield "one"
        raise asyncio.CancelledError

    with pytest.raises(OSError, match="no more"):
        retrieve("one", documents())
    with pytest.raises(asyncio.CancelledError):
        retrieve("one", cancelled())


def test_wrong_values_are_named_where_they_are_given():
    def stream(query="x", documents=(), **settings):
        return AsyncRAGGenerator().stream_retrieval(query, documents, **settings)

    for query in ("", " \n", None, 3):
        with pytest.raises(InvalidInputError, match=re.escape(f"query={query!r} must be text, not empty")):
            stream(query)
    for documents in ("one text", b"bytes", 5, None):
        with pytest.raises(InvalidInputError, match=f"documents={documents!r} must be an iterable of documents"):
            stream(documents=documents)
    with pytest.raises(InvalidInputError, match="the document 7 is of type int; a document is a text"):
        stream(documents=["a", 7])
    for top_k in (0, -1, 2.0, True):
        with pytest.raises(InvalidInputError, match=f"top_k={top_k!r} must be a whole number"):
            stream(top_k=top_k)
    for min_score in ("high", float("nan"), True):
        with pytest.raises(InvalidInputError, match=f"min_score={min_score!r} must be a number"):
            stream(min_score=min_score)
    for settings, message in (
        ({"chunk_size": 0}, "chunk_size=0 must be"),
        ({"chunk_size": 10, "overlap": 10}, "overlap=10 must be less"),
        ({"scoring": "tfidf"}, "scoring='tfidf' is unknown; known: overlap, bm25, semantic, hybrid"),
        ({"scoring": 3}, "scoring=3 is unknown"),
        ({"rewrite": "better"}, "rewrite='better' must be a callable"),
        ({"concurrency": 0}, "concurrency=0 must be a whole number of at least 1"),
        ({"encoding": "utf-99"}, "encoding='utf-99' is no encoding"),
        ({"encoding": "hex"}, "encoding='hex' is no encoding"),
        ({"manager": "mine"}, "manager='mine' is no ExpManager"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            AsyncRAGGenerator(**settings)


# ── Scores ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_overlap_is_the_share_of_the_querys_words():
    texts = ["An ASYNCIO loop runs python coroutines.", "Python", "bread", "pythonic"]
    assert scores("Python asyncio", texts) == [1.0, 0.5, 0.0, 0.0]
    assert scores("异步编程", ["我们学习异步编程。", "异步的世界", "面包"]) == [1.0, pytest.approx(1 / 3), 0.0]
    assert scores("猫", ["小猫在睡觉", "狗"]) == [1.0, 0.0], "a character within a run, too"
    assert scores("a", ["cat", "a cat"]) == [0.0, 1.0], "but no letter within a word"
    assert scores("?!", ["?!"]) == [0.0]


def test_bm25_counts_rare_words_for_more():
    texts = ["the cat the dog the bird", "the the the the the the", "the zebra", *["the plain text"] * 20]
    found = scores("the zebra", texts, scoring="bm25", concurrency=1)
    learned = scores("the zebra", texts[::-1], scoring="bm25", concurrency=1)[::-1]
    for each in (found, learned):
        assert each[2] == max(each)
        assert each[2] > 2 * sorted(each)[-2]
        assert all(0 <= score <= 1 for score in each)
    chinese = scores("数据库 索引", ["数据库的索引很快", "数据很多", "面包", "今天天气"], scoring="bm25")
    assert chinese[0] > chinese[1] > chinese[2] == chinese[3] == 0.0


def test_a_callable_scores_plain_or_async_and_what_it_gives_is_checked():
    async def later(query, texts):
        return [float(len(text)) for text in texts]

    class Model:
        async def __call__(self, query, texts):
            return await later(query, texts)

    for scoring in (lambda query, texts: [len(text) for text in texts], later, Model(), lambda q, t: later(q, t)):
        assert scores("q", ["a", "bbb"], scoring=scoring) == [1.0, 3.0]
    for wrong in (
        lambda query, texts: [1.0],
        lambda query, texts: [float("nan")] * len(texts),
        lambda query, texts: 1 / 0,
    ):
        chunks = retrieve("q", ["a" * 30, "b" * 30], chunk_size=10, scoring=wrong)
        assert [(chunk.document, chunk.position, chunk.text) for chunk in chunks] == [(0, 0, ""), (1, 0, "")]
        assert all(isinstance(chunk.error, DocumentError) for chunk in chunks)


def test_a_query_in_other_words(recwarn):
    texts = ["a cat", "a feline animal", "a dog"]
    assert scores("cat", texts, rewrite=lambda query: [query, "feline"]) == [1.0, 1.0, 0.0]

    async def better(query):
        return "dog"

    assert scores("cat", texts, rewrite=better) == [0.0, 0.0, 1.0]
    for wrong in (lambda query: 1 / 0, lambda query: [], lambda query: ["", "x"], lambda query: 5):
        with pytest.warns(ExpPoolWarning, match="the query is used as it is"):
            assert scores("cat", texts, rewrite=wrong) == [1.0, 0.0, 0.0]


@pytest.mark.slow
def test_meaning_with_the_real_model(tmp_path):
    texts = ["Use the link on the login page if you forgot your credentials.", "Bread needs flour, water and salt."]
    with ExpManager(store="memory://", index="exact://", query_timeout=600) as manager:
        for scoring in ("semantic", "hybrid"):
            password, bread = scores("How do I reset my password?", texts, scoring=scoring, manager=manager)
            assert password > bread + 0.1
        assert 0.0 <= bread <= 1.0
        long = " ".join(f"word{n}" for n in range(3000))
        with pytest.warns(ExpPoolWarning, match="does not know the words of 'สถานี.*its score is chance"):
            scores("How do I reset my password?", ["สถานีรถไฟอยู่ที่ไหน"], scoring="semantic", manager=manager)
        with pytest.warns(ExpPoolWarning, match="longer than the embedder reads.*smaller chunk_size"):
            retrieve("word", [long], chunk_size=5000, scoring="semantic", manager=manager)


def test_what_was_embedded_a_moment_ago_is_not_embedded_again(make_manager, embedder):
    embedded = []

    def counting(texts):
        embedded.extend(texts)
        return embedder(texts)

    manager = make_manager(embedder=counting)
    texts = [f"text number {'x' * n}" for n in range(40)]
    first = scores("text", texts, scoring="semantic", manager=manager)
    assert sorted(embedded) == sorted(["text", *texts])
    assert scores("text", texts, scoring="semantic", manager=manager) == first
    assert len(embedded) == 41
    assert manager.sync.embed(["text"]).vectors.shape == (1, 27)


def test_without_an_embedder_there_is_no_meaning(make_manager):
    manager = make_manager(embedder="none")
    with pytest.raises(EmbedderError, match="this manager has no embedder: make one"):
        retrieve("q", ["a"], scoring="semantic", manager=manager)
