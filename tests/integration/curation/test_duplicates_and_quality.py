"""What curators are shown: doubles, contradictions, subjects, outliers, what is stale or scored low, gaps."""

import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from support.curated_pools import contents
from support.stored_vectors import Stored

from exp_pool import Experience, Score, in_namespace
from exp_pool.curation import (
    apply_frame,
    clusters,
    conflicts,
    coverage,
    diff,
    duplicates,
    low_scores,
    near_duplicates,
    outliers,
    stale,
    undo,
)
from exp_pool.errors import ConfigurationError, InvalidInputError

NOW = datetime.now(UTC)
PLAIN = {"index": "none://", "embedder": "none"}
ALL = [duplicates, conflicts, clusters, outliers, stale, low_scores]


@pytest.fixture
def manager(make_manager):
    return make_manager()


def store(manager, *rows, function="ask", **fields):
    """(request, answer) or (request, answer, fields): the ids."""
    exps = []
    for request, answer, *more in rows:
        exps.append(
            Experience(
                **{"function": function, "request": request, "response": answer, "origin": "automatic", **fields},
                **(more[0] if more else {}),
            )
        )
    return manager.sync.create_exps(exps)


def told(frame, name="reason"):
    return dict(zip(frame["id"], frame[f"found.{name}"], strict=True))


# ── Doubles ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_doubles_stand_in_groups_the_best_one_first(manager):
    first, second, third, _, said = store(
        manager,
        ("How do I reset my password?", "a", {"scores": {"s": Score(value=0.3)}}),
        ("how do I  RESET my password?", " A", {"scores": {"s": Score(value=0.9)}}),
        ("How do I reset my passwords?", "b"),
        ("Where is the invoice of last month?", "c"),
        ("Where is my car, and why is it not here any more today?", "d", {"expected": "d"}),
    )
    (worse,) = store(
        manager, ("Where is my car, and why is it not there any more today?", "e", {"scores": {"s": Score(value=1.0)}})
    )
    frame = duplicates(manager)
    assert list(frame["id"]) == [second, first, third, said, worse]
    assert list(frame["found.group"]) == [0, 0, 0, 1, 1]
    assert list(frame["found.keep"]) == [True, False, False, True, False]
    assert list(frame["found.same_answer"]) == [True, True, False, True, False]
    assert frame["found.similarity"][1] == 1.0 > frame["found.similarity"][2] >= 0.8
    assert "near to 'how do I RESET my password?'" in frame["found.reason"][2]
    assert set(duplicates(manager, by="exact", within="scope")["id"]) == {first, second}
    assert set(duplicates(manager, by="meaning", min_similarity=0.999)["id"]) >= {first, second}


