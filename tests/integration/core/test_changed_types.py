"""Guarantee 3: an answer whose type has changed since is a miss, never filled up; what people wrote is taken as meant."""

import dataclasses
import datetime as dt
import enum
import types
import typing
import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import typing_extensions
from pydantic import BaseModel, ConfigDict, Field, computed_field, field_serializer, field_validator, model_validator
from support.ids import named

from exp_pool import Experience, exp_cache
from exp_pool.core.codecs.typed import codec_for
from exp_pool.core.record import Record
from exp_pool.core.values.codec_stamp import read_stamp
from exp_pool.core.values.deep_equal import difference
from exp_pool.errors import ExpPoolWarning

PLAIN = {"index": "none://", "embedder": "none"}


def returning(annotation, value, ask):
    """A function of one stored name that declares this and gives a value, and what it was asked."""
    return ask(name="f")(made(_f, annotation, value)), runs_of[-1]


def made(template, annotation, value):
    """A function with globals of its own: closures and defaults would be part of the call."""
    runs_of.append([])
    f = types.FunctionType(template.__code__, {**globals(), "runs": runs_of[-1], "value": value}, "f")
    f.__annotations__["return"] = annotation
    return f


runs_of = []


def _f(q):
    runs.append(q)  # noqa: F821
    return value  # noqa: F821


def _stream(q):
    runs.append(q)  # noqa: F821
    yield value  # noqa: F821


def without_shapes(manager):
    """The rows as a version of the package wrote them that knew of no shapes."""
    store = manager.sync._store
    for exp in manager.sync.iter_exps():
        (row,) = store.get_many("default", [exp.id], by="id")
        store.delete_many("default", [row.id])
        fields = {name: getattr(row, name) for name in Record.__dataclass_fields__}
        fields.update(codec=read_stamp(row.codec).codec, id=row.id + "-old")
        from exp_pool.protocols import Put

        store.put_many([Put(Record(**fields))])


def make_text():
    class Answer(BaseModel):
        text: str = ""

    return Answer


def make(title="Answer", /, **fields):
    from pydantic import create_model

    return create_model(title, **fields)


def made_dataclass(**fields):
    return dataclasses.make_dataclass("Answer", [(n, t, dataclasses.field(default=d)) for n, (t, d) in fields.items()])


def typed_dict(*, total=True, **fields):
    return typing_extensions.TypedDict("Answer", fields, total=total)


def tuple_of(**fields):
    return typing.NamedTuple("Answer", list(fields.items()))


Old = make(text=(str, ""))
OldData = made_dataclass(text=(str, ""))
OldTuple = tuple_of(text=str)
OldEnum = enum.Enum("Mode", {"FAST": 1, "SLOW": 2})
SwappedEnum = enum.Enum("Mode", {"FAST": 2, "SLOW": 1})
Inner, OtherInner = make("Inner", a=(int, 0)), make("Inner", a=(int, 0), b=(int, 0))
Outer, OtherOuter = make("Outer", inner=(Inner, ...)), make("Outer", inner=(OtherInner, ...))
Cat, Dog = make("Cat", name=(str, "")), make("Dog", name=(str, ""), tail=(int, 1))
Cat2, Dog2 = make("Cat", n=(int, 0)), make("Dog", n=(int, 0))

Two, Number = make(text=(str, ""), n=(int, 1)), make(n=(float, 0.0))
Of = make(m=(OldEnum, ...))
OldName = tuple_of(text=str)

