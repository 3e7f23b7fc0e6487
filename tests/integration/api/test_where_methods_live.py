"""Methods in every kind of class: the class can be made, and what is asked of a method is bound as the method is."""

import abc
import asyncio
import dataclasses
import enum
import functools
import inspect
import typing

import attrs
import pydantic
import pytest

from exp_pool import Experience, exp_cache, get_exp_manager, set_exp_manager
from exp_pool.api.cached_function import Decorated

T = typing.TypeVar("T")


@pytest.fixture
def manager(make_manager):
    set_exp_manager(make_manager())
    return get_exp_manager()


def holds(method, runs, *args, answer):
    """It answers, runs once for two calls, and everything that is asked of it is bound."""
    before = len(runs)
    assert method(*args) == method(*args) == answer
    assert len(runs) - before == 1
    assert method.call(*args).found_by == "exact"
    assert method.lookup(*args).experience.response == answer
    assert method.key(*args) == method.key(*args)
    assert "this call is stored" in method.explain(*args)
    assert method.refresh(*args).value == answer
    assert method.invalidate(*args) == 2  # what was replaced by the refreshed one, too
    assert method.lookup(*args) is None


# ── pydantic ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_methods_of_a_pydantic_model(manager):
    runs = []

    class Role(pydantic.BaseModel):
        name: str = "role"

        @exp_cache(manager=manager, self_key=("name",))
        def ask(self, q: str) -> str:
            runs.append(q)
            return f"{self.name}:{q}"

        @exp_cache(manager=manager, self_key=())
        async def aask(self, *, req: list[dict], system: str = "") -> str:
            runs.append(req)
            return req[-1]["content"]

        @exp_cache(manager=manager, self_key=())
        def _private(self, q):
            runs.append(q)
            return q

    class Sub(Role):
        extra: int = 1

    for cls in (Role, Sub):
        holds(cls(name="a").ask, runs, "x", answer="a:x")
        holds(cls()._private, runs, "x", answer="x")
        assert set(cls.model_fields) <= {"name", "extra"} and not cls.__private_attributes__
        assert cls().model_dump().keys() <= {"name", "extra"}
    role = Role()

    async def twice():
        return [await role.aask(req=[{"role": "user", "content": "hi"}]) for _ in range(2)]

    runs.clear()
    assert asyncio.run(twice()) == ["hi", "hi"]
    assert len(runs) == 1
    assert asyncio.run(role.aask.call(req=[{"role": "user", "content": "hi"}])).found_by == "exact"
    assert role.model_copy(deep=True).ask("y") == "role:y"


class Box(pydantic.BaseModel, typing.Generic[T]):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    content: T

    @exp_cache(self_key=("content",))
    def ask(self, q):
        RUNS.append(q)
        return f"{self.content}:{q}"


def test_generic_frozen_and_root_models_and_dataclasses_of_pydantic(manager):
    runs = []

    class Names(pydantic.RootModel[list[str]]):
        @exp_cache(manager=manager, self_key=("root",))
        def ask(self, q):
            runs.append(q)
            return f"{self.root}:{q}"

    @pydantic.dataclasses.dataclass
    class Data:
        n: int

        @exp_cache(manager=manager, self_key=("n",))
        def ask(self, q):
            runs.append(q)
            return f"{self.n}:{q}"

    holds(Box[int](content=1).ask, RUNS, "x", answer="1:x")
    holds(Names(["a"]).ask, runs, "x", answer="['a']:x")
    holds(Data(2).ask, runs, "x", answer="2:x")


def test_a_function_that_is_decorated_elsewhere_becomes_a_method(manager):
    @manager.exp_cache(exclude=["self"])
    def ask(self, q):
        return q

    class Role(pydantic.BaseModel):
        tell = ask

    assert Role().tell("x") == "x"
    assert Role().tell.call("x").found_by == "exact"


def test_decorated_properties_and_static_methods_of_models(manager):
    runs = []

    class Role(pydantic.BaseModel):
        name: str = "a"

        @property
        @exp_cache(manager=manager, self_key=("name",))
        def above(self):
            runs.append(1)
            return self.name

        @exp_cache(manager=manager, self_key=("name",))
        @property
        def below(self):
            runs.append(1)
            return self.name

        @pydantic.computed_field
        @property
        @exp_cache(manager=manager, self_key=("name",))
        def computed(self) -> str:
            runs.append(1)
            return self.name

        @staticmethod
        @exp_cache(manager=manager)
        def check(q):
            runs.append(q)
            return q

    assert [Role().above, Role().above, Role().below, Role().below] == ["a"] * 4
    assert (Role(name="b").above, Role(name="b").below) == ("b", "b")
    assert len(runs) == 4
    assert Role().model_dump() == {"name": "a", "computed": "a"}
    holds(Role.check, runs, "x", answer="x")


