"""Ways to define a function, for the matrix of guarantee 2: one text each, and an expression that calls what it defines.

The texts are in ``data/ways``, each under a line ``=== name | load: how | uncached: slots``, the call behind ``>>>``.

A text has slots, ``<constant>``: what may differ. Two variants of a cell have ``a`` and ``b`` in one slot, and the same
in all others; so the slots of a way are its cells. What stands in the call only is of one source, and differs as
objects do. `TOLD` is what every function says beside what is special about it, `BELOW` two classes below the one above.
How a text is loaded is told in `matrix_loading`.
"""

import re
from dataclasses import dataclass, replace

from support.paths import DATA

HEAD = """\
import abc, asyncio, collections, contextlib, dataclasses, enum, functools, threading, typing
import attr, pydantic, tenacity
from exp_pool import exp_cache
from support.matrix_modules import Client, Data, drained, ran, where
CONST = "<constant>"
def helper():
    return "<helper>"
"""
TOLD = '[ran(), "<source>", CONST, helper(), *where(globals())]'
BELOW = """\
class Loud(Agent):
    __slots__ = ()
class Quiet(Agent):
    __slots__ = ()
WHICH = {"a": Loud, "b": Quiet}
"""
SLOT = re.compile(r"<([a-z]+)>")
# What may differ about where a text stands, whatever it says.
PLACES = {"module": "module", "reload": "module", "installed": "module", "script": "file", "notebook": "file"}
# The columns of the table: all slots.
SLOTS = (
    "source constant helper default plain dict object function wrapper member class state imported module file".split()
)


@dataclass(frozen=True)
class Way:
    """A way to define a function; `uncached`: the slots in which a variant may run uncached, with a warning."""

    name: str
    text: str
    call: str
    load: str = "module"
    uncached: frozenset[str] = frozenset()
    kind: str = ""

    @property
    def slots(self):
        """What may differ: the cells of this way."""
        found = {*SLOT.findall(self.text), *SLOT.findall(self.call)} | (
            {"imported"} if self.load == "project" else set()
        )
        if self.load in PLACES and "where(" in self.text:
            found.add(PLACES[self.load])
        assert found <= {*SLOTS}, self.name
        return [slot for slot in SLOTS if slot in found]

    def variant(self, slot, value):
        """Source and call, with this value in the slot."""

        def filled(text):
            return SLOT.sub(lambda found: value if found[1] == slot else "same", text)

        return filled(self.text), filled(self.call)


def _read(section, kind):
    title, _, rest = section.partition("\n")
    name, *options = (part.strip() for part in title.split("|"))
    told = dict(option.partition(":")[::2] for option in options)
    text, _, call = rest.partition("\n>>> ")
    text = text.rstrip() + "\n"
    if "bare" not in told:
        text = HEAD + text.replace("TOLD", TOLD).replace("BELOW\n", BELOW)
    way = Way(name, text, call.strip() or 'ask("q")', told.get("load", "module").strip(), kind=kind)
    uncached = told.get("uncached", "").split()
    return replace(way, uncached=frozenset(way.slots if uncached == ["*"] else uncached))


def _all():
    for file in sorted((DATA / "ways").glob("*.txt")):
        for section in re.split(r"^=== ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            yield _read(section, file.stem)


WAYS = {way.name: way for way in _all()}
assert len(WAYS) == len([*_all()]), "two ways of one name"