CHANGED = {
    "a renamed field": (Old, Old(text="long"), make(body=(str, ""))),
    "an added field": (Old, Old(text="long"), make(text=(str, ""), more=(int, 0))),
    "a removed field": (Two, Two(text="x"), Old),
    "another type of a field": (Number, Number(n=1.0), make(n=(str, ""))),
    "another default": (Old, Old(), make(text=(str, "changed"))),
    "an alias": (Old, Old(text="x"), make(text=(str, Field(default="", alias="t")))),
    "a model for a dict": (dict, {"text": "long"}, Old),
    "a dict for a model": (Old, Old(text="long"), dict),
    "a typed dict for a model": (Old, Old(text="long"), dict[str, str]),
    "a swapped enum member": (OldEnum, OldEnum.FAST, SwappedEnum),
    "a swapped member inside": (Of, Of(m=OldEnum.FAST), make(m=(SwappedEnum, ...))),
    "a changed nested model": (Outer, Outer(inner=Inner(a=1)), OtherOuter),
    "a changed model in a list": (list[Inner], [Inner(a=1)], list[OtherInner]),
    "a changed dataclass": (OldData, OldData("long"), made_dataclass(body=(str, ""))),
    "an added dataclass field": (OldData, OldData("long"), made_dataclass(text=(str, ""), n=(int, 0))),
    "a model for a dataclass": (OldData, OldData("long"), make(text=(str, ""), n=(int, 0))),
    "a renamed key": (typed_dict(text=str), {"text": "x"}, typed_dict(body=str)),
    "a renamed optional key": (typed_dict(text=str, total=False), {"text": "x"}, typed_dict(body=str, total=False)),
    "an added key": (typed_dict(text=str), {"text": "x"}, typed_dict(text=str, n=int)),
    "a renamed field of a namedtuple": (OldName, OldName("x"), tuple_of(body=str)),
    "a namedtuple for a tuple": (tuple[str, int], ("a", 1), typing.NamedTuple("Answer", [("text", str), ("n", int)])),
    "another arm of a union": (Cat | Dog, Dog(name="x"), Cat | make("Bird", name=(str, ""), wings=(int, 2))),
    "arms in another order": (Cat2 | Dog2, Cat2(n=1), Dog2 | Cat2),
    "another literal": (Literal["yes", "no"], "yes", Literal["ja", "nein"]),
    "str to int": (str, "42", int),
    "int to str": (int, 42, str),
    "a list of another type": (list[str], ["1"], list[int]),
    "a dict of another type": (dict[str, int], {"a": 1}, dict[str, str]),
    "a list for a tuple": (tuple[int, ...], (1,), list[int]),
    "a value where there may be none": (str | None, None, str),
    "unannotated to a model": (None, {"text": "long"}, Old),
    "a date for a text": (str, "2024-01-01", dt.date),
    "bool to int": (bool, True, int),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGED)
