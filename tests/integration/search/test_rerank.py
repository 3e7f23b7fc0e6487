"""What a query finds, put in order by something that reads both texts together."""

import asyncio
import subprocess
import sys
import threading

import pytest
from support.ids import named

from exp_pool import Experience, ExpManager
from exp_pool.errors import InvalidInputError, RerankerError

TEXTS = [f"open the door {'very ' * n}slowly" for n in range(40)]
KINDS = ("semantic", "lexical", "hybrid")


def longest(request, texts):
    return [len(text) for text in texts]


@pytest.fixture
def make_pool(make_manager):
    def make(**settings):
        pool = make_manager(**settings).sync
        pool.create_exps([Experience(function="f", request=text, response=text) for text in TEXTS])
        return pool

    return make


def requests(hits):
    return [hit.experience.request for hit in hits]


@pytest.mark.parametrize("kind", KINDS)
def test_a_callable_puts_more_than_is_wanted_in_order(make_pool, kind):
    pool = make_pool()
    asked = []

    def reranker(request, texts):
        asked.append((request, texts))
        return longest(request, texts)

    ranked = pool.search(TEXTS[0], query_type=kind, top_k=3, reranker=reranker)
    ((request, texts),) = asked
    assert (request, len(texts)) == (TEXTS[0], 20)
    assert requests(ranked) == sorted(texts, key=len, reverse=True)[:3]
    plain = {hit.experience.id: hit for hit in pool.search(TEXTS[0], query_type=kind, top_k=40)}
    for hit in ranked:
        assert hit.found_by == plain[hit.experience.id].found_by
        assert hit.similarity == pytest.approx(plain[hit.experience.id].similarity, abs=1e-5)
    pool.search(TEXTS[0], query_type=kind, top_k=10, reranker=reranker)
    assert len(asked[-1][1]) == 40


def test_the_managers_is_used_where_a_query_names_none(make_pool):
    pool = make_pool(reranker=longest)
    best = requests(pool.search(TEXTS[0], query_type="lexical", top_k=20, reranker="none"))
    assert best[0] == TEXTS[0]
    assert requests(pool.search(TEXTS[0], query_type="lexical", top_k=1)) == [max(best, key=len)]
    shortest = pool.search(TEXTS[0], query_type="lexical", top_k=1, reranker=lambda _, texts: [-len(t) for t in texts])
    assert requests(shortest) == [TEXTS[0]]
    assert requests(pool.search(TEXTS[0], query_type="exact")) == [TEXTS[0]]


async def _coroutine(request, texts):
    return longest(request, texts)


def test_async_callers_and_coroutines(make_manager):
    manager = make_manager()
    manager.sync.create_exps([Experience(function="f", request=text, response=text) for text in TEXTS])

    async def ask():
        hits = await manager.search("open the door", query_type="lexical", top_k=2, reranker=_coroutine)
        return requests(hits), await manager.query_exps("open the door", query_type="lexical", reranker=longest)

    best, experiences = asyncio.run(ask())
    assert [len(text) for text in best] == sorted(map(len, best), reverse=True)
    assert experiences[0].request == best[0]


def test_equal_relevance_keeps_the_order_and_nothing_is_asked_about_one(make_pool):
    pool = make_pool()
    plain = requests(pool.search(TEXTS[3], query_type="lexical"))
    assert requests(pool.search(TEXTS[3], query_type="lexical", reranker=lambda _, texts: [0] * len(texts))) == plain

    def never(request, texts):
        raise AssertionError(texts)

    assert pool.search("sesame", query_type="lexical", reranker=never) == []


@pytest.mark.parametrize(
    "scores", [[1.0], [[1.0, 2.0]], None, "many", [float("nan")] * 20, [1.0] * 19 + [float("inf")], object()], ids=named
)
def test_what_is_no_number_for_each_text_is_an_error(make_pool, scores):
    with pytest.raises(RerankerError, match="the reranker"):
        make_pool().search(TEXTS[0], query_type="lexical", reranker=lambda *_: scores)


def test_one_that_fails_or_hangs_is_an_error_and_the_pool_goes_on(make_pool):
    pool = make_pool(query_timeout=0.3)
    goes_on = threading.Event()

    def broken(request, texts):
        raise ValueError("out of order")

    def hangs(request, texts):
        goes_on.wait(60)
        return longest(request, texts)

    with pytest.raises(RerankerError, match="out of order"):
        pool.search(TEXTS[0], query_type="lexical", reranker=broken)
    with pytest.raises(RerankerError, match="query_timeout"):
        pool.search(TEXTS[0], query_type="lexical", reranker=hangs)
    goes_on.set()
    assert len(pool.search(TEXTS[0], query_type="lexical")) == 5


def test_what_is_none_is_refused(make_pool):
    for wrong in (3, "", ["name"]):
        with pytest.raises(InvalidInputError, match="reranker="):
            make_pool().search("r", query_type="lexical", reranker=wrong)
        with pytest.raises(ValueError, match="reranker"):
            ExpManager(store="memory://", reranker=wrong)


def test_nothing_is_imported_for_it_unless_it_is_asked_for(tmp_path):
    code = (
        "import sys\n"
        "from exp_pool import Experience, ExpManager\n"
        "with ExpManager(store='memory://', index='none://', embedder='none') as manager:\n"
        "    manager.sync.create_exp(Experience(function='f', request='a word', response=1))\n"
        "    assert len(manager.sync.search('word', query_type='lexical')) == 1\n"
        "assert not sys.modules.keys() & {'torch', 'sentence_transformers', 'transformers', 'chromadb'}\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)


# The real class


def save_cross_encoder(folder, labels):
    """A tiny CrossEncoder with chance weights."""
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    base = folder / f"base-{labels}"
    base.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *{word for text in TEXTS for word in text.split()}]
    (base / "vocab.txt").write_text("\n".join(sorted(vocabulary)))
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(vocabulary), num_labels=labels, initializer_range=1.0, **shape)
    BertForSequenceClassification(config).save_pretrained(base)
    BertTokenizer(str(base / "vocab.txt")).save_pretrained(base)
    CrossEncoder(str(base)).save_pretrained(str(folder / f"model-{labels}"))
    return str(folder / f"model-{labels}")


@pytest.mark.slow
def test_a_cross_encoder_from_a_folder(make_pool, tmp_path):
    from sentence_transformers import CrossEncoder

    folder = save_cross_encoder(tmp_path, 1)
    pool = make_pool(reranker=folder)
    texts = requests(pool.search(TEXTS[7], query_type="lexical", top_k=20, reranker="none"))
    scores = CrossEncoder(folder).predict([(TEXTS[7], text) for text in texts])
    assert len(set(scores)) > 10
    best = [text for _, text in sorted(zip(-scores, texts, strict=True))]
    assert requests(pool.search(TEXTS[7], query_type="lexical", top_k=5)) == best[:5]
    assert requests(pool.search("door " * 100_000 + TEXTS[7], query_type="lexical", top_k=1))
    with pytest.raises(RerankerError, match="gives 3 numbers"):
        pool.search(TEXTS[7], query_type="lexical", reranker=save_cross_encoder(tmp_path, 3))


@pytest.mark.slow
def test_a_model_that_cannot_be_had_is_named(make_pool):
    with pytest.raises(RerankerError, match=r"'cross-encoder/no-such'.*hub"):
        make_pool().search(TEXTS[0], query_type="lexical", reranker="cross-encoder/no-such")
