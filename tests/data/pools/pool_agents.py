"""Functions whose answers stand in the pools beside this file. What they say must not change: their source is in the rows."""

from dataclasses import dataclass

from pydantic import BaseModel

RUNS = []


class Reply(BaseModel):
    """An answer as a model."""

    text: str
    pages: list[int] = []


@dataclass(frozen=True)
class Settings:
    """An argument as a dataclass."""

    model: str
    temperature: float = 0.5


def ask(question: str, settings: Settings = Settings("small")) -> str:
    """Plain."""
    RUNS.append(question)
    return f"{settings.model}: {question.upper()}"


def read(document: bytes, pages: tuple[int, ...]) -> Reply:
    """A model, of bytes and a tuple."""
    RUNS.append(document)
    return Reply(text=document.decode(), pages=list(pages))


def made_of(prompt):
    """A closure."""

    def polish(text: str) -> dict[str, list[str]]:
        RUNS.append(text)
        return {prompt: text.split()}

    return polish


class Agent:
    """A method whose object differs in one attribute."""

    def __init__(self, role: str) -> None:
        self.role = role

    def act(self, task: str) -> str:
        """What it does."""
        RUNS.append(task)
        return f"{self.role}: {task}"


def calls(manager):
    """Every decorated function, with calls that the pools have."""
    cache = manager.exp_cache
    act = cache(self_key=("role",))(Agent.act)
    return [
        (cache(ask), ("where?",), "small: WHERE?"),
        (cache(ask), ("where?", Settings("large")), "large: WHERE?"),
        (cache(read), (b"abc", (1, 2)), Reply(text="abc", pages=[1, 2])),
        (cache(made_of("brief")), ("a b",), {"brief": ["a", "b"]}),
        (cache(made_of("loud")), ("a b",), {"loud": ["a", "b"]}),
        (act, (Agent("writer"), "write"), "writer: write"),
        (cache(name="shared", version="2")(lambda q: q), ("x",), "x"),
    ]