def test_an_answer_of_another_type_is_a_miss(make_manager, case):
    before, value, after = CHANGED[case]
    manager = make_manager(store="memory://", **PLAIN)
    old, runs = returning(before, value, manager.exp_cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        old("x"), old("x")
    assert len(runs) == 1, "or there is nothing that could answer"
    new, asked = returning(after, "new", manager.exp_cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a type that was changed on purpose is nothing to warn of
        assert new.lookup("x") is None
        assert "its answer is not what the function returns now" in new.explain("x")
    assert new("x") == "new"
    assert asked == ["x"]


# What text alone cannot tell: these need the shape.
_ONLY_BY_SHAPE = {
    *("another default", "a swapped enum member", "a swapped member inside", "arms in another order"),
    *("a typed dict for a model", "a renamed field of a namedtuple"),
}


@pytest.mark.parametrize("case", sorted(CHANGED.keys() - _ONLY_BY_SHAPE))
def test_rows_of_versions_that_knew_no_shapes_are_looked_at(make_manager, case):
    before, value, after = CHANGED[case]
    manager = make_manager(store="memory://", **PLAIN)
    old, runs = returning(before, value, manager.exp_cache)
    old("x")
    without_shapes(manager)
    assert difference(value, old("x")) is None
    assert len(runs) == 1, "what is equal goes on answering"
    new, asked = returning(after, "new", manager.exp_cache)
    assert new("x") == "new"
    assert asked == ["x"]


SAME = {
    "the same": (Old, Old(text="x"), make(text=(str, ""))),
    "a class that moved": (Inner, Inner(a=1), make("Inner", a=(int, 0), __module__="elsewhere")),
    "a list that is longer declared": (list, ["a"], list[str]),
    "one arm more, for what needs no type": (list[str], ["a"], list[str] | None),
    "any for a type": (list[str], ["a"], Any),
    "a type for nothing": (None, ["a"], list[str]),
    "a wider type": (list[str], ["a"], typing.Sequence[str]),
    "an int where a float is declared": (int, 1, float),
    "a typed dict": (dict[str, Any], {"text": "x"}, typed_dict(text=str)),
    "typing's own typed dict": (dict, {"text": "x"}, typing.TypedDict("Answer", {"text": str})),
    "another name of a type": (str, "x", typing.NewType("Id", str)),
    "what stands beside it": (str, "x", typing.Annotated[str, "an answer"]),
    "a choice": (str, "yes", Literal["yes", "no"]),
}


@pytest.mark.parametrize("case", SAME)
def test_what_still_fits_answers(make_manager, case):
    before, value, after = SAME[case]
    manager = make_manager(store="memory://", **PLAIN)
    old, runs = returning(before, value, manager.exp_cache)
    old("x")
    new, asked = returning(after, "new", manager.exp_cache)
    got = new("x")
    assert asked == []
    assert got == value or got.__dict__ == value.__dict__


class Lies(BaseModel):
    n: int = 0


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, None),
        (str, 5),
        (float, 1),
        (int, True),
        (dict[str, int], {1: "a"}),
        (Lies, {"n": 1}),
        (Lies, None),
    ],
    ids=named,
)
def test_a_function_that_returns_something_else_than_it_says_is_cached_all_the_same(make_manager, annotation, value):
    f, runs = returning(annotation, value, make_manager(store="memory://", **PLAIN).exp_cache)
    for _ in range(3):
        assert difference(value, f("x")) is None
    assert len(runs) == 1


def test_two_shapes_on_one_store_take_turns(make_manager):
    manager = make_manager(store="memory://", **PLAIN)
    one, runs = returning(Old, Old(text="one"), manager.exp_cache)
    Other = make(body=(str, ""))
    other, others = returning(Other, Other(body="other"), manager.exp_cache)
    for _ in range(3):
        assert one("x") == one("x") == Old(text="one")
        assert other("x") == other("x") == Other(body="other")
    assert (len(runs), len(others)) == (3, 3)


# ── Code that takes part ──────────────────────────────────────────────────────────────────────────────────────────────


def with_validator(change):
    class Answer(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def _changed(cls, text):
            return change(text)

    return Answer


def with_serializer(change):
    class Answer(BaseModel):
        text: str

        @field_serializer("text")
        def _written(self, text):
            return change(text)

    return Answer


def with_computed(change):
    class Answer(BaseModel):
        text: str

        @computed_field
        @property
        def other(self) -> str:
            return change(self.text)

    return Answer


def with_post_init(change):
    @dataclasses.dataclass
    class Answer:
        text: str

        def __post_init__(self):
            self.text = change(self.text)

    return Answer


def with_annotated(change):
    from pydantic import AfterValidator

    class Answer(BaseModel):
        text: typing.Annotated[str, AfterValidator(change)]

    return Answer


@pytest.mark.parametrize("kind", [with_validator, with_serializer, with_computed, with_post_init, with_annotated])
def test_changed_validators_and_serializers_change_no_answer(make_manager, kind):
    manager = make_manager(store="memory://", **PLAIN)
    before, after = kind(lambda text: text), kind(lambda text: text.upper())
    old, runs = returning(before, before(text="abc"), manager.exp_cache)
    assert old("x").text == old("x").text == "abc"
    assert len(runs) == 1
    new, asked = returning(after, "new", manager.exp_cache)
    assert new("x") == "new"
    assert asked == ["x"]


class Node(BaseModel):
    name: str
    children: list["Node"] = []


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int = 0


class Odd(type):
    """A class that does not let itself be looked at."""

    def __getattribute__(cls, name):
        if name in ("__mro__", "model_fields", "__required_keys__", "__module__"):
            raise RuntimeError("do not look")
        return super().__getattribute__(name)


class Unknown(metaclass=Odd):
    pass


T = typing.TypeVar("T")


class Box(BaseModel, typing.Generic[T]):
    content: T
    note: str = ""


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, populate_by_name=True)
    at: dt.date = Field(alias="day")