# ── Other classes ─────────────────────────────────────────────────────────────────────────────────────────────────────


RUNS = []


class Body:
    @exp_cache(self_key=("n",))
    def ask_(self, q):
        RUNS.append(q)
        return f"{self.n}:{q}"


ask_ = Body.ask_


@attrs.define
class SlottedAttrs:
    n: int = 1
    ask_ = ask_


@attrs.frozen(slots=True)
class FrozenAttrs:
    n: int = 1
    ask_ = ask_


@dataclasses.dataclass(slots=True)
class SlottedDataclass:
    n: int = 1
    ask_ = ask_


@dataclasses.dataclass(frozen=True, slots=True, weakref_slot=True)
class FrozenDataclass:
    n: int = 1
    ask_ = ask_


class Asking(typing.Protocol):
    n: int

    ask_ = ask_


class OfProtocol(Asking):
    n = 1


class Base(abc.ABC):
    @abc.abstractmethod
    def other(self): ...

    n = 1
    ask_ = ask_


class OfAbstract(Base):
    def other(self): ...


class Enumeration(enum.Enum):
    ONE = 1
    ask_ = ask_

    @property
    def n(self):
        return self.value


class Named(typing.NamedTuple):
    n: int = 1
    ask_ = ask_


class Generic(typing.Generic[T]):
    n = 1
    ask_ = ask_


class Hooked:
    seen = []

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.seen.append(cls.__dict__["ask_"])


class OfHooked(Hooked):
    n = 1
    ask_ = ask_


class Meta(type):
    n = 1
    ask_ = ask_


class OfMeta(metaclass=Meta): ...


@pytest.mark.parametrize("made", [SlottedAttrs(), FrozenAttrs(), SlottedDataclass(), FrozenDataclass(), OfProtocol(), OfAbstract(), Enumeration.ONE, Named(), Generic[int](), OfHooked(), OfMeta], ids=lambda made: getattr(made, "__name__", type(made).__name__))  # fmt: skip
def test_in_a_class_of_any_kind(manager, made):
    holds(made.ask_, RUNS, "x", answer="1:x")
    assert isinstance(inspect.getattr_static(type(made), "ask_"), Decorated)


def test_classes_see_their_decorated_methods_as_methods():
    assert list(Enumeration) == [Enumeration.ONE]
    assert Hooked.seen == [ask_]
    assert [field.name for field in dataclasses.fields(SlottedDataclass)] == ["n"]
    assert isinstance(OfProtocol(), typing.runtime_checkable(Asking))


def test_super_in_slotted_attrs_classes(manager):
    """attrs makes these classes a second time, and mends what ``super()`` looks at in functions that it knows."""

    @attrs.define
    class Base:
        def ask(self, q):
            return f"base {q}"

    @attrs.define
    class Made(Base):
        @exp_cache(manager=manager, self_key=())
        def ask(self, q):
            return super().ask(q) + "!"

    assert Made().ask("x") == "base x!"


def test_overridden_and_called_by_super(manager):
    class Base:
        @exp_cache(manager=manager)
        def ask(self, q):
            return f"base {q}"

    class Made(Base):
        @exp_cache(manager=manager)
        def ask(self, q):
            return super().ask(q) + "!"

    assert [Made().ask("x"), Made().ask("x"), Base().ask("x")] == ["base x!", "base x!", "base x"]


def test_abstract_methods_stay_abstract(manager):
    class Base(abc.ABC):
        @exp_cache(manager=manager)
        @abc.abstractmethod
        def above(self): ...

        @abc.abstractmethod
        @exp_cache(manager=manager)
        def below(self): ...

        @exp_cache(manager=manager)
        @property
        @abc.abstractmethod
        def above_a_property(self): ...

        @exp_cache(manager=manager)
        @classmethod
        @abc.abstractmethod
        def above_a_class_method(cls): ...

    assert Base.__abstractmethods__ == {"above", "below", "above_a_property", "above_a_class_method"}
    with pytest.raises(TypeError, match="abstract"):
        Base()