def test_what_is_found_goes_into_apply_frame_and_back(manager):
    store(manager, *[(f"What is the capital of the country number {n // 2}{'?' * (n % 2)}", n // 2) for n in range(20)])
    before = contents(manager.sync)
    frame = duplicates(manager, min_similarity=0.97)
    assert not diff(manager, frame)  # what was found about rows is no edit
    frame.loc[~frame["found.keep"], "deleted"] = True
    change = apply_frame(manager, frame, dry_run=False)
    assert len(change.deleted) == 10
    assert manager.sync.get_exps_count() == 10
    assert not len(duplicates(manager, min_similarity=0.97))
    undo(manager, change.id)
    assert contents(manager.sync).keys() == before.keys()


@pytest.mark.parametrize("how", ["diff", "apply"])
def test_found_columns_are_never_stored_and_others_still_refused(manager, how):
    pytest.importorskip("pyarrow")
    import pyarrow as pa

    store(manager, ("q one two three", 1), ("q one two three!", 1))
    frame = duplicates(manager)
    frame["found.mine"] = "x"
    assert not diff(manager, frame)
    assert not diff(manager, pa.table({name: frame[name].tolist() for name in ["id", "found.reason", "revision"]}))
    frame["reason"] = "x"
    with pytest.raises(InvalidInputError, match="no column 'reason'"):
        diff(manager, frame)


def test_no_row_of_a_chain_goes_unless_what_is_kept_is_near_to_it(manager):
    """Each is near to the next one, the ends are far from each other."""
    words = [f"w{n:03}ord" for n in range(60)]
    store(manager, *[(" ".join(words[n : n + 20]), "a") for n in range(0, 40, 2)])
    frame = duplicates(manager, min_similarity=0.7)
    letters = near_duplicates.MinHashSimilarity()
    place = {}
    for number, (id_, request) in enumerate(zip(frame["id"], frame["request"], strict=True)):
        letters.add(request)
        place[id_] = number
    kept = frame[frame["found.keep"]]
    assert len(kept) > 3
    for group, best in zip(kept["found.group"], kept["id"], strict=True):
        others = [place[id_] for id_ in frame["id"][frame["found.group"] == group]]
        assert (letters.similarity(np.full(len(others), place[best]), np.array(others)) >= 0.7).all()
    ends = np.array([place[id_] for id_ in kept["id"]])
    one, other = (each.ravel() for each in np.meshgrid(ends, ends))
    assert (letters.similarity(one, other)[one != other] < 0.7).all()


def test_what_is_compared(manager):
    """By default only calls that differ in nothing but the text."""
    store(manager, ("How do I reset my password?", "a"), function="ask")
    store(manager, ("How do I reset my password", "a"), function="other")
    exps = [
        Experience(function="ask", arguments={"question": "Where is the invoice?", "model": model}, response=model)
        for model in "xy"
    ]
    manager.sync.create_exps(exps)
    store(manager, ("fails", None, {"kind": "failure"}))
    assert len(duplicates(manager)) == 0
    assert len(duplicates(manager, within="function")) == 2
    assert len(duplicates(manager, within="pool")) == 4
    assert len(duplicates(manager, {"function": "ask"}, within="pool")) == 2
    assert len(conflicts(manager)) == 0
    assert len(conflicts(manager, within="function", by="exact")) == 2


@pytest.mark.parametrize("by", ["exact", "letters", "meaning"])
def test_contradictions_are_found_and_agreement_is_not(manager, by):
    a = store(manager, ("How do I reset my password?", "x"), ("how do I reset  my password?", "X "))
    b = store(manager, ("Where is the invoice?", "y"), ("where is the invoice?", "z"), ("WHERE is the  invoice?", "y"))
    frame = conflicts(manager, by=by, min_similarity=0.98)
    assert set(frame["id"]) == set(b)
    assert set(frame["found.answers"]) == {2}
    assert frame["found.keep"].tolist() == [True, False, False]
    assert sorted(frame["found.same_answer"]) == [False, True, True]
    assert "2 answers to requests like" in frame["found.reason"][0]
    assert set(duplicates(manager, by=by, min_similarity=0.98)["id"]) == {*a, *b}


def pairs_of(manager, frame):
    """Of which pairs at most one is kept: what a curator has nothing more to do about."""
    going = set(frame["id"][~frame["found.keep"]])
    return lambda one, other: one in going or other in going


@pytest.mark.parametrize("cells", [False, True], ids=["all compared", "in cells"])
def test_recall_by_meaning(make_manager, monkeypatch, cells):
    if cells:
        monkeypatch.setattr(near_duplicates, "_ALL_WITH_ALL", 100)
    embedder = Stored()
    texts = list(embedder.vectors)[:2000]
    manager = make_manager(embedder=embedder)
    ids = store(manager, *[(text, "a") for text in texts])
    frame = duplicates(manager, by="meaning", min_similarity=0.9)
    vectors = np.stack([embedder.vectors[text] for text in texts])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near = [(ids[i], ids[j]) for i, j in np.argwhere(np.triu(vectors @ vectors.T >= 0.9001, 1))]
    dealt_with = pairs_of(manager, frame)
    assert len(near) > 100
    assert sum(dealt_with(*pair) for pair in near) >= 0.95 * len(near)
    assert (frame["found.similarity"] >= 0.8999).all()


def test_recall_by_letters(make_manager):
    chance = random.Random(4)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(3, 9))) for _ in range(400)]
    texts = {}
    while len(texts) < 1000:
        texts[" ".join(chance.choices(words, k=chance.randint(6, 40)))] = None
    for text in list(texts):
        changed = text.split()
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(len(changed))] = chance.choice(words)
        texts[" ".join(changed)] = None
    texts = list(texts)
    manager = make_manager(**PLAIN)
    ids = store(manager, *[(text, "a") for text in texts])
    frame = duplicates(manager, min_similarity=0.7)
    pieces = [{text[at : at + 5] for at in range(len(text) - 4)} for text in texts]
    names = {piece: n for n, piece in enumerate(sorted(set().union(*pieces)))}
    has = np.zeros((len(texts), len(names)), dtype=np.float32)
    for row, each in zip(has, pieces, strict=True):
        row[[names[piece] for piece in each]] = 1
    common, sizes = has @ has.T, has.sum(axis=1)
    share = common / (sizes[:, None] + sizes - common)
    near = [(ids[i], ids[j]) for i, j in np.argwhere(np.triu(share >= 0.7, 1))]
    dealt_with = pairs_of(manager, frame)
    assert len(near) > 300
    assert sum(dealt_with(*pair) for pair in near) >= 0.95 * len(near)
    assert (frame["found.similarity"] >= 0.6999).all()


