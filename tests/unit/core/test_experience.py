import dataclasses
import functools
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import BaseModel, ValidationError

from exp_pool import MISSING, Experience, ExperienceKind, Metric, Origin, Score, Step, Trust
from exp_pool.core.experience import Missing
from exp_pool.errors import InvalidInputError, UnkeyableError


def exp(**fields):
    return Experience(**{"function": "f", "request": "r", "response": 1, **fields})


def add(x, y, z=10):
    return x + y + z


def test_missing_is_one_falsy_thing():
    assert not MISSING
    assert repr(MISSING) == "MISSING"
    assert Missing("MISSING") is MISSING


def test_a_request_becomes_arguments_and_arguments_a_request():
    assert exp().arguments == {"req": "r"}
    assert exp(request=None, arguments={"a": 1, "b": "é"}).request == "é"
    assert exp(request=None, arguments={"a": 1, "b": [1]}).request == '{"a": 1, "b": [1]}'
    assert exp(request=None, arguments={"a": "x", "prompt": "p"}).request == "p"
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "x"},
    ]
    assert exp(request=None, arguments={"messages": messages}).request == "one"
    assert exp(request=None, arguments={}).request == "{}"


def test_values_and_annotations():
    assert exp(response=None).value is None
    assert exp(response=MISSING, expected=0).value == 0
    marked = exp().annotate(expected=None, metadata={"by": "me"})
    assert (marked.value, marked.annotated, marked.metadata, marked.id) == (None, True, {"by": "me"}, marked.id)
    assert exp().annotate().expected == 1


def test_clones_are_experiences_of_their_own():
    first = exp(metadata={"k": 1})
    copy = first.clone(response=2)
    assert (copy.response, copy.metadata, copy.key) == (2, {"k": 1}, first.key)
    assert copy.id != first.id
    assert first.clone(request="other").arguments == {"req": "other"}
    assert first.clone(request="other").key != first.key
    assert first.clone(function="g").key == exp(function="g").key
    with pytest.raises(InvalidInputError, match="no field 'colour'"):
        first.clone(colour=1)


def test_models_and_dataclasses_are_kept_in_their_json_form():
    class Model(BaseModel):
        at: datetime

    @dataclasses.dataclass
    class Data:
        items: list

    at = datetime(2024, 1, 1, tzinfo=UTC)
    assert exp(response={"a": [Model(at=at)]}).response == {"a": [{"at": "2024-01-01T00:00:00Z"}]}
    assert exp(response=Data([Data([1])])).response == {"items": [{"items": [1]}]}


@pytest.mark.parametrize(
    "full",
    [
        exp(),
        exp(response={"t": (1, {2}), "$exp:x": 1}, expected=b"x", metadata={"when": datetime(2024, 1, 1)}),
        exp(request=None, arguments={}, kind="insight", origin=Origin.IMPORTED, trust=Trust.QUARANTINED, parents=["a"]),
        exp(
            scores={"a": Score(value=0.5), "b": Score(value=1, reason="r", scorer="b", version="2")},
            metric=Metric(time_s=1.5, tokens_in=0),
        ),
        exp(
            trajectory=[Step(plan="p", reward=-1.0), Step()],
            model="m",
            strategy="s",
            version="v",
            namespace="n",
            codec="annotated",
        ),
        exp(
            expires_at=datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=5))),
            last_access=datetime.now(UTC),
            access_count=3,
        ),
        exp(request="\ud800\0", response="\udfff"),
    ],
)
def test_dicts_are_exact_json_without_what_is_unset(full):
    import json

    plain = full.to_dict()
    assert Experience.from_dict(json.loads(json.dumps(plain))) == full
    assert {"id", "function", "request", "response" if full.response is not MISSING else "id"} <= plain.keys()
    assert set(exp().to_dict()) == {"id", "function", "key", "arguments", "request", "response", "created_at"}


def test_the_deciding_score_is_the_last():
    assert exp().score is None
    assert exp(scores={"a": Score(value=0.1), "b": {"value": 0.9}}).score.value == 0.9


