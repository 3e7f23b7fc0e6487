"""Guarantee 3: `model_dump(exclude_unset=True)` of what comes back is that of what was returned, at any depth."""

import dataclasses
import typing
import uuid
from collections import deque

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, TypeAdapter, model_validator
from support.ids import named

from exp_pool import Experience, snapshots
from exp_pool.core.codecs.typed import codec_for
from exp_pool.core.values.deep_equal import difference
from exp_pool.core.values.unset_fields import unset_in
from exp_pool.errors import EncodingError

PLAIN = {"index": "none://", "embedder": "none"}


class Leaf(BaseModel):
    name: str = "leaf"
    weight: float | None = None


class Tree(BaseModel):
    leaves: list[Leaf] = []
    best: Leaf | None = None
    named: dict[str, Leaf] = {}
    pair: tuple[Leaf, int] | None = None


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    text: str = Field(default="", alias="t")
    more: int = Field(default=0, alias="m")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int = 0
    m: int = 0


class Leaves(RootModel[list[Leaf]]):
    pass


class Made(BaseModel):
    id: uuid.UUID = Field(default_factory=uuid.uuid4)
    tags: list[str] = Field(default_factory=list)


class Completed(BaseModel):
    a: int = 0
    b: int = 0

    @model_validator(mode="after")
    def _complete(self):
        if not self.b:
            self.b = self.a + 1
        return self


class Node(BaseModel):
    name: str = ""
    children: list["Node"] = []


T = typing.TypeVar("T")


class Box(BaseModel, typing.Generic[T]):
    content: T
    note: str = ""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    n: int = 0
    m: int = 0


@dataclasses.dataclass
class Holder:
    leaf: Leaf
    leaves: deque[Leaf] = dataclasses.field(default_factory=deque)


class Named(typing.NamedTuple):
    leaf: Leaf
    n: int = 0


VALUES = [
    (Leaf, Leaf()),
    (Leaf, Leaf(name="leaf")),
    (Leaf, Leaf(weight=None)),
    (Leaf, Leaf(name="a", weight=1.0)),
    (Tree, Tree()),
    (Tree, Tree(leaves=[Leaf(), Leaf(name="b"), Leaf(name="c", weight=2.0)], best=Leaf(weight=None))),
    (Tree, Tree(named={"x": Leaf(), "y": Leaf(name="y")}, pair=(Leaf(name="p"), 1))),
    (list[Leaf], [Leaf(), Leaf(name="b")]),
    (dict[str, list[Leaf]], {"a": [Leaf()], "b": [Leaf(name="b")]}),
    (dict[str, Leaf], {"$exp:unset": Leaf()}),
    (dict[str, Leaf], {"$exp:unset": Leaf(name="a", weight=1.0)}),
    (tuple[Leaf, ...], (Leaf(), Leaf(name="b"))),
    (Aliased, Aliased(t="x")),
    (Aliased, Aliased()),
    (Open, Open(n=1, more=2)),
    (Open, Open(other={"a": None})),
    (Leaves, Leaves([Leaf(), Leaf(name="b")])),
    (Made, Made()),
    (Completed, Completed(a=3)),
    (Node, Node(children=[Node(name="b", children=[Node()])])),
    (Box[Leaf], Box[Leaf](content=Leaf())),
    (Frozen, Frozen(n=1)),
    (Holder, Holder(Leaf(), deque([Leaf(name="b")]))),
    (Named, Named(Leaf(name="x"))),
    (Leaf, Leaf.model_construct(name="a")),
    (Leaf | None, Leaf()),
    (set[Frozen], {Frozen(n=1, m=2)}),
]


def dumped(annotation, value):
    return TypeAdapter(annotation).dump_python(value, mode="json", exclude_unset=True)


@pytest.mark.parametrize(("annotation", "value"), VALUES, ids=lambda value: named(value).partition("(id=UUID")[0])
@pytest.mark.parametrize("store", ["memory://", "sqlite:///pool.db"])
def test_what_was_set_is_set(make_manager, store, annotation, value):
    runs = []

    def f(q):
        runs.append(q)
        return held[0]

    held = [value]
    f.__annotations__["return"] = annotation
    f = make_manager(store=store, **PLAIN).exp_cache(f)
    live = f("x")
    for _ in range(3):
        got = f("x")
        assert difference(live, got) is None
        assert unset_in(got) == unset_in(live)
        assert dumped(annotation, got) == dumped(annotation, live)
    assert len(runs) == 1


def test_people_see_every_field(make_manager):
    manager = make_manager(store="memory://", **PLAIN)

    @manager.exp_cache
    def f(q) -> Tree:
        return Tree(best=Leaf())

    f("x")
    (exp,) = manager.sync.iter_exps()
    assert exp.response == {"leaves": [], "best": {"name": "leaf", "weight": None}, "named": {}, "pair": None}
    assert Experience.from_dict(exp.to_dict()) == exp


def test_what_people_change_beside_the_answer_leaves_it_as_it_is(make_manager, tmp_path):
    manager = make_manager(store="memory://", **PLAIN)

    @manager.exp_cache(name="f")
    def f(q) -> Tree:
        return Tree(best=Leaf())

    f("x")
    (exp,) = manager.sync.iter_exps()
    manager.sync.update_exp(exp.id, metadata={"seen": True})
    assert f("x").model_dump(exclude_unset=True) == {"best": {}}
    manager.sync.annotate(exp.id)
    assert f("x").best == Leaf()
    other = make_manager(store="memory://", **PLAIN)
    snapshots.save(manager, tmp_path)
    snapshots.load(other, tmp_path)
    g = other.exp_cache(name="f")(f.original)
    assert g.lookup("x") is not None


def test_streams_keep_it_chunk_by_chunk(make_manager):
    manager = make_manager(store="memory://", **PLAIN)
    runs = []

    @manager.exp_cache
    def f(q) -> typing.Iterator[Leaf]:
        runs.append(q)
        yield Leaf()
        yield Leaf(name="leaf")

    live = [leaf.model_fields_set for leaf in f("x")]
    assert live == [set(), {"name"}]
    assert [leaf.model_fields_set for leaf in f("x")] == live
    assert len(runs) == 1
    (exp,) = manager.sync.iter_exps()
    assert exp.response == [{"name": "leaf", "weight": None}] * 2


def test_rows_of_versions_that_did_not_know_it_go_on_answering(make_manager):
    codec = codec_for(_gives_leaf)
    assert codec.read('{"name":"leaf","weight":null}', "annotated") == Leaf()


def _gives_leaf() -> Leaf: ...


def _gives_set() -> set[Frozen]: ...


def test_where_it_would_be_lost_nothing_is_stored():
    with pytest.raises(EncodingError, match="set of models"):
        codec_for(_gives_set).encode({Frozen(n=1), Frozen(m=2)})
