"""A split into train and test without leaks: what is near to each other stands on one side."""

import json
import random

import pytest
from questions import labelled_pairs
from support.stored_vectors import Stored

from exp_pool import Experience
from exp_pool.curation import exporters

PLAIN = {"index": "none://", "embedder": "none"}


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
    """Words that share no five letters in a row with those of another number."""
    letters = random.Random(number)
    return " ".join("".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(8))


@pytest.mark.parametrize("seed", range(5))
def test_near_requests_stand_on_one_side(make_manager, tmp_path, seed):
    manager = make_manager(**PLAIN)
    pairs = [(f"{unlike(n)}?", n) for n in range(60)]
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


def test_paraphrases_stand_on_one_side(make_manager, tmp_path):
    """Questions that mean the same, in other words, with the vectors of the real model, made beforehand."""
    embedder = Stored()
    same = [(a, b) for a, b, alike in labelled_pairs() if alike]
    texts = list(dict.fromkeys(text for pair in same for text in pair))
    experiences = [Experience(function="f", request=text, response="x") for text in texts]

    def apart(manager, folder):
        manager.sync.create_exps(experiences)
        manager.sync.flush()
        found, manifest = split(manager, folder)
        return {(a, b) for a, b in same if found[a] != found[b]}, manifest.said["clusters"]

    by_letters, _ = apart(make_manager(**PLAIN), tmp_path / "letters")
    by_meaning, clusters = apart(make_manager(embedder=embedder), tmp_path / "meaning")
    near = {(a, b) for a, b in same if embedder.cosine(a, b) > 0.86}
    assert len(near & by_letters) > 20  # letters alone would have let them leak
    assert not near & by_meaning
    assert clusters > len(same) / 2  # and it is not all one cluster
