"""Classes that are made anew each time something runs: one name, many classes. They are told apart by what is in them."""

import dataclasses
import enum
import functools
import typing
from collections import namedtuple

import pydantic
import pytest

from exp_pool.core.identity.canonical import encode


def original(x):
    return x


def another(x):
    return -x


def in_class(kind):
    """A function that makes a class anew around a value, in one of many ways; then an instance of it, if it has any."""

    def default_of_a_model(n):
        class Local(pydantic.BaseModel):
            x: int = n

        return Local

    def annotation_of_a_model(n):
        return pydantic.create_model("Local", x=(typing.Literal[n], ...))

    def description_in_a_model(n):
        class Local(pydantic.BaseModel):
            x: int = pydantic.Field(description=str(n))

        return Local

    def factory_of_a_model(n):
        class Local(pydantic.BaseModel):
            x: list[int] = pydantic.Field(default_factory=lambda: [n])

        return Local

    def nested_model(n):
        return pydantic.create_model("Outer", inner=(annotation_of_a_model(n), ...))

    def tuple_attribute(n):
        class Local(str):
            __slots__ = ()
            table = (n, "a")

        return Local("a")

    def nested_class(n):
        class Local(str):
            __slots__ = ()

            class Config:
                depth = n

        return Local("a")

    def base(n):
        class Base:
            depth = n

        class Local(Base): ...

        return Local

    def property_closure(n):
        @dataclasses.dataclass
        class Local:
            @property
            def y(self):
                return n

        return Local()

    def call_closure(n):
        class Local(str):
            __slots__ = ()

            def __call__(self):
                return n

        return Local("a")

    def cached_property_closure(n):
        class Local(str):
            __slots__ = ()

            @functools.cached_property
            def y(self):
                return n

        return Local("a")

    def static_method_closure(n):
        class Local(str):
            __slots__ = ()

            @staticmethod
            @functools.lru_cache
            def y():
                return n

        return Local("a")

    def partial_method(n):
        class Local(str):
            __slots__ = ()

            def y(self, m): ...

            z = functools.partialmethod(y, n)

        return Local("a")

    def method_default(n):
        class Local(str):
            __slots__ = ()

            def y(self, m=n): ...

        return Local("a")

    def function_from_elsewhere(n):
        class Local(str):
            __slots__ = ()
            y = (original, another)[n - 1]

        return Local("a")

    def made_by_type(n):
        return type("Local", (), {"n": n})

    def named_tuple(n):
        return namedtuple("Local", f"a x{n}")(1, 2)

    def typed_named_tuple(n):
        class Local(typing.NamedTuple):
            x: int
            y: int = n

        return Local(1, 2)

    def enum_by_call(n):
        return enum.Enum("Local", {"A": 1, "B": n})["A"]

    def enum_with_attribute(n):
        class Local(enum.Enum):
            A = 1
            depth = property(lambda self: n)

        return Local.A

    def made_dataclass(n):
        return dataclasses.make_dataclass("Local", ["x"], namespace={"n": n})(1)

    def by_hand(n):
        class Local:
            depth = n

            def __exp_key__(self):
                return "always the same"

        return Local()

    return locals()[kind] if kind else [name for name in locals() if name != "kind"]


@pytest.mark.parametrize("kind", in_class(None))
def test_classes_made_anew_are_told_apart_by_what_they_are_made_of(kind):
    make = in_class(kind)
    assert encode(make(1)) == encode(make(1))
    assert encode(make(1)) != encode(make(2))


def test_what_collects_in_a_local_class_is_no_part_of_what_was_asked():
    def make(client):
        @dataclasses.dataclass
        class Local:
            x: int
            default_client = client

        return Local(1)

    assert encode(make("a")) != encode(make("b"))
    calls = []
    before = encode(make(calls))
    calls.append(1)
    assert encode(make(calls)) == before == encode(make(object()))


def test_methods_of_a_local_class_are_keyed_by_its_make_up(make_manager):
    manager = make_manager(index="none://")

    def make(model):
        class Agent:
            name = model

            @manager.exp_cache
            def ask(self, req):
                return f"{self.name}: {req}"

        return Agent()

    assert [make("a").ask("x"), make("b").ask("x"), make("a").ask("x")] == ["a: x", "b: x", "a: x"]
    assert manager.sync.get_exps_count() == 2
