import inspect

import pytest

from exp_pool.calls.call_spec import CallSpec
from exp_pool.calls.request import bind_call
from exp_pool.core.identity.arguments import CLOSURE, Binder, bind
from exp_pool.core.identity.closures import closed_over
from exp_pool.core.identity.names import function_name
from exp_pool.core.identity.request_text import request_text
from exp_pool.errors import ConfigurationError, InvalidInputError, UnkeyableError


def request(function, *args, spec=None, **kwargs):
    return bind_call(CallSpec(function, **(spec or {})), args, kwargs, "n", None)


def ask(req, model="a", **more): ...


FUNCTIONS = [
    lambda: None, lambda a: None, lambda a, b=2: None, lambda a, *, b: None, lambda a, *rest, b=1, **more: None, lambda a, /, b: None, lambda *, a=1: None,
]  # fmt: skip
CALLS = [
    ((), {}),
    ((1,), {}),
    ((1, 2), {}),
    ((1, 2, 3), {}),
    ((), {"a": 1}),
    ((1,), {"b": 2}),
    ((1,), {"a": 2}),
    ((), {"b": 1}),
    ((1,), {"z": 1}),
    ((), {"a": 1, "b": 2, "z": 3}),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: str(inspect.signature(f)))
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_the_short_way_binds_as_the_long_way_does(function, call):
    signature = inspect.signature(function)

    def attempt(binder):
        try:
            return binder()
        except TypeError as err:
            return str(err)

    assert attempt(lambda: Binder(signature)(*call)) == attempt(lambda: bind(signature, *call))


def test_names_of_functions():
    assert function_name("stored name") == "stored name"
    assert function_name(ask) == f"{__name__}.ask"
    assert function_name(len) == "builtins.len"
    for bad in ("", " ", None, 3):
        with pytest.raises(InvalidInputError):
            function_name(bad)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"x": 1, "query": "q"}, ("query", "q")),
        ({"text": "t", "prompt": "p"}, ("prompt", "p")),
        ({"prompt": 3, "text": "t"}, ("text", "t")),
        ({"a": "only", "b": 1}, ("a", "only")),
        ({"a": "one", "b": "two"}, (None, '{"a": "one", "b": "two"}')),
        ({"a": (1, 2), "b": "é" and {1}}, (None, '{"a": {"$exp:tuple": [1, 2]}, "b": {"$exp:set": [1]}}')),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}],
                    }
                ]
            },
            ("messages", "a\nb"),
        ),
        (
            {"messages": [{"role": "assistant", "content": "x"}]},
            (None, '{"messages": [{"role": "assistant", "content": "x"}]}'),
        ),
        ({"messages": [{"role": "user", "content": ""}]}, ("messages", "")),
    ],
)
def test_the_text_of_a_request(arguments, found):
    assert request_text(arguments) == found


def test_scope_is_everything_but_the_text():
    base = request(ask, "hi").scope
    assert request(ask, "hey").scope == base
    assert request(ask, "hi", model="b").scope != base
    assert request(ask, "hi", temperature=1).scope != base
    assert request(ask, "hi", spec={"version": "2"}).scope != base
    assert request(ask, "hi", spec={"name": "other"}).scope != base


def conversation(system, user, image="i"):
    content = [{"type": "text", "text": user}, {"type": "image", "url": image}]
    return [{"role": "system", "content": system}, {"role": "user", "content": content}]


def test_of_messages_only_the_last_user_turn_is_left_out_of_the_scope():
    def chat(messages): ...

    base = request(chat, conversation("s", "hi"))
    assert (base.text, base.parameter) == ("hi", "messages")
    assert request(chat, conversation("s", "hey")).scope == base.scope
    assert request(chat, conversation("t", "hi")).scope != base.scope
    assert request(chat, conversation("s", "hi", "j")).scope != base.scope
    assert request(chat, [*conversation("s", "hi"), {"role": "assistant", "content": "x"}]).scope != base.scope


def test_with_a_callable_only_an_argument_that_is_the_text_is_left_out():
    spec = {"request": lambda req, model="a", **_: req.strip()}
    assert request(ask, "hi", spec=spec).parameter == "req"
    assert request(ask, " hi ", spec=spec).text == "hi"
    assert request(ask, " hi ", spec=spec).parameter is None
    assert request(ask, " hi ", spec=spec).scope != request(ask, " hey ", spec=spec).scope


def test_what_is_stored_of_arguments():
    class Thing:
        def __exp_key__(self):
            return 1

    record = request(ask, "hi", thing=Thing(), token="t", spec={"redact": ("model",)}).to_record("i", '"x"', "json")
    assert (
        record.arguments
        == f'{{"req":"hi","model":"[redacted]","thing":"<{__name__}.test_what_is_stored_of_arguments.<locals>.Thing>","token":"[redacted]"}}'
    )
    assert record.request == "hi"


def with_secrets(
    req,
    api_key,
    openai_api_key,
    access_token,
    token,
    client_secret,
    password,
    authorization,
    max_tokens,
    tokens,
    key,
    tokenizer,
): ...


def test_parameters_named_like_secrets():
    assert CallSpec(with_secrets).redact == {
        "api_key",
        "openai_api_key",
        "access_token",
        "token",
        "client_secret",
        "password",
        "authorization",
    }


def test_closures():
    def outer(a, b, c, d):
        later = None

        def inner():
            return a, b, c, d, later

        return inner

    held = {"a": 1, "b": "x", "c": [1], "d": (1, ("y",)), "later": None}
    assert closed_over(outer(1, "x", [1], (1, ("y",)))) == {CLOSURE: held}
    assert closed_over(outer(1, "x", [1], (1, ("y",))), exclude=held) == {}
    assert closed_over(ask) == {}


class WithSlots:
    __slots__ = ("x",)

    def ask(self, req): ...


class Plain:
    constant = 1

    def ask(self, req): ...


def test_objects_without_state_stand_for_their_class():
    assert request(Plain.ask, Plain(), "hi").key == request(Plain.ask, Plain(), "hi").key
    child = type("Child", (Plain,), {"__qualname__": "Child"})
    assert request(Plain.ask, child(), "hi").key != request(Plain.ask, Plain(), "hi").key
    stateful = Plain()
    stateful.x = 1
    slotted = WithSlots()
    assert request(WithSlots.ask, slotted, "hi")
    slotted.x = 1
    for method, receiver in ((Plain.ask, stateful), (WithSlots.ask, slotted)):
        with pytest.raises(UnkeyableError, match="has attributes"):
            request(method, receiver, "hi")
        assert request(method, receiver, "hi", spec={"self_key": ("x",)}).named["self"] == {"x": 1}
        assert request(method, receiver, "hi", spec={"self_key": ()}).named == {"req": "hi"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exclude": ["nope"]}, "exclude names 'nope', which is no parameter of f; its parameters: req"),
        ({"exclude": "req"}, "must be a list or tuple"),
        ({"redact": [3]}, "must be a list or tuple"),
        ({"request": "nope"}, "request names 'nope'"),
        ({"self_key": ("a",)}, "f has no self"),
        ({"key": "req"}, "must be a callable"),
    ],
)
def test_options_that_name_nothing(options, message):
    with pytest.raises(ConfigurationError, match=message):
        CallSpec(lambda req: None, name="f", **options)
    if "nope" in str(options) and "exclude" in options:
        CallSpec(ask, **options)  # **more may take any name