def test_what_only_looks_near_by_its_signature_is_compared_piece_by_piece():
    letters = near_duplicates.MinHashSimilarity()
    for n in range(300):
        shared, own = random.Random(n // 2), random.Random(n + 1000)
        letters.add("".join(shared.choices("abcdefghij", k=100) + own.choices("abcdefghij", k=10 + n // 10)))
    pairs = [pair for each in letters.pairs(0.7, lambda one, other: one != other) for pair in zip(*each, strict=True)]
    one, other = np.array(pairs).T
    assert len(one)
    assert (letters.similarity(one, other) >= 0.6999).all()


def test_a_thousand_that_are_all_alike_are_one_group(make_manager):
    manager = make_manager()
    long = "the same instructions stand before each of these requests, and they are long " * 3
    store(manager, *[(f"{long}{n}", n) for n in range(1500)])
    frame = duplicates(manager)
    assert len(frame) == 1500
    assert frame["found.group"].nunique() == 1
    assert len(conflicts(manager, by="meaning")) == 1500


# ── Vectors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_what_is_owed_is_embedded(make_manager, embedder):
    asked = []

    def counting(texts):
        asked.extend(texts)
        return embedder(texts)

    manager = make_manager(embedder=counting)
    store(manager, ("one question here", 1), ("another question here", 2))
    duplicates(manager, by="meaning")
    store(manager, ("a third question there", 3))
    assert len(clusters(manager)) == 3  # at once: nobody waits for the worker
    outliers(manager)
    duplicates(manager, by="meaning")
    assert sorted(asked) == ["a third question there", "another question here", "one question here"]


def test_without_vectors_it_says_what_to_do(make_manager):
    manager = make_manager(**PLAIN)
    store(manager, ("one", 1), ("two", 2))
    for find in (lambda m: duplicates(m, by="meaning"), clusters, outliers):
        with pytest.raises(InvalidInputError, match=r"none of the 2 experiences has a vector.*exact://"):
            find(manager)
    assert len(clusters(manager, by="words")) == 2


# ── Subjects ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("by", ["words", "meaning"])
def test_clusters_have_the_words_that_stand_in_them(make_manager, by):
    def subjects(texts):
        return np.array([[("password" in t) + 0.01, ("tomatoes" in t) + 0.01] for t in texts])

    manager = make_manager(embedder=subjects)
    a = store(manager, *[(f"how do I reset the password of {n} for the portal?", n) for n in range(12)])
    b = store(manager, *[(f"how do I grow {n} tomatoes?", n) for n in range(8)])
    frame = clusters(manager, count=2, by=by)
    assert [set(frame["id"][frame["found.cluster"] == n]) for n in (0, 1)] == [set(a), set(b)]
    labels = frame.groupby("found.cluster")["found.label"].first()
    assert "password" in labels[0]
    assert "tomatoes" in labels[1]
    assert set(frame["found.size"]) == {12, 8}
    (label,) = set(clusters(manager, count=1, by=by)["found.label"])
    assert not set(label.split(", ")) & {"how", "do", "the", "of", "for"}


def test_what_is_unlike_all_others_comes_first(make_manager):
    def points(texts):
        return np.array([[1.0, 0.01 * (hash(t) % 7), 0.0] if "usual" in t else [0.0, 0.1, 1.0] for t in texts])

    manager = make_manager(embedder=points)
    store(manager, *[(f"usual question {n}", n) for n in range(40)])
    (odd,) = store(manager, ("asdf", 1))
    frame = outliers(manager)
    assert frame["id"][0] == odd
    assert "unlike the others" in frame["found.reason"][0]
    assert (frame["found.nearest"] != frame["id"]).all()
    assert len(outliers(manager, share=0.1)) == 4
    frame.loc[0, "trust"] = "quarantined"
    assert apply_frame(manager, frame[:1], dry_run=False)
    assert manager.sync.get_exp(odd).trust == "quarantined"


# ── Worth ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_stale_is_what_answers_nothing(manager):
    long_ago = {"created_at": NOW - timedelta(days=90)}
    unused, used, expired, old = store(
        manager,
        ("unused", 1, long_ago),
        ("used", 1, {**long_ago, "last_access": NOW - timedelta(days=1), "access_count": 3}),
        ("expired", 1, {"expires_at": NOW - timedelta(days=2)}),
        ("answered anew", 1),
    )
    (new,) = store(manager, ("answered anew", 2))
    (last_used,) = store(
        manager, ("used once", 1, {**long_ago, "last_access": NOW - timedelta(days=60), "access_count": 1})
    )
    frame = stale(manager)
    reasons = told(frame)
    assert reasons.keys() == {unused, expired, old, last_used}
    assert "never used since" in reasons[unused]
    assert "not used since" in reasons[last_used]
    assert "expired" in reasons[expired]
    assert reasons[old] == f"superseded by {new}"
    assert told(frame, "state")[old] == "history"
    assert used not in reasons
    assert (
        stale(manager, unused_for="1000d")["id"].tolist() == [expired, old]
        or len(stale(manager, unused_for="1000d")) == 2
    )
    frame["deleted"] = True
    assert len(apply_frame(manager, frame, dry_run=False).deleted) == 4
    assert manager.sync.get_exps_count() == 2
    with pytest.raises(ConfigurationError, match="unused_for='soon'"):
        stale(manager, unused_for="soon")


def test_low_scores_by_the_deciding_scorer_or_another(manager):
    both = {"scores": {"a": Score(value=0.1, reason="too short"), "b": Score(value=0.9)}}
    one, two, three = store(
        manager,
        ("q1", 1, both),
        ("q2", 1, {"scores": {"a": Score(value=0.2)}}),
        ("q3", 1, {"scores": {"a": Score(value=0.5)}}),
    )
    assert told(low_scores(manager)) == {two: "a: 0.2"}
    assert told(low_scores(manager, scorer="a")) == {one: "a: 0.1, too short", two: "a: 0.2"}
    assert list(low_scores(manager, below=0.6)["id"]) == [two, three]
    with pytest.raises(InvalidInputError, match="below=2"):
        low_scores(manager, below=2)


# ── Gaps ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_gaps_become_experiences_by_writing_the_answer(manager):
    @manager.exp_cache(name="ask")
    def ask(req):
        return f"live {req}"

    store(manager, ("aaaa bbbb", 1))
    frame = coverage(manager, ["aaaa bbbb", "zzzz", "xxxx", "zzzz", {"req": "yyyy"}], ask, min_similarity=0.9)
    assert sorted(frame["request"]) == ["xxxx", "yyyy", "zzzz"]
    assert frame["found.similarity"].is_monotonic_increasing
    assert (frame["found.reason"].str.contains("aaaa bbbb")).all()
    frame.loc[frame["request"] == "zzzz", "expected"] = "said"
    frame.loc[frame["request"] == "yyyy", "expected"] = "said, too"
    change = apply_frame(manager, frame.dropna(subset=["expected"]), dry_run=False)
    assert len(change.added) == 2
    assert [ask("zzzz"), ask("yyyy"), ask("xxxx")] == ["said", "said, too", "live xxxx"]


def test_gaps_by_words_need_no_embedder_and_quarantined_covers_nothing(make_manager):
    manager = make_manager(**PLAIN)
    store(manager, ("reset the password", 1))
    store(manager, ("cancel the order", 1), trust="quarantined")
    asked = ["reset the password", "cancel the order"]
    frame = coverage(manager, asked, "ask", query_type="lexical")
    assert list(frame["request"]) == ["cancel the order"]
    assert len(coverage(manager, asked, "other", query_type="lexical")) == 2
    for wrong in ("text", [3]):
        with pytest.raises(InvalidInputError, match="requests"):
            coverage(manager, wrong, "ask")


# ── All of them ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("find", ALL, ids=lambda find: find.__name__)
def test_a_namespace_sees_its_own_only_quarantined_and_expired_marked(manager, find):
    past = {"expires_at": NOW - timedelta(days=1), "created_at": NOW - timedelta(days=90)}
    rows = [(f"How do I reset my password{mark}", mark, past) for mark in ("?", "!", ".")]
    fields = {"trust": "quarantined", "scores": {"s": Score(value=0.1)}}
    with in_namespace("other"):
        theirs = store(manager, *rows, *[(f"filler {n} {'x' * n}", n) for n in range(9)], **fields)
    mine = store(manager, *rows, *[(f"filler {n} {'x' * n}", n) for n in range(9)], **fields)
    frame = find(manager)
    assert not set(frame["id"]) & set(theirs)
    if find is duplicates:  # theirs are not even counted
        assert "the best of 3" in told(frame).values()
    assert set(frame["id"]) <= set(mine)
    if find is not outliers:
        assert set(mine[:3]) <= set(frame["id"])
        assert [told(frame, "state")[id_] for id_ in mine[:3]] == ["quarantined, expired"] * 3
    assert not diff(manager, frame)


@pytest.mark.parametrize("find", ALL, ids=lambda find: find.__name__)
def test_an_empty_pool_gives_an_empty_frame_with_all_columns(manager, find):
    frame = find(manager)
    assert len(frame) == 0
    assert {"id", "found.reason", "found.state", "request", "deleted", "revision"} <= set(frame.columns)
    assert not diff(manager, frame)


@pytest.mark.parametrize(
    ("find", "options", "said"),
    [
        (duplicates, {"by": "sound"}, "by='sound' is unknown; known: exact, letters, meaning"),
        (duplicates, {"within": "world"}, "within='world' is unknown"),
        (conflicts, {"min_similarity": 2}, "min_similarity=2 must be a number"),
        (clusters, {"by": "letters"}, "known: meaning, words"),
        (clusters, {"count": 0}, "count=0"),
        (outliers, {"share": 2}, "share=2"),
        (duplicates, {"where": {"nothing": 1}}, "unknown field 'nothing'"),
    ],
)
def test_values_that_cannot_be_are_named(manager, find, options, said):
    with pytest.raises(InvalidInputError, match=said):
        find(manager, **options)