def test_experiences_of_calls():
    first = Experience.from_call(add, (5,), {"y": 10}, response=25, exclude=["z"])
    assert (first.arguments, first.function) == ({"x": 5, "y": 10}, f"{__name__}.add")
    assert (
        Experience.from_call(add, (), {"y": 1, "x": 2}, response=0).key
        == Experience.from_call(add, (2, 1, 10), response=0).key
    )
    assert Experience.from_call("add", kwargs={"x": 1}, expected=3).value == 3
    with pytest.raises(InvalidInputError, match="'add' is a name.*kwargs="):
        Experience.from_call("add", (1,), response=1)
    with pytest.raises(TypeError, match="missing a required argument"):
        Experience.from_call(add, (1,), response=1)
    assert Experience.from_call(functools.partial(add, 1), kwargs={"y": 2}, response=1).function.endswith("add")


def test_metagpts_records():
    full = {
        "req": [{"role": "user", "content": "build"}], "resp": "code", "tag": "Engineer.act", "exp_type": "failure", "entry_type": "automatic", "uuid": "u1", "timestamp": 1700000000.0,
        "metric": {"time_cost": 1.5, "money_cost": 0.25, "score": {"val": 7, "reason": "ok"}}, "traj": {"plan": "p", "action": "a", "observation": "o", "reward": 1},
    }  # fmt: skip
    found = Experience.from_metagpt(full)
    assert (found.id, found.function, found.request, found.response) == ("u1", "Engineer.act", "build", "code")
    assert (found.kind, found.origin) == (ExperienceKind.FAILURE, Origin.AUTOMATIC)
    assert (found.score.value, found.score.reason, found.metric.time_s, found.metric.money_usd) == (
        0.7,
        "ok",
        1.5,
        0.25,
    )
    assert found.trajectory == [Step(plan="p", action="a", observation="o", reward=1)]
    assert found.created_at.timestamp() == 1700000000
    assert found.arguments == {"req": full["req"]}
    assert Experience.from_metagpt({"req": "r", "resp": "x"}, function="f").function == "f"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"req": "r", "resp": "x"}, "no tag.*function="),
        ({"req": {"a": 1}, "resp": "x", "tag": "t"}, "req must be text or a message list"),
        ({"req": "r", "tag": "t"}, "response"),
        ({"req": "r", "resp": "x", "tag": "t", "metric": {"score": {"val": 11}}}, "less than or equal to 1"),
        ({"req": "r", "resp": "x", "tag": "t", "exp_type": "wonder"}, "kind"),
    ],
)
def test_bad_records_of_metagpt_are_named(record, message):
    with pytest.raises(ValueError, match=message):
        Experience.from_metagpt(record)


def test_agentheavens_entries():
    entry = {"func": "f", "inputs": {"n": 1}, "output": 2, "expected": 3, "metadata": {"k": 1}}
    found = Experience.from_agentheaven(entry)
    assert (found.function, found.arguments, found.response, found.value, found.metadata) == (
        "f",
        {"n": 1},
        2,
        3,
        {"k": 1},
    )
    with pytest.raises(ValidationError, match="function is needed"):
        Experience.from_agentheaven({"inputs": {}, "output": 1})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"function": ""}, "function is needed"), ({"function": "  "}, "function is needed"), ({"function": None}, "function is needed"),
        ({"request": 3}, "request must be text, got int"), ({"request": None}, "what was asked"), ({"response": MISSING}, "needs an answer"),
        ({"arguments": [1]}, "dict from parameter names"), ({"arguments": {1: 2}}, "dict from parameter names"),
        ({"created_at": datetime(2024, 1, 1)}, "is naive; give it a time zone"), ({"expires_at": datetime(2024, 1, 1)}, "is naive"),
        ({"scores": {"s": {"value": 1.2}}}, "less than or equal to 1"), ({"access_count": -1}, "greater than or equal"),
        ({"kind": "miracle"}, "'success', 'failure' or 'insight'"), ({"colour": 1}, "colour"), ({"id": ""}, "at least 1 character"),
    ],
)  # fmt: skip
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(ValidationError, match=message):
        exp(**fields)


@pytest.mark.parametrize("value", [1.2, -0.1, float("nan"), float("inf"), "0.5", None])
def test_a_score_is_a_number_from_0_to_1(value):
    with pytest.raises(ValidationError):
        Score(value=value)
    assert Score(value=1).value == 1.0


def test_arguments_without_identity_are_refused():
    with pytest.raises(UnkeyableError, match="argument 'a'"):
        exp(arguments={"a": object()})


def test_experiences_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        exp().response = 2