def later() -> "Later": ...


def later_list() -> "list[Later]": ...


@exp_cache(name="defined-before-its-type", manager=None)
def gives_later(q) -> "Later":
    return Later(n=1)


class Later(BaseModel):
    n: int = 0


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Node, Node(name="a", children=[Node(name="b")])),
        (Open, Open(n=1, more=[1])),
        (Box[int], Box[int](content=1)),
        (Box[Node], Box[Node](content=Node(name="a"))),
        (Strict, Strict(day=dt.date(2024, 1, 2))),
        (dict[str, Node | None], {"a": Node(name="x"), "b": None}),
    ],
    ids=named,
)
def test_types_that_are_hard_to_look_at(make_manager, annotation, value):
    f, runs = returning(annotation, value, make_manager(store="memory://", **PLAIN).exp_cache)
    for _ in range(3):
        assert difference(value, f("x")) is None
    assert len(runs) == 1


def test_a_type_that_is_defined_below_its_function():
    for function, value in ((later, Later(n=1)), (later_list, [Later(n=2)])):
        namespace = {"Later": Later}
        codec = codec_for(function, localns=namespace)
        text, name = codec.encode(value)
        assert codec.read(text, name) == value
    text, name = gives_later._policy.codec.encode(Later(n=3))
    assert gives_later._policy.codec.read(text, name) == Later(n=3)


def test_the_shape_is_the_same_in_every_process_and_says_what_differs():
    from exp_pool.core.codecs.shapes import shape_of

    # Written down, since it is stored: if this changes, every answer of a model is asked for anew.
    assert shape_of(list[Node]).digest == "f9c9b776b292"
    assert shape_of(Box[int]).digest != shape_of(Box[str]).digest
    assert not shape_of(Node).by_code
    assert shape_of(Node).models
    assert not shape_of(list[str]).models


