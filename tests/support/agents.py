"""A function of any kind that tells what it was shown."""

import asyncio
import json
import re
import threading

from exp_pool import Experience
from exp_pool.reuse.selection import Selective, selection_of

SAID = re.compile(r"\b(?:seed|made)-\d+")


class Agent:
    """A function of one kind; `seen` says for each answer that it made which answers it was shown."""

    def __init__(self, kind, manager, fails=lambda n: False, gate=None, **options):
        self.kind, self.manager, self.seen, self.fails, self.gate = kind, manager, {}, fails, gate
        self._chance = any(selection_of(o).holdout for o in options.values() if isinstance(o, Selective))
        self._lock = threading.Lock()
        self.decorate = manager.exp_cache(name="act", **options)
        self.act = getattr(self, kind.replace(" ", "_"))()

    def answer(self, q, experiences):
        said = sorted({*SAID.findall(q), *(SAID.search(str(e.value))[0] for e in experiences)})
        with self._lock:
            n = len(self.seen)
            self.seen[f"made-{n}"] = said
        if self.gate is not None:
            self.gate()
        if self.fails(n):
            raise ValueError(f"made-{n}")
        return f"made-{n}"

    def sync(self):
        @self.decorate
        def act(q, experiences=()):
            return self.answer(q, experiences)

        return act

    def async_(self):
        @self.decorate
        async def act(q, experiences=()):
            await asyncio.sleep(0)
            return self.answer(q, experiences)

        return act

    def generator(self):
        @self.decorate
        def act(q, experiences=()):
            yield self.answer(q, experiences)

        return act

    def async_generator(self):
        @self.decorate
        async def act(q, experiences=()):
            await asyncio.sleep(0)
            yield self.answer(q, experiences)

        return act

    def method(self):
        agent = self

        class Actor:
            @agent.decorate
            def act(self, q, experiences=()):
                return agent.answer(q, experiences)

        return Actor().act

    def classmethod(self):
        class Actor:
            @classmethod
            @self.decorate
            def act(cls, q, experiences=()):
                return self.answer(q, experiences)

        return Actor.act

    def staticmethod(self):
        class Actor:
            @self.decorate
            @staticmethod
            def act(q, experiences=()):
                return self.answer(q, experiences)

        return Actor.act

    async def acall(self, q, **given):
        if self.kind == "async generator":
            return [chunk async for chunk in self.act(q, **given)][0]
        return await self.act(q, **given)

    def call(self, q, **given):
        if self.kind.startswith("async"):
            return asyncio.run(self.acall(q, **given))
        return next(iter(list(self.act(q, **given)))) if self.kind == "generator" else self.act(q, **given)

    def check(self, rows, least=0):
        """Every row's parents are what its call saw; so many ids at least, where nothing is left to chance."""
        stored = list(self.manager.sync.iter_exps(history=True))
        said = {e.id: SAID.search(json.dumps(e.to_dict()["response"]))[0] for e in stored}
        made = [e for e in stored if said[e.id] in self.seen]
        for experience in made:
            assert sorted(said[id_] for id_ in experience.parents) == self.seen[said[experience.id]]
        assert len(made) == rows
        count = sum(len(experience.parents) for experience in made)
        assert count >= least or self._chance
        return count


Agent.async_.__name__ = "async"
setattr(Agent, "async", Agent.async_)


def seed(n, **fields):
    given = {"function": "act", "arguments": {"q": f"q{'ab' * n}"}, "response": f"seed-{n}"}
    return Experience(**{**given, **fields})
