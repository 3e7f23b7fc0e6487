"""How long a pending task that failed waits for its next try."""

from exp_pool.core.record import TaskKind
from exp_pool.maintenance.retries import postpone, wait_s
from exp_pool.testing.factories import row


def test_the_wait_doubles_up_to_an_hour_however_often_it_failed():
    assert [wait_s(tries) for tries in (0, 1, 2)] == [2.0, 4.0, 8.0]
    assert wait_s(11) == wait_s(5000) == 3600.0


def test_a_postponed_task_is_due_after_the_wait(monkeypatch):
    monkeypatch.setattr("exp_pool.maintenance.retries.now_us", lambda: 7)
    record = row("q")
    postponed = postpone(record, TaskKind.SCORE, 1.5)
    assert (postponed.id, postponed.task, postponed.done, postponed.retry_at) == (record.id, "score", False, 1_500_007)