def test_an_annotation_that_cannot_be_used_is_said_once_with_the_remedy(make_manager):
    manager = make_manager(store="memory://", **PLAIN)

    @manager.exp_cache
    def f(q) -> "OnlyForTypeCheckers":  # noqa: F821
        return {"a": 1}

    with pytest.warns(
        ExpPoolWarning, match=r"f: its return annotation.*OnlyForTypeCheckers.*TYPE_CHECKING.*codec="
    ) as said:
        assert f("x") == f("x") == f("y") == {"a": 1}
    assert len(said) == 1

    @manager.exp_cache
    def g(q) -> "OnlyForTypeCheckers":  # noqa: F821
        return Old(text="x")

    with pytest.warns(ExpPoolWarning, match="return annotation is of no help.*OnlyForTypeCheckers"):
        assert g("x") == Old(text="x")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (np.ndarray, np.arange(3)),
        (npt.NDArray[np.float64], np.zeros(2)),
        (list[np.ndarray], [np.arange(3)]),
        (typing.TypedDict("Answer", {"text": str}), {"text": "x"}),
        (typing.Callable[..., int], [1]),
        (typing.Self, "x"),
        (typing.LiteralString, "x"),
        (typing.Generator[int, None, None], [1]),
        (type[int], "x"),
        (typing.Protocol, "x"),
    ],
    ids=named,
)
def test_types_that_pydantic_does_not_know_are_no_trouble(make_manager, annotation, value):
    f, runs = returning(annotation, value, make_manager(store="memory://", **PLAIN).exp_cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            assert difference(value, f("x")) is None
    assert len(runs) == 1
    other, asked = returning(bytes, b"new", f._setup.manager.exp_cache)
    assert other("x") == b"new"


def test_a_type_that_does_not_let_itself_be_looked_at_is_said_once(make_manager):
    f, runs = returning(Unknown, {"a": 1}, make_manager(store="memory://", **PLAIN).exp_cache)
    with pytest.warns(ExpPoolWarning, match="its return annotation.*do not look.*codec=") as said:
        assert [f("x") for _ in range(3)] == [{"a": 1}] * 3
    assert len(said) == 1
    assert len(runs) == 1


# ── What people wrote ─────────────────────────────────────────────────────────────────────────────────────────────────


class Town(BaseModel):
    name: str
    people: int = 0


def test_what_people_wrote_is_taken_for_todays_type(make_manager):
    manager = make_manager(store="memory://", **PLAIN)
    old, _ = returning(Old, Old(text="x"), manager.exp_cache)
    old("x")
    (exp,) = manager.sync.iter_exps()
    manager.sync.annotate(exp.id, expected={"name": "Ulm"})
    new, runs = returning(Town, "new", manager.exp_cache)
    assert new("x") == new("x") == Town(name="Ulm")
    manager.sync.create_exp(Experience.from_call(new, ["y"], response=Town(name="Bonn", people=5)))
    manager.sync.create_exp(Experience(function="f", arguments={"q": "z"}, response={"name": "Kiel"}))
    imported = Experience(
        function="f", arguments={"q": "i"}, response={"name": "Trier", "people": "7"}, origin="imported"
    )
    manager.sync.create_exp(imported)
    for _ in range(2):
        assert [new(q) for q in "yzi"] == [Town(name="Bonn", people=5), Town(name="Kiel"), Town(name="Trier", people=7)]
    assert runs == []


@pytest.mark.parametrize(
    ("annotation", "written"),
    [
        (Town, {"title": "Ulm"}),
        (Town, {"name": "Ulm", "inhabitants": 3}),
        (list[Town], [{"name": "Ulm"}, {"name": "Bonn", "more": 1}]),
        (Town, "Ulm"),
        (str, {"a": 1}),
        (int, "many"),
        (Literal["yes", "no"], "perhaps"),
        (made_dataclass(text=(str, "")), {"body": "x"}),
    ],
    ids=named,
)
def test_what_does_not_fit_is_a_miss_and_said_once(make_manager, annotation, written):
    manager = make_manager(store="memory://", **PLAIN)
    exp = Experience(function="f", arguments={"q": "x"}, response=written)
    manager.sync.create_exp(exp)
    f, runs = returning(annotation, "live", manager.exp_cache)
    with pytest.warns(ExpPoolWarning, match=rf"{exp.id} does not fit.*annotate\('{exp.id}', expected=") as said:
        assert f.lookup("x") is None
        assert [f("x") for _ in range(3)] == ["live"] * 3
    assert len(said) == 1


class Renamed(BaseModel):
    name: str

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, data):
        return {"name": data.pop("title")} if "title" in data else data


def test_a_model_may_read_old_names_itself(make_manager):
    manager = make_manager(store="memory://", **PLAIN)
    manager.sync.create_exp(Experience(function="f", arguments={"q": "x"}, response={"title": "Ulm"}))
    f, runs = returning(Renamed, "live", manager.exp_cache)
    assert f("x") == Renamed(name="Ulm")
    assert runs == []


def test_streams_and_single_items(make_manager):
    manager = make_manager(store="memory://", **PLAIN)

    def stream(annotation, value):
        return manager.exp_cache(name="s")(made(_stream, annotation, value)), runs_of[-1]

    old, runs = stream(typing.Iterator[Old], Old(text="x"))
    assert list(old("x")) == list(old("x")) == [Old(text="x")]
    assert len(runs) == 1
    Other = make(body=(str, ""))
    new, runs = stream(typing.Iterator[Other], Other(body="y"))
    assert list(new("x")) == list(new("x")) == [Other(body="y")]
    assert len(runs) == 1
    texts, runs = stream(typing.Iterator[str], "z")
    assert list(texts("x")) == list(texts("x")) == ["z"]
    assert len(runs) == 1
