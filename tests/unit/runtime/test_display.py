"""How public values look: one line at a prompt, a table in a notebook, and nothing stored is ever markup."""

import io

import pytest
from rich.console import Console

from exp_pool import Answer, Call, Experience, Hit, Metric, Score, Step
from exp_pool.core.results import HistoryEntry
from exp_pool.maintenance.doctor import Diagnosis
from exp_pool.runtime.counters import CacheInfo, Stats
from exp_pool.runtime.display import Brief

LONG = "word " * 500


def experience(**changes):
    fields = {"id": "5e80", "function": "app.ask", "request": LONG, "response": {"text": LONG}}
    return Experience(**{**fields, **changes})


VALUES = [
    experience(),
    experience(expected=LONG, trust="quarantined", scores={"s": Score(value=0.5, reason=LONG)}),
    Hit(experience(), 0.98765, "semantic"),
    Answer(LONG, "5e80", "exact", 1.0),
    Call(print, "app.ask", {"q": LONG}),
    Stats(hits=3),
    CacheInfo(1, 2, 0, 1),
    Score(value=0.25, scorer="exact", reason=LONG),
    Metric(time_s=1.5),
    Step(plan=LONG, action="a"),
    Diagnosis({"pool": LONG}, ["broken"], ["mended"]),
    HistoryEntry(experience().created_at, "stored", "5e80", {"origin": "manual", "text": LONG}),
]
NAMES = [type(value).__name__ for value in VALUES]


@pytest.mark.parametrize("value", VALUES, ids=NAMES)
def test_one_line_that_fits_a_screen(value):
    said = repr(value)
    assert said.startswith(type(value).__name__)
    assert "\n" not in said
    assert len(said) < 400


@pytest.mark.parametrize("value", VALUES, ids=NAMES)
def test_rich_shows_as_little(value):
    out = io.StringIO()
    Console(file=out, width=100).print(value)
    assert type(value).__name__ in out.getvalue()
    assert len(out.getvalue()) < 1000


@pytest.mark.parametrize("value", VALUES, ids=NAMES)
def test_a_table_in_notebooks(value):
    said = value._repr_html_()
    assert said.count("<table") == said.count("</table>") == 1
    assert len(said) < 4000


def test_what_is_stored_is_no_markup():
    evil = "<script>alert(1)</script><img onerror=x>"
    for value in (experience(request=evil, response=evil), Hit(experience(request=evil), 1.0, "exact"), Answer(evil)):
        assert "<script" not in value._repr_html_()
        assert "<img" not in value._repr_html_()


def test_only_what_differs_from_defaults_is_shown():
    assert repr(Stats(hits=3, saved_time_s=1.5)) == "Stats(hits=3, saved_time_s=1.5)"
    assert repr(Score(value=0.5, scorer="exact")) == "Score(value=0.5, scorer='exact')"
    assert repr(experience(request="q", response="a")) == (
        "Experience(function='app.ask', request='q', response='a', id='5e80')"
    )
    assert "trust='quarantined'" in repr(experience(trust="quarantined"))
    assert repr(Answer(1, None)) == "Answer(value=1)"


def test_a_value_that_cannot_be_shown_is_named():
    class Odd:
        def __repr__(self):
            raise RuntimeError("no")

    assert "Odd" in repr(Answer(Odd()))
    assert repr(Brief("x" * 10**8)).endswith("…")


def test_a_manager_shows_what_happened(make_manager):
    manager = make_manager()
    ask = manager.exp_cache(lambda q: q)
    ask("a")
    assert "misses" in manager._repr_html_()
    assert "hits" not in manager._repr_html_()
