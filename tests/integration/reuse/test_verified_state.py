"""What a judge that learns remembers: kept, shared, carried over, apart from others', and through trouble."""

import json
import os
import threading
import warnings

import pytest
from conftest import letters
from support.judged_calls import RATE, Asking, labelled

from exp_pool import VerifiedJudge, in_namespace
from exp_pool.errors import ExpPoolWarning, StoreError
from exp_pool.maintenance import judge_training
from exp_pool.reuse.judge_memory import JudgeMemory
from exp_pool.reuse.pair_features import PairFeatures
from exp_pool.reuse.training_examples import TrainingExample, label_entry
from exp_pool.stores.memory import MemoryStore


def known(manager, namespace="default"):
    """(function, log) of everything that is remembered there, with what is known."""
    return {studied.log: studied.memory for studied in manager.sync._judge_training.all(namespace)}


def counts(reuse):
    return reuse.requests, reuse.answered, reuse.explored, round(reuse.error_rate, 9), round(reuse.at_most, 9)


def test_it_survives_reopening(make_manager, tmp_path):
    store = f"sqlite:///{tmp_path}/pool.db"
    asking = Asking(make_manager(store=store)).until_it_answers()
    before = asking.reuse()
    asking.manager.sync.close()
    again = Asking(make_manager(store=store), seed=2)
    assert counts(again.reuse()) == counts(before)
    again.go(20)
    assert "semantic" in {found for found, _ in again.go(60)}
    assert again.reuse().requests == before.requests + 80


def test_two_managers_on_one_store_know_the_same(make_manager, tmp_path):
    store = f"sqlite:///{tmp_path}/pool.db"
    one, two = (Asking(make_manager(store=store), seed=seed) for seed in (1, 2))
    for _ in range(40):
        one.go(10), two.go(10)
    one.manager.sync.flush()
    assert counts(one.reuse()) == counts(two.reuse())
    assert one.reuse().requests >= 780
    assert {"semantic"} <= {found for found, _ in one.go(60)} & {found for found, _ in two.go(60)}


