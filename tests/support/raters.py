"""Scorers, and pools that they score, for tests."""

from exp_pool import Experience, Score
from exp_pool.core.record import TaskKind
from exp_pool.protocols import RecordQuery


def exps(count, **fields):
    return [Experience(function="f", request=f"r{n}", response=f"a{n}", **fields) for n in range(count)]


def owed(manager):
    return manager.sync._store.count(RecordQuery(None, pending=TaskKind.SCORE))


def named(name, version, rate):
    def scorer(context):
        return rate(context)

    scorer.name, scorer.version = name, version
    return scorer


def always(value, name="s", version="1"):
    return named(name, version, lambda context: Score(value=value, reason=f"{name} {version}"))


def only(manager):
    (experience,) = manager.sync.iter_exps()
    return experience


def cached(manager, scorer, **options):
    @manager.exp_cache(scorer=scorer, name="f", **options)
    def f(req):
        return f"to {req}"

    return f
