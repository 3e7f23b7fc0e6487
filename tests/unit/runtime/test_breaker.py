"""The circuit breaker: one caller now and then tries a server that is away."""

from exp_pool.runtime.breaker import Breaker


def test_a_server_that_is_away_is_tried_by_one_caller_now_and_then(monkeypatch):
    now = 100.0
    monkeypatch.setattr("exp_pool.runtime.breaker.monotonic", lambda: now)
    breaker, pauses = Breaker(1.0), []
    assert breaker.trouble() == ""
    for _ in range(8):
        breaker.failed("away")  # callers who were there when it went
    for _ in range(6):
        before = now
        while breaker.trouble():
            now += 0.01
        pauses.append(round(now - before, 1))
        assert breaker.trouble() == "away", "the others wait for what this one finds"
        breaker.failed("away")
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    now += 1.0
    assert breaker.trouble() == ""
    breaker.succeeded()
    assert [breaker.trouble() for _ in range(3)] == [""] * 3