def test_children_of_a_fork_toss_their_own_coins(make_manager):
    manager = make_manager()
    service = manager.sync._judge_training
    service.coin.seed(1)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, repr([service.coin.random() for _ in range(4)]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert repr([service.coin.random() for _ in range(4)]).encode() != os.read(reading, 1000)


def test_the_log_turns_its_pages_and_drops_what_is_old(make_manager, monkeypatch):
    monkeypatch.setattr(judge_training, "_SEGMENT", 60)
    store = MemoryStore()
    asking = Asking(make_manager(store=store))
    asking.go(400)
    logs = [name for name in store.names("default").logs if name.startswith("verified:")]
    assert 1 <= len(logs) <= 2, logs
    chapter = json.loads(store.read_state("default", logs[0].rpartition(":")[0]).value)["chapter"]
    assert chapter >= 4
    fresh = make_manager(store=store)
    there, here = known(asking.manager), known(fresh)
    for log in there:
        assert here[log].bound.requests == there[log].bound.requests
        assert here[log].bound.weights == pytest.approx(there[log].bound.weights)
        assert here[log].answered == there[log].answered
        assert len(here[log].labels) <= 2 * 60 + 20 + 60


def test_who_was_away_for_chapters_begins_with_what_was_carried_over(make_manager, monkeypatch, tmp_path):
    monkeypatch.setattr(judge_training, "_SEGMENT", 60)
    store = f"sqlite:///{tmp_path}/pool.db"
    away = Asking(make_manager(store=store), seed=2)
    away.go(40)
    assert away.reuse().requests > 0, "it has begun to read"
    here = Asking(make_manager(store=store))
    here.go(400)
    away.manager.sync.flush()
    assert counts(away.reuse()) == counts(here.reuse())


def test_deleting_everything_leaves_a_judge_that_still_counts(make_manager):
    asking = Asking(make_manager()).until_it_answers()
    seen = asking.reuse()
    asking.manager.sync.delete_all_exps()
    asking.go(100)
    assert asking.reuse().requests >= seen.requests + 75


# ── Apart from others ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_namespaces_and_versions_do_not_share_what_was_learned(make_manager):
    manager = make_manager()
    asking = Asking(manager).until_it_answers()
    seen = asking.reuse()
    with in_namespace("tenant"):
        assert {found for found, _ in asking.go(60)} == {None}
    assert asking.reuse() == seen
    other = Asking(manager, version="2", seed=3)
    assert {found for found, _ in other.go(60)} == {None}
    assert {memory.bound.requests for memory in known(manager).values()} >= {seen.requests}
    assert len(known(manager)) == 2
    assert len(known(manager, "tenant")) == 1


def test_the_report_tells_of_each_version(make_manager, tmp_path):
    store = f"sqlite:///{tmp_path}/pool.db"
    manager = make_manager(store=store)
    Asking(manager).until_it_answers()
    Asking(manager, version="2", seed=3).go(40)
    manager.sync.close()
    manager = make_manager(store=store)
    Asking(manager, version="2", seed=4).go(10)
    (report,) = manager.sync.report().functions
    assert (report.reuse.version, [other.version for other in report.other_versions]) == ("2", [""])
    assert 0 < report.reuse.requests < report.other_versions[0].requests
    said = str(manager.sync.report())
    assert said.index(f"version '2', {report.reuse.requests} requests") < said.index("version '', ")


def test_functions_whose_names_and_versions_run_together_are_apart(make_manager):
    manager = make_manager()
    for name, version in (("f:1", ""), ("f", ":1"), ('f","', "1"), ("f", '","1')):
        Asking(manager, name=name, version=version).go(40)
    assert [memory.bound.requests > 0 for memory in known(manager).values()] == [True] * 4


# ── Through trouble ───────────────────────────────────────────────────────────────────────────────────────────────────


class Failing(MemoryStore):
    """Cannot do what `broken` names."""

    broken = ()

    def append_log(self, namespace, name, entries):
        if "append" in self.broken and name.startswith("verified:"):
            raise StoreError("the disk is full")
        return super().append_log(namespace, name, entries)

    def read_log(self, namespace, name, **options):
        if "read" in self.broken and name.startswith("verified:"):
            raise StoreError("the store is away")
        return super().read_log(namespace, name, **options)


def flushed(manager):
    with pytest.raises(StoreError):
        manager.sync.flush()


def test_a_store_that_cannot_append_loses_nothing(make_manager):
    store, compared = Failing(), []

    def same(stored, live):
        compared.append(live)
        return stored == live

    asking = Asking(make_manager(store=store), VerifiedJudge(RATE, same=same), batch=10)
    asking.go(30)
    seen = asking.reuse()
    store.broken = ("append",)
    for _ in range(20):
        assert asking.ask(asking.new()) is not None
    for _ in range(3):
        flushed(asking.manager)
    assert counts(asking.reuse()) == counts(seen)
    store.broken = ()
    asking.manager.sync.flush()
    assert asking.reuse().requests == seen.requests + 20
    assert len(compared) == asking.reuse().requests, "each was compared once: `same` may cost money"


@pytest.mark.parametrize("broken", ["append", "read"])
def test_what_cannot_be_counted_is_not_answered(make_manager, broken):
    store = Failing()
    asking = Asking(make_manager(store=store)).until_it_answers()
    store.broken = (broken,)
    found = [asking.ask.call(asking.new()).found_by for _ in range(30)]
    assert "semantic" in found, "nobody knows yet"
    flushed(asking.manager)
    found_then = [asking.ask.call(asking.new()).found_by for _ in range(100)]
    assert set(found_then) == {None}
    store.broken = ()
    seen = asking.reuse().requests
    asking.manager.sync.flush()
    assert asking.reuse().requests in (seen + 130, seen), "reading was all that failed, or nothing"
    assert "semantic" in {found for found, _ in asking.go(60)}


@pytest.mark.parametrize(
    "entry",
    ["", "{", "null", "[]", '"x"', "{}", '{"x":[1],"e":0,"wrong":1}', '{"x":"ab","e":1,"wrong":0}', '{"answered":"x"}']
    + ['{"x":[1],"w":[%s],"e":1,"wrong":0}' % bucket for bucket in ("-1", "32768", "99999", '"a"', "1.5")],
)
def test_a_damaged_entry_takes_nothing_from_the_others(entry):
    good = label_entry(TrainingExample(PairFeatures((0.5, 1.0)), None, 1.0), wrong=True)
    memory = JudgeMemory(0.02, 0.95)
    memory.add([good, entry, good])
    assert memory.bound.requests == 2
    assert [label.wrong for label in memory.labels] == [True, True]


def test_labels_of_another_version_are_counted_and_not_learned_from(make_manager):
    """Another version looks at pairs in another way: what it wrote is as many numbers as it pleased."""
    store = MemoryStore()
    asking = Asking(make_manager(store=store), batch=10)
    asking.go(50)
    (log,) = [name for name in store.names("default").logs if name.startswith("verified:")]
    store.append_log(
        "default", log, [label_entry(TrainingExample(PairFeatures((0.5, 1.0)), None, 1.0), wrong=False)] * 500
    )
    asking.until_it_answers()
    assert asking.reuse().requests >= 500


def test_trouble_with_one_function_leaves_all_others_alone(make_manager):
    store = MemoryStore()
    manager = make_manager(store=store)
    broken, sound = Asking(manager, name="a broken one"), Asking(manager)
    store.write_state("default", 'verified:["a broken one", ""]', "no JSON", None)
    with pytest.warns(ExpPoolWarning, match="a broken one: VerifiedJudge cannot learn, and abstains"):
        assert {found for found, _ in broken.go(60)} == {None}
    sound.go(100)
    (memory,) = [
        studied.memory for studied in manager.sync._judge_training._states.values() if studied.function == "ask"
    ]
    assert memory.bound.requests >= 75
    assert manager.sync.stats().degraded >= 1


def test_where_learning_fails_calls_go_on(make_manager, monkeypatch):
    def fails(*_):
        raise ImportError("no scikit-learn here")

    monkeypatch.setattr("exp_pool.reuse.judge_memory.fit", fails)
    asking = Asking(make_manager())
    with pytest.warns(ExpPoolWarning, match="abstains.*no scikit-learn here"):
        results = asking.go(400)
    assert {found for found, _ in results} == {None}
    assert all(right for _, right in results)
    assert asking.manager.sync.get_exps_count() == 400
    assert len(asking.manager.sync.search("tell me about cats")) > 0, "everything was embedded all the same"


def test_callers_and_the_worker_at_once(make_manager):
    """Eight threads ask while the worker writes, reads and learns: every request is counted exactly once."""
    manager = make_manager()
    asking = Asking(manager, VerifiedJudge.fit(labelled(400), max_error_rate=RATE))
    asking.go(100)
    seen = asking.reuse().requests
    asked = [[asking.new() for _ in range(60)] for _ in range(8)]
    troubles, found = [], []

    def call(requests):
        try:
            for request in requests:
                found.append(asking.ask.call(request).found_by)
        except BaseException as err:
            troubles.append(err)

    threads = [threading.Thread(target=call, args=(requests,)) for requests in asked]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            manager.sync.flush()
        manager.sync.flush()
    assert troubles == []
    assert manager.sync.stats().degraded == 0
    assert asking.reuse().requests == seen + 480
    assert asking.reuse().answered >= found.count("semantic") > 0


def test_a_function_that_always_answers_alike_is_answered_for(make_manager):
    """Too few wrong answers to learn from: every pair is predicted alike."""
    manager = make_manager()
    asking = Asking(manager)
    requests = [asking.new() for _ in range(600)]
    for known in requests:
        asking.answers[known] = "always the same"
    for number, asked in enumerate(requests, 1):
        asking.ask(asked)
        if number % 20 == 0:
            manager.sync.flush()
    assert asking.reuse().answered > 0


def test_feedback_on_what_answered_is_a_label(make_manager):
    manager = make_manager(store="memory://")
    asking = Asking(manager).until_it_answers()
    while (answer := asking.ask.call(asking.new())).found_by != "semantic":
        pass
    manager.sync.flush()
    (studied,) = manager.sync._judge_training.all(manager.config.namespace)
    before, requests = len(studied.memory.labels), studied.memory.bound.requests
    manager.sync.feedback(answer.id, 0.0, "not what was asked")
    manager.sync.feedback(answer.id, 0.0, "still not")  # the same answer is labelled once
    manager.sync.flush()
    assert len(studied.memory.labels) == before + 1
    assert studied.memory.labels[-1].wrong
    assert studied.memory.bound.requests == requests


def test_a_comparison_that_hangs_holds_up_nothing_else(make_manager, monkeypatch):
    monkeypatch.setattr("exp_pool.maintenance.answer_comparison._TIMEOUT_S", 0.05)
    manager, ends = make_manager(store="memory://"), threading.Event()

    @manager.exp_cache(judge=VerifiedJudge(same=lambda stored, live: ends.wait()), name="ask")
    def ask(req):
        return req

    for n in range(5):
        ask(f"tell me about cats {n}")
        manager.sync.flush()
    assert manager.stats().embedded == 5
    ends.set()


def test_a_slow_comparison_keeps_no_other_function_waiting(make_manager, embedder):
    """Upkeep goes on, by itself, while the thread that compares is busy: other functions are scored and found."""
    manager, begun, ends, scored = (
        make_manager(embedder=embedder),
        threading.Event(),
        threading.Event(),
        threading.Event(),
    )

    def same(stored, live):
        begun.set()
        return ends.wait(60)

    def scorer(context):
        scored.set()
        return 1.0

    ask = manager.exp_cache(judge=VerifiedJudge(same=same), name="ask")(lambda req: req)
    other = manager.exp_cache(name="other", scorer=scorer)(lambda req: req)
    for n in range(3):
        ask(f"tell me about cats {n}")
        manager.sync.flush(0.01)
    assert begun.wait(60)
    other("hello")
    assert scored.wait(60), "while the comparison still hangs"
    ends.set()
    manager.sync.flush()
    (memory,) = known(manager).values()
    assert memory.bound.requests == 2


def test_closing_writes_what_was_answered_and_learned_last(make_manager, tmp_path):
    store = f"sqlite:///{tmp_path}/pool.db"
    asking = Asking(make_manager(store=store)).until_it_answers()
    seen = asking.reuse()
    asking.manager.sync.close()
    answered = requests = 0
    for seed in range(10, 16):
        asking = Asking(make_manager(store=store), seed=seed)
        asking.ask(asking.new())
        asking.manager.sync.flush()  # what is known is read, so that it may answer
        found = [asking.ask.call(asking.new()).found_by for _ in range(9)]
        asking.manager.sync.close()
        answered, requests = answered + found.count("semantic"), requests + 10
    after = Asking(make_manager(store=store)).reuse()
    assert answered > 0
    assert after.answered == seen.answered + answered
    assert after.requests == seen.requests + requests


def test_a_drift_of_the_past_is_no_news(make_manager, tmp_path):
    store = f"sqlite:///{tmp_path}/pool.db"
    asking = Asking(make_manager(store=store)).until_it_answers()
    asking.drifted = True
    with pytest.warns(ExpPoolWarning, match="It forgets what it learned"):
        while not asking.reuse().drifts:
            asking.go(20)
    asking.manager.sync.close()
    again = Asking(make_manager(store=store), seed=2)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        again.go(20)
    assert not [warning for warning in said if "It forgets" in str(warning.message)]
    assert again.reuse().drifts == 1


def test_of_many_tenants_only_those_of_late_are_kept_in_memory_and_none_is_forgotten(make_manager, monkeypatch):
    monkeypatch.setattr(judge_training, "_MEMORIES", 3)
    manager = make_manager()
    asking = Asking(manager).until_it_answers()
    seen = asking.reuse()
    service = manager.sync._judge_training
    asked = []
    for tenant in range(5):
        with in_namespace(f"tenant{tenant}"):
            asking.go(20)
        asked += [memory.bound.requests for memory in known(manager, f"tenant{tenant}").values()]
    assert len(service._states) == 3
    assert "default" not in {studied.namespace for studied in service._states.values()}
    unwritten = next(iter(service._states.values())).unwritten
    unwritten.append("a label")
    monkeypatch.setattr(judge_training, "_MEMORIES", 2)
    service._forget()
    assert len(service._states) == 3, "what is not in the store yet stays"
    unwritten.clear()
    monkeypatch.setattr(judge_training, "_MEMORIES", 3)
    assert counts(asking.reuse()) == counts(seen)
    asking.go(20)  # read again from the log
    assert "semantic" in {found for found, _ in asking.go(60)}
    for tenant in range(5):
        assert [memory.bound.requests for memory in known(manager, f"tenant{tenant}").values()] == [asked[tenant]]


def test_pairs_that_could_not_be_embedded_are_learned_from_later(make_manager):
    trouble = threading.Event()

    def away(texts):
        if trouble.is_set():
            raise OSError("away")
        return letters(texts)

    manager = make_manager(embedder=away)
    asking = Asking(manager, VerifiedJudge.fit(labelled(400), max_error_rate=RATE))
    manager.sync._worker._start = lambda: None  # the test says when
    asking.ask(asking.new())
    manager.sync.flush()
    asking.ask(asking.new())
    trouble.set()
    with pytest.warns(ExpPoolWarning, match="not learned from yet"):
        manager.sync._judge_training.run()
    (memory,) = known(manager).values()
    assert len(memory.labels) == 1
    trouble.clear()
    manager.sync._judge_training.run()
    assert len(memory.labels) == 401
    manager.sync._judge_training.run()
    assert len(memory.labels) == 401, "once"
