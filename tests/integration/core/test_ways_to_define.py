"""Guarantee 2, the matrix: however a function is defined, and whatever differs, there is never one answer for two.

Each cell asks variant a twice, b twice, and a again, all of it loaded anew each time and all alive at once. What a
variant says without the pool is what it has to say with it; the second time the pool says it, or the call runs uncached
and one warning says so.
"""

import sys
import warnings

import pytest
from support.matrix_modules import Asked, Loading
from support.matrix_programs import HAVE_A_FILE, STARTED
from support.matrix_programs import SLOTS as OF_PROGRAMS
from support.matrix_ways import PLACES, SLOTS, WAYS

from exp_pool import set_exp_manager
from exp_pool.api import function_registry
from exp_pool.errors import ExpPoolWarning

COUNTS = (142, 717, 108, 1305)  # ways; cells apart, cells uncached and said, slots that a way does not have
CELLS = [(name, slot) for name, way in WAYS.items() for slot in way.slots]


@pytest.fixture
def manager(make_manager):
    manager = make_manager(index="none://", embedder="none")
    set_exp_manager(manager)
    return manager


@pytest.fixture
def loading(tmp_path, monkeypatch):
    made = []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        function_registry, "_known", {}
    )  # a cell is a process of its own: none knows the functions of another
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "pyproject.toml").touch()

    def make(how, slot):
        made.append(Loading(tmp_path, how, slot))
        return made[-1]

    yield make
    for each in made:
        each.forget()


@pytest.mark.parametrize(("name", "slot"), CELLS, ids=[f"{name}-{slot}" for name, slot in CELLS])
def test_two_variants_never_share_an_answer(manager, loading, name, slot):
    way = WAYS[name]
    load, asked, alive = loading(way.load, slot), {}, []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for turn in ("a", "a again", "b", "b again", "a at last"):
            text, call = way.variant(slot, turn[0])
            alive.append(load(text, turn[0]))
            asked[turn] = Asked(manager, alive[-1], call)
    a, b = asked["a"].true, asked["b"].true
    assert a != b, "the variants do not differ"
    for turn, one in asked.items():
        assert one.answer == one.true == (a if turn[0] == "a" else b), turn

    is_one_source = way.variant(slot, "a")[0] == way.variant(slot, "b")[0] and slot != "imported"
    for turn in ("a again", "b again", *(["a at last"] if is_one_source else [])):
        assert asked[turn].uncached or (asked[turn].hits and not asked[turn].runs), f"{turn}: a needless miss"

    uncached = sum(one.uncached for one in asked.values())
    told = [str(w.message) for w in said if issubclass(w.category, ExpPoolWarning) and "uncached" in str(w.message)]
    functions = {message.partition(" ")[0] for message in told}  # in another module it is another one, with its warning
    assert len(told) == len(functions) <= (2 if slot in PLACES.values() else 1), told
    assert bool(uncached) == bool(told) == (slot in way.uncached), told or "not declared"


def test_another_cell_changes_a_class_below(manager, loading):
    load = loading("cell", "member")
    base = "from exp_pool import exp_cache\nclass Base:\n    @exp_cache\n    def ask(self, q):\n        return self.tone()\n"
    names = load(base, "")
    for tone in ("a", "b"):
        load(f"class Agent(Base):\n    def tone(self):\n        return {tone!r}\n", "")
        assert [names["Agent"]().ask("q") for _ in range(2)] == [tone] * 2
    assert (manager.stats().hits, manager.stats().uncached) == (2, 0)


def test_no_cell_disappears():
    """The table: how many ways there are, in how many cells their variants are told apart, or run uncached and say so."""
    kinds = {}
    for way in WAYS.values():
        kinds.setdefault(way.kind, []).append((way.slots, way.uncached))
    kinds["programs"] = [([*OF_PROGRAMS, *(["file"] if how in HAVE_A_FILE else [])], ()) for how in STARTED]
    ways = [way for of_kind in kinds.values() for way in of_kind]
    rows = {**kinds, "all ways": ways}
    lines = [f"{'':14}{'ways':>6}{'cells':>7}{'apart':>7}{'uncached, said':>16}{'n/a':>6}"]
    for name, of_kind in rows.items():
        counts = _counts(of_kind)
        lines.append(f"{name:14}{len(of_kind):6}{sum(counts[:2]):7}{counts[0]:7}{counts[1]:16}{counts[2]:6}")
    for slot in SLOTS:
        counts = _counts([([slot] if slot in slots else [], uncached) for slots, uncached in ways])
        lines.append(
            f"  {slot:12}{sum(counts[:2]):6}{sum(counts[:2]):7}{counts[0]:7}{counts[1]:16}{len(ways) - sum(counts[:2]):6}"
        )
    sys.stdout.write("\n".join(["", *lines, ""]))  # shown by pytest -s
    assert (len(ways), *_counts(ways)) == COUNTS


def _counts(ways):
    """Cells that are told apart, cells that run uncached, and slots that a way does not have."""
    cells, uncached = sum(len(slots) for slots, _ in ways), sum(len({*slots} & {*said}) for slots, said in ways)
    return cells - uncached, uncached, len(ways) * len(SLOTS) - cells
