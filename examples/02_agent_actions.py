"""Methods as actions, what they record about themselves, and similar experiences shown to them.

A planner really plans here: it orders the build steps of a project by their dependencies, and starts from the plan of a
similar project where the pool knows one. ``python examples/02_agent_actions.py``
"""

import graphlib
import re
import tempfile
from pathlib import Path

from exp_pool import Experience, ExpManager, Inject, Step, bypass, record

FOLDER = Path(tempfile.mkdtemp(prefix="exp_pool_"))
manager = ExpManager(store=f"sqlite:///{FOLDER}/pool.db", index="exact://")

DEPENDS_ON = {
    "parser": ["lexer"],
    "interpreter": ["parser", "library"],
    "compiler": ["parser"],
    "debugger": ["interpreter"],
    "tests": ["interpreter", "compiler"],
    "docs": ["library"],
}


class Planner:
    """An agent with state: which strategy it uses is part of what was asked, how often it ran is not."""

    def __init__(self, strategy: str) -> None:
        self.strategy = strategy
        self.runs = 0

    @manager.exp_cache(
        name="Planner.plan", self_key=("strategy",), inject=Inject("experiences", top_k=1, min_similarity=0.4)
    )
    def plan(self, request: str, experiences: list[Experience] | None = None) -> list[str]:
        """The parts that the request names and what they need, in an order in which they can be built."""
        self.runs += 1
        wanted = [part for part in DEPENDS_ON if part in re.findall(r"[a-z]+", request.lower())]
        known: list[str] = experiences[0].value if experiences else []
        order = list(graphlib.TopologicalSorter({part: DEPENDS_ON[part] for part in wanted}).static_order())
        if self.strategy == "reuse" and known:  # keep the order that worked, add what is new
            order = [part for part in known if part in order] + [part for part in order if part not in known]
        record(
            model="graphlib",
            strategy=self.strategy,
            tokens_in=len(request.split()),
            step=Step(plan=request, action="order", observation=f"{len(order)} parts"),
        )
        return order


def main() -> None:
    """Plan three projects; the second is similar to the first, the third is the first again."""
    manager.sync.warm_up()  # loads the model; without it the first call that looks for similar ones waits for that
    planner = Planner("reuse")
    first = planner.plan.call("Build the interpreter and its docs")
    manager.sync.flush()  # embed now; without it the worker does so within a second
    second = planner.plan.call("Build the interpreter, the debugger and the docs")
    third = planner.plan.call("Build the interpreter and its docs")
    print(f"first   {first.value}")
    print(f"second  {second.value}  shown the first: {second.parents == (first.id,)}")
    print(f"third   {third.value}  found by: {third.found_by}, the planner ran {planner.runs} times")

    other = Planner("fresh").plan.call("Build the interpreter and its docs")
    print(f"another strategy is another question; found by: {other.found_by}")
    with bypass(write=False):
        planner.plan("Build the interpreter and its docs")
    print(f"bypass runs the planner: {planner.runs} times")

    assert second.id is not None
    experience = manager.sync.get_exp(second.id)
    assert experience is not None
    print(f"recorded: {experience.model}, {experience.strategy}, {experience.metric}, {experience.trajectory}")
    manager.sync.close()


if __name__ == "__main__":
    main()