def test_class_methods_are_bound_in_both_orders(manager):
    runs = []

    class Base:
        @classmethod
        @exp_cache(manager=manager)
        def below(cls, q):
            runs.append(q)
            return f"{cls.__name__}:{q}"

        @exp_cache(manager=manager)
        @classmethod
        def above(cls, q):
            runs.append(q)
            return f"{cls.__name__}:{q}"

    class Sub(Base):
        @classmethod
        @exp_cache(manager=manager)
        def below(cls, q):
            return super().below(q)

    class SubModel(pydantic.BaseModel):
        @classmethod
        @exp_cache(manager=manager)
        def below(cls, q):
            runs.append(q)
            return f"{cls.__name__}:{q}"

    for cls in (Base, Sub):
        holds(cls.above, runs, "x", answer=f"{cls.__name__}:x")
        holds(cls().above, runs, "y", answer=f"{cls.__name__}:y")
    holds(Base.below, runs, "z", answer="Base:z")
    holds(SubModel.below, runs, "z", answer="SubModel:z")
    assert Sub.below("z") == "Sub:z"
    assert Sub.below.call("z").found_by == "exact"
    assert Sub.below.key("z") != Base.below.key("z")
    assert isinstance(vars(Base)["below"], classmethod) and isinstance(vars(Base)["above"], classmethod)
    assert not [name for name in dir(Base) if name.startswith("__exp")]


def test_functools_in_classes(manager):
    runs = []

    class Made:
        @functools.cached_property
        @exp_cache(manager=manager, self_key=())
        def above(self):
            runs.append("above")
            return "above"

        @exp_cache(manager=manager, self_key=())
        @functools.cached_property
        def below(self):
            runs.append("below")
            return "below"

        @exp_cache(manager=manager, self_key=())
        def ask(self, q, loud):
            runs.append((q, loud))
            return q + "!" * loud

        shout = functools.partialmethod(ask, loud=3)
        whisper = exp_cache(manager=manager, self_key=())(functools.partialmethod(ask.original, loud=0))

        @functools.singledispatchmethod
        @exp_cache(manager=manager, self_key=())
        def tell(self, what):
            runs.append(what)
            return "something"

        @tell.register
        @exp_cache(manager=manager, self_key=())
        def tell_number(self, what: int):
            runs.append(what)
            return "a number"

    for made in (Made(), Made()):
        assert (made.above, made.below) == ("above", "below")
    assert runs == ["above", "below"]
    runs.clear()
    made = Made()
    assert [made.shout("a"), made.shout("a"), made.whisper("a"), made.whisper("a")] == ["a!!!", "a!!!", "a", "a"]
    assert [made.tell("x"), made.tell("x"), made.tell(5), made.tell(5)] == ["something"] * 2 + ["a number"] * 2
    assert runs == [("a", 3), ("a", 0), "x", 5]


def test_what_is_no_method_is_not_bound(manager):
    class Asking:
        def __call__(self, q):
            return q

    with_argument = functools.partial(lambda a, q: f"{a}:{q}", "a")

    class Made:
        by_object = manager.exp_cache(self_key=())(Asking())
        by_partial = staticmethod(manager.exp_cache(with_argument))
        of_another = manager.exp_cache(self_key=())(Asking().__call__)

    assert [Made().by_object("x"), Made().by_partial("x"), Made().of_another("x")] == ["x", "a:x", "x"]


# ── What a bound method is to others ──────────────────────────────────────────────────────────────────────────────────


class Agent:
    @exp_cache
    def ask(self, q):
        """Asks."""
        return q

    ask.since = "1.0"


def test_bound_methods_are_equal_and_hashable():
    one, other = Agent(), Agent()
    assert one.ask == one.ask and hash(one.ask) == hash(one.ask)
    assert one.ask != other.ask and one.ask != Agent.ask and Agent.ask == Agent.ask
    assert one.ask in {one.ask} and other.ask not in {one.ask}
    assert {one.ask: 1}[one.ask] == 1
    assert [one.ask, other.ask].index(other.ask) == 1


def test_a_bound_method_looks_like_one():
    agent = Agent()
    assert agent.ask.__self__ is agent and agent.ask.__func__ is Agent.ask
    assert (agent.ask.__name__, agent.ask.__doc__, agent.ask.since) == ("ask", "Asks.", "1.0")
    assert agent.ask.original("x") == "x" and agent.ask.original == Agent.ask.original.__get__(agent)
    assert not hasattr(Agent.ask, "__self__") and not hasattr(Agent.ask, "__func__")


def test_seeding_by_hand_with_a_bound_method(manager):
    class Made:
        @exp_cache(manager=manager, self_key=())
        def ask(self, q):
            return "live"

    made = Made()
    manager.sync.create_exp(Experience.from_call(made.ask, ["x"], response="by hand"))
    assert made.ask("x") == "by hand"
    assert [e.response for e in manager.sync.query_exps("x", function=made.ask, query_type="exact")] == ["by hand"]
