"""Functions whose answers stand in the pools beside this file. What they say must not change: their source is in the rows."""

from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel

from exp_pool import Experience

RUNS = []
SHOWN = Experience(id="1", function="f", request="request", response=1, created_at=datetime(2026, 1, 1, tzinfo=UTC))


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


def shouted(text: str) -> str:
    """What another function closes over."""
    return text.upper()


class Client:
    """An object that another function closes over."""

    def __init__(self, model: str) -> None:
        self.model = model

    def complete(self, text: str) -> str:
        """Asked by the function."""
        return f"{self.model}: {text}"


def made_with(client, polish):
    """A closure over an object and a function; and one over Experiences as arguments."""

    def complete(text: str) -> str:
        RUNS.append(text)
        return client.complete(polish(text))

    return complete


def judged(experience: Experience) -> int:
    """Of an experience as argument."""
    RUNS.append(experience)
    return len(experience.request)


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
        (cache(made_with(Client("small"), shouted)), ("a",), "small: A"),
        (cache(made_with(Client("large"), shouted)), ("a",), "large: A"),
        (cache(judged), (SHOWN,), 7),
        (act, (Agent("writer"), "write"), "writer: write"),
        (cache(name="shared", version="2")(lambda q: q), ("x",), "x"),
    ]
