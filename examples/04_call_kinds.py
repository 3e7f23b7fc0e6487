"""Every kind of call behind the pool: what is answered again, and what runs.

python examples/04_call_kinds.py
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel

from exp_pool import ExpManager, Ttl

manager = ExpManager(store="memory://", index="none://")
runs: list[str] = []


def show(what: str, *answers: object) -> None:
    print(f"{what:<48} ran {len(runs)}x  {answers[0]!r}")
    runs.clear()


class Answer(BaseModel):
    text: str
    sources: list[str] = []


@manager.exp_cache
def plain(question: str) -> Answer:
    runs.append(question)
    return Answer(text=question.upper(), sources=["a book"])


@manager.exp_cache
async def coroutine(question: str) -> str:
    runs.append(question)
    await asyncio.sleep(0.01)
    return question.upper()


@manager.exp_cache
def stream(question: str) -> Iterator[str]:
    runs.append(question)
    yield from question.split()


@manager.exp_cache
async def async_stream(question: str) -> AsyncIterator[str]:
    runs.append(question)
    for word in question.split():
        await asyncio.sleep(0)
        yield word


@manager.exp_cache(batch="texts")
def embed(texts: list[str]) -> list[list[float]]:
    runs.extend(texts)
    return [[float(len(text))] for text in texts]


class Agent:
    def __init__(self, model: str) -> None:
        self.model, self.calls = model, 0

    @manager.exp_cache(self_key=("model",))  # `calls` makes no difference to the answer
    def act(self, task: str) -> str:
        runs.append(task)
        self.calls += 1
        return f"{self.model} did: {task}"

    @classmethod
    @manager.exp_cache
    def describe(cls, detail: int) -> str:
        runs.append(cls.__name__)
        return f"{cls.__name__} {detail}"

    @manager.exp_cache
    @staticmethod
    def clean(text: str) -> str:
        runs.append(text)
        return text.strip()


class Role(BaseModel):
    name: str

    @manager.exp_cache(self_key=("name",))
    def plan(self, task: str) -> str:
        runs.append(task)
        return f"{self.name} plans: {task}"


def complete(model: str, prompt: str) -> str:
    runs.append(prompt)
    return f"{model}: {prompt}"


@manager.exp_cache(ttl=Ttl("1h", stale="10m", if_error="1d"), cache_if=lambda answer: answer != "")
def weather(town: str) -> str:
    runs.append(town)
    return f"rain in {town}"


async def main() -> None:
    show("a model comes back as a model", plain("why?"), plain("why?"))
    show("coroutines: ten at once", *await asyncio.gather(*(coroutine("why?") for _ in range(10))))
    with ThreadPoolExecutor(10) as threads:
        show("threads: ten at once", *threads.map(weather, ["Oslo"] * 10))
    show("a stream, chunk by chunk", [list(stream("to be or not")) for _ in range(3)][-1])
    show("an async stream", [[word async for word in async_stream("to be")] for _ in range(3)][-1])
    show("a batch: three of five items are new", embed(["a", "bb", "a"]), embed(["bb", "ccc"]))
    show("a method, by the attributes that matter", *(Agent("small").act("tidy up") for _ in range(2)))
    show(
        "a class method, a static method", Agent.describe(1), Agent.describe(1), Agent.clean(" x "), Agent.clean(" x ")
    )
    cook = Role(name="cook")
    show("a method of a pydantic model, and of its copy", cook.plan("soup"), cook.model_copy(deep=True).plan("soup"))
    small = manager.exp_cache(functools.partial(complete, "small"))
    show("a partial", small("hello"), small("hello"))
    abandoned = stream("never read to its end")
    next(abandoned)
    abandoned.close()
    show("an abandoned stream is not stored", stream.lookup("never read to its end"))
    show("1, True and '1' are three calls: keys", len({Agent.clean.key(q) for q in (1, True, "1")}))
    print(manager.stats())


asyncio.run(main())
