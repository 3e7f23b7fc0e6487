"""Guarantee 2, bad input: the call runs, and at most one warning names the function and what to do."""

import importlib
import sys
import warnings

import pytest

from exp_pool import set_exp_manager
from exp_pool.api import function_registry
from exp_pool.errors import ExpPoolWarning

SOURCE = "from exp_pool import exp_cache\n@exp_cache\ndef ask(q):\n    return 'said ' + q\n"


@pytest.fixture(autouse=True)
def manager(make_manager, monkeypatch):
    monkeypatch.setattr(function_registry, "_known", {})
    manager = make_manager(index="none://", embedder="none")
    set_exp_manager(manager)
    return manager


def asked(function, said="said q", times=2):
    """The warnings of these calls."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert [function("q") for _ in range(times)] == [said] * times
    return [str(w.message) for w in told if issubclass(w.category, ExpPoolWarning)]


@pytest.mark.parametrize("trouble", ["gone", "a folder", "not readable", "other bytes", "no Python", "shorter"])
def test_source_that_cannot_be_read(manager, tmp_path, monkeypatch, trouble):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = f"unreadable_{trouble.replace(' ', '_')}"
    file = tmp_path / f"{name}.py"
    # The file is so by the time that the function is decorated.
    file.write_text(f"import spoil\nspoil.spoil()\n{SOURCE}")
    spoils = {
        "gone": lambda: file.unlink(),
        "a folder": lambda: (file.unlink(), file.mkdir()),
        "not readable": lambda: file.chmod(0),
        "other bytes": lambda: file.write_bytes(b"\xff\xfe\x00def" * 50),
        "no Python": lambda: file.write_text("def ask(:\n" * 50),
        "shorter": lambda: file.write_text("x = 1\n"),
    }
    monkeypatch.setitem(sys.modules, "spoil", type(sys)("spoil"))
    sys.modules["spoil"].spoil = spoils[trouble]
    importlib.invalidate_caches()
    told = asked(importlib.import_module(name).ask)
    sys.modules.pop(name)
    assert len(told) <= 1
    assert all(f"{name}.ask" in message for message in told)
    assert (manager.stats().hits, manager.stats().uncached) == (1, 0)


def test_a_closure_that_goes_in_a_circle(manager):
    def make(cycle):
        from exp_pool import exp_cache

        @exp_cache
        def ask(q):
            return f"said {q}" if cycle else ""

        return ask

    cycle = []
    cycle.append({"again": (cycle,)})
    (told,) = asked(make(cycle))
    assert "ask runs uncached" in told
    assert "exclude=['cycle']" in told


def test_a_return_type_that_cannot_be_inspected(manager):
    from exp_pool import exp_cache

    @exp_cache
    def ask(q: str) -> "NoSuchName[int]":  # noqa: F821
        return "said " + q

    told = asked(ask)
    assert len(told) == 1
    assert "ask" in told[0]
    assert "NoSuchName" in told[0]
    assert manager.stats().hits == 1


@pytest.mark.parametrize("length", [1, 2])
def test_wrappers_in_a_circle_run(make_manager, length):
    def one(q):
        return q

    def other(q):
        return q

    one.__wrapped__ = one if length == 1 else other
    other.__wrapped__ = one
    ask = make_manager(index="none://", embedder="none").exp_cache(one)
    assert ask("a") == "a"
