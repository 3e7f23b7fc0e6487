"""What is stored and for how long: cache_if, failures, ttl in all its forms, redaction."""

import asyncio
import json
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from pydantic import BaseModel
from support.ids import named

from exp_pool import Step, Ttl, exp_cache, record
from exp_pool.errors import ConfigurationError, ExpPoolWarning
from exp_pool.runtime import clock

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture(params=["memory", "sqlite"])
def manager(request, make_manager, tmp_path):
    store = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}[request.param]
    return make_manager(store=store, **PLAIN)


@pytest.fixture
def later(monkeypatch):
    """Move the clock."""
    shift = {"us": 0}
    real = clock.time.time_ns

    class Clock:
        time_ns = staticmethod(lambda: real() + shift["us"] * 1000)
        monotonic = staticmethod(clock.time.monotonic)

    monkeypatch.setattr(clock, "time", Clock)

    def move(seconds):
        shift["us"] += int(seconds * 1e6)

    return move


def counted(manager, answers=None, **options):
    """A decorated function that says how often it ran."""
    runs = []

    @manager.exp_cache(**{"name": "counted", "exclude": ["answers"], **options})
    def ask(q):
        runs.append(q)
        answer = f"run {len(runs)}" if answers is None else answers[min(len(runs), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    ask.runs = runs
    return ask


# cache_if


def test_what_the_condition_is_false_for_is_not_stored(manager):
    ask = counted(manager, ["", "", "good"], cache_if=bool)
    assert [ask("q") for _ in range(4)] == ["", "", "good", "good"]
    assert len(ask.runs) == 3


def test_the_condition_may_see_what_was_recorded(manager):
    seen = []

    def paid_for(call, value):
        seen.append((call.func.__name__, call.arguments, call.model, call.metric.tokens_in, call.metadata, value))
        return False

    @manager.exp_cache(cache_if=paid_for)
    def ask(q):
        record(model="m", tokens_in=3, metadata={"fallback": True})
        return "a"

    assert ask("q") == "a"
    assert seen == [("ask", {"q": "q"}, "m", 3, {"fallback": True}, "a")]
    assert manager.sync.get_exps_count() == 0


def test_a_condition_that_raises_means_not_stored_and_is_said(manager):
    ask = counted(manager, cache_if=lambda value: 1 / 0)
    with pytest.warns(ExpPoolWarning, match="division by zero"):
        assert ask("q") == "run 1"
    assert ask("q") == "run 2"
    assert manager.sync.get_exps_count() == 0


class Counts:
    """A codec that says what it is asked to write."""

    name = "counts"

    def __init__(self):
        self.written = []

    def encode(self, value):
        self.written.append(value)
        return json.dumps(value)

    def decode(self, text):
        return json.loads(text)


def test_what_is_refused_is_not_encoded_and_nothing_is_said_of_it(manager):
    codec = Counts()
    ask = counted(manager, ["no", "yes"], codec=codec, cache_if=lambda value: value == "yes")
    assert [ask("q") for _ in range(3)] == ["no", "yes", "yes"]
    assert set(codec.written) == {"yes"}

    @manager.exp_cache(cache_if=lambda value: value is not ...)
    def odd(q):
        return ...

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert odd("q") is odd("q") is ...


def test_what_is_refused_reaches_those_who_wait(manager):
    began, go, runs = threading.Event(), threading.Event(), []

    @manager.exp_cache(cache_if=lambda value: False)
    def slow(q):
        runs.append(q)
        began.set()
        assert go.wait(30)
        return {"q": q}

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(slow, "q")
        assert began.wait(30)
        others = [threads.submit(slow, "q") for _ in range(3)]
        flights = manager.sync.services.flights
        while sum(flight.waiters for flight in list(flights._flights.values())) < 4:
            pass
        go.set()
        assert [each.result() for each in (first, *others)] == [{"q": "q"}] * 4
    assert runs == ["q"]
    assert manager.sync.get_exps_count() == 0


def test_a_condition_may_be_awaited(manager):
    async def fine(value):
        await asyncio.sleep(0)
        return value == "yes"

    @manager.exp_cache(cache_if=fine)
    async def ask(q):
        return q

    async def main():
        return [await ask("yes"), await ask("no"), (await ask.call("yes")).found_by, (await ask.call("no")).found_by]

    assert asyncio.run(main()) == ["yes", "no", "exact", None]


# Failures


def test_failures_are_kept_for_curators_and_never_answer(manager):
    class Spilled(Exception): ...

    ask = counted(manager, [Spilled("key sk-abcdefghijklmnopqrstuvwxyz"), "fine"], record_failures=True)
    with pytest.raises(Spilled):
        ask("q")
    (failure,) = manager.sync.iter_exps()
    assert (failure.kind, failure.request) == ("failure", "q")
    assert failure.response["error"].endswith("Spilled")
    assert failure.response["message"] == "key [redacted]"
    assert "in ask" in failure.metadata["traceback"]
    assert "sk-abc" not in str(failure.to_dict())
    assert ask.lookup("q") is None
    assert [ask("q"), ask("q")] == ["fine", "fine"]
    assert manager.sync.get_exps_count({"kind": "failure"}) == 1
    assert manager.sync.get_exps_count({"kind": "success"}) == 1
    assert ask.invalidate("q") == 2


def test_a_failure_does_not_replace_what_was_answered(manager, later):
    ask = counted(manager, ["fine", ValueError("down"), "again"], record_failures=True, ttl=60)
    ask("q")
    later(61)
    with pytest.raises(ValueError, match="down"):
        ask("q")
    assert [ask("q"), ask("q")] == ["again", "again"]


# Time


@pytest.mark.parametrize(
    "ttl", [60, 60.0, "1m", "60", timedelta(minutes=1), Ttl(60), Ttl("1m"), lambda r: 60, lambda r: Ttl(60)], ids=named
)
def test_every_form_of_a_duration(manager, later, ttl):
    ask = counted(manager, ttl=ttl)
    assert [ask("q"), ask("q")] == ["run 1", "run 1"]
    later(59)
    assert ask("q") == "run 1"
    later(2)
    assert ask("q") == "run 2"


def test_a_ttl_that_depends_on_the_response(manager, later):
    ask = counted(manager, ["short", "long", "long"], ttl=lambda response: 1 if response == "short" else None)
    assert ask("q") == "short"
    later(2)
    assert ask("q") == "long"
    later(10**8)
    assert ask("q") == "long"


def test_a_ttl_callable_that_fails_means_not_stored(manager):
    ask = counted(manager, ttl=lambda response: "soon")
    with pytest.warns(ExpPoolWarning, match="ttl='soon' is no duration"):
        ask("q")
    assert manager.sync.get_exps_count() == 0


def test_stale_answers_are_served_only_while_somebody_renews(manager, later):
    import threading

    entered, release, runs = threading.Event(), threading.Event(), []

    @manager.exp_cache(ttl=Ttl(60, stale=30))
    def ask(q):
        runs.append(q)
        if len(runs) == 2:
            entered.set()
            assert release.wait(30)
        return f"run {len(runs)}"

    ask("q")
    later(61)
    renewed = []
    renewer = threading.Thread(target=lambda: renewed.append(ask.call("q")))
    renewer.start()
    assert entered.wait(30)
    stale = ask.call("q")
    assert (stale.value, stale.found_by) == ("run 1", "exact")
    release.set()
    renewer.join(30)
    assert [renewed[0].value, ask("q")] == ["run 2", "run 2"]
    assert len(runs) == 2


def test_an_expired_answer_is_given_in_place_of_an_exception_for_a_while(manager, later):
    ask = counted(manager, ["good", ValueError("down")], ttl=Ttl(60, if_error="1h"))
    ask("q")
    later(61)
    with pytest.warns(ExpPoolWarning, match="gave one that has expired"):
        assert ask("q") == "good"
    assert ask("q") == "good"
    assert len(ask.runs) == 3, "each call tries"
    later(3600)
    with pytest.raises(ValueError, match="down"):
        ask("q")


@pytest.mark.parametrize(
    ("ttl", "message"),
    [
        ("soon", "ttl='soon' is no duration"),
        (0, "must be above zero"),
        (-1, "must be above zero"),
        (True, "is no duration"),
        (object(), "is no duration"),
    ],
)
def test_wrong_durations_are_named_where_they_are_written(ttl, message):
    with pytest.raises(ConfigurationError, match=message):
        exp_cache(ttl=ttl)(print)


@pytest.mark.parametrize("options", [{"jitter": 2}, {"jitter": -0.1}, {"jitter": "1s"}, {"stale": "soon"}, {"stale": -1}, {"if_error": True}])  # fmt: skip
def test_a_wrong_ttl_is_named(options):
    with pytest.raises(ConfigurationError):
        Ttl(60, **options)


@pytest.mark.parametrize("options", [{"record_failures": "yes"}, {"single_flight": 1}, {"cache_if": "good"}, {"codec": 5}])  # fmt: skip
def test_other_wrong_options_are_named(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        exp_cache(**options)(len)


# Secrets

TOKENS = [
    "sk-abcdefghijklmnopqrstuvwxyz012345",
    "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789",
    "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "AKIAABCDEFGHIJKLMNOP",
    "AIzaabcdefghijklmnopqrstuvwxyz012345678",
    "xoxb-1234567890-abcdefghij",
    "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "glpat-abcdefghijklmnopqrst",
    "sk_live_abcdefghijklmnop1234",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "Bearer abcdefghijklmnopqrstuvwxyz",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
]


class Client(BaseModel):
    url: str
    api_key: str


def bytes_on_disk(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:8])
def test_well_known_tokens_are_never_stored_but_in_the_response(make_manager, tmp_path, token):
    manager = make_manager(store=f"sqlite:///{tmp_path}/pool.db", **PLAIN)
    secret = token.removeprefix("Bearer ").splitlines()[min(1, token.count("\n"))]

    @manager.exp_cache(record_failures=True)
    def ask(prompt, options=None, client=None):
        record(metadata={"used": token}, step=Step(action=f"curl -H {token}"))
        if options == "fail":
            raise ValueError(token)
        return "fine"

    ask(f"use {token} please", {"headers": [{"x": f"k {token}"}]}, Client(url=token, api_key="k3y-of-no-known-shape"))
    with pytest.raises(ValueError):
        ask(token, "fail")
    manager.sync.close()
    content = bytes_on_disk(tmp_path)
    assert secret.encode() not in content
    assert b"k3y-of-no-known-shape" not in content
    assert b"[redacted] please" in content


def test_calls_that_differ_in_a_secret_only_are_told_apart_and_never_alike(make_manager):
    from exp_pool import ThresholdJudge

    manager, runs = make_manager(), []

    @manager.exp_cache(judge=ThresholdJudge(0.5))
    def ask(prompt):
        runs.append(prompt)
        return len(runs)

    one, two = (f"use sk-{letter * 30} now" for letter in "ab")
    assert ask(one) == 1
    manager.sync.flush()  # now it could be found by similarity
    assert [ask(two), ask(one), ask(two)] == [2, 1, 2]
    assert {e.request for e in manager.sync.iter_exps()} == {"use [redacted] now"}


def test_a_text_made_by_hand_is_redacted_too(make_manager):
    @make_manager(**PLAIN).exp_cache(request=lambda prompt: f"asked: {prompt}")
    def ask(prompt):
        return "fine"

    ask("use sk-abcdefghijklmnopqrstuvwxyz012345 now")
    assert ask.lookup("use sk-abcdefghijklmnopqrstuvwxyz012345 now").experience.request == "asked: use [redacted] now"


def test_keys_of_dicts_named_like_secrets_are_redacted_at_any_depth(manager):
    @manager.exp_cache
    def ask(q, options):
        return "fine"

    ask("q", {"a": [{"X-Api-Key": 12345, "password": "p", "tokens": 5, "max_token_count": 3}], "Authorization": None})
    (stored,) = manager.sync.iter_exps()
    assert stored.arguments["options"] == {
        "a": [{"X-Api-Key": "[redacted]", "password": "[redacted]", "tokens": 5, "max_token_count": 3}],
        "Authorization": "[redacted]",
    }


def test_prose_is_left_alone(manager):
    @manager.exp_cache
    def ask(q):
        return "fine"

    texts = ["a task-based risk-free disk-usage", "the right ghp", "npm_run build", "sk-learn", "Bearer of bad news"]
    for text in texts:
        ask(text)
    assert [e.request for e in manager.sync.iter_exps()] == texts
