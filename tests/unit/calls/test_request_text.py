"""The request text is the last user turn whatever the other turns look like, and never another argument."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types import TextBlock, ToolUseBlock, Usage
from openai.types.chat import ChatCompletionMessage
from openai.types.responses import ResponseOutputMessage, ResponseReasoningItem
from pydantic import BaseModel, Field, SecretStr

from exp_pool.core.identity.request_text import (
    json_text,
    may_be_text,
    request_text,
    reuse_scope,
    text_of,
    with_text,
    without_text,
)

QUESTION = {"role": "user", "content": "Where is my parcel?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "track", "arguments": "{}"}}


def openai_answer(**fields: Any) -> ChatCompletionMessage:
    return ChatCompletionMessage.model_validate({"role": "assistant", "content": None, "tool_calls": [CALL], **fields})


class Role(enum.Enum):
    USER = "user"
    ASSISTANT = "assistant"


class Part(BaseModel):  # as google.genai has it
    text: str | None = None
    thought: bool | None = None
    inline_data: bytes | None = None


class Content(BaseModel):
    role: str | None = None
    parts: list[Part] | None = None


class HumanMessage(BaseModel):  # as langchain_core has it
    content: str | list[str | dict[str, Any]]
    additional_kwargs: dict[str, Any] = {}
    type: str = "human"


class AIMessage(HumanMessage):
    type: str = "ai"


class TextBlockOfIndex(BaseModel):  # as llama_index has it
    block_type: str = "text"
    text: str


class ChatMessageOfIndex(BaseModel):
    role: Role
    blocks: list[TextBlockOfIndex]


@dataclasses.dataclass(frozen=True)
class Turn:
    role: str
    content: str | None


OTHERS = [
    {"role": "assistant", "tool_calls": [CALL]},  # no content at all
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    openai_answer(),
    openai_answer(content="It is on its way."),
    AnthropicMessage(
        id="m",
        content=[
            TextBlock(type="text", text="Let me look."),
            ToolUseBlock(type="tool_use", id="t", name="n", input={}),
        ],
        model="claude",
        role="assistant",
        type="message",
        usage=Usage(input_tokens=1, output_tokens=1),
    ),
    {"role": "assistant", "content": [TextBlock(type="text", text="Let me look.")]},
    ResponseOutputMessage.model_validate(
        {
            "id": "o",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hm.", "annotations": []}],
        }
    ),
    ResponseReasoningItem.model_validate({"id": "r", "type": "reasoning", "summary": []}),
    {"type": "function_call", "call_id": "c1", "name": "track", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "lost"},
    {"role": "tool", "tool_call_id": "c1", "content": "lost"},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "lost"}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]},
    {"role": "user", "content": None},
    {"role": "model", "parts": [{"functionCall": {"name": "track", "args": {}}}]},
    {"role": "user", "parts": [{"functionResponse": {"name": "track", "response": {"lost": True}}}]},
    Content(role="model", parts=[Part(text="thinking", thought=True), Part(text="It is lost.")]),
    AIMessage(content="It is lost."),
    ("ai", "It is lost."),
    Turn("assistant", None),
    None,
    "a line of some log",
    17,
]
MINE = [
    QUESTION,
    {
        "role": "user",
        "content": [{"type": "text", "text": "Where is my parcel?"}, {"type": "image_url", "image_url": {}}],
    },
    {"role": "user", "content": [{"type": "input_text", "text": "Where is my parcel?"}]},
    {"type": "message", "role": "user", "content": "Where is my parcel?"},
    {"role": "user", "content": [{"text": "Where is my parcel?"}]},  # Bedrock
    {"role": "user", "content": ["Where is my parcel?"]},
    {
        "role": "user",
        "content": [{"type": "tool_result", "content": "x"}, TextBlock(type="text", text="Where is my parcel?")],
    },
    {"role": "user", "parts": [{"text": "Where is my parcel?"}, {"inlineData": {"data": "AA=="}}]},
    {"type": "human", "content": "Where is my parcel?"},
    {"from": "human", "value": "Where is my parcel?"},
    {"role": Role.USER, "content": "Where is my parcel?"},
    {"role": "User", "content": "Where is my parcel?"},
    Content(role="user", parts=[Part(inline_data=b"\0"), Part(text="Where is my parcel?")]),
    HumanMessage(content="Where is my parcel?"),
    HumanMessage(content=[{"type": "text", "text": "Where is my parcel?"}, {"type": "image", "url": "u"}]),
    ChatMessageOfIndex(role=Role.USER, blocks=[TextBlockOfIndex(text="Where is my parcel?")]),
    Turn("user", "Where is my parcel?"),
    ("human", "Where is my parcel?"),
    ("user", "Where is my parcel?"),
]


@pytest.mark.parametrize("other", OTHERS, ids=repr)
def test_the_last_user_turn_is_the_text_whatever_stands_around_it(other):
    for messages in ([other, QUESTION], [QUESTION, other], [other, QUESTION, other], (QUESTION, other)):
        assert request_text({"messages": messages, "model": "claude-sonnet"}) == ("messages", "Where is my parcel?")


@pytest.mark.parametrize("mine", MINE, ids=repr)
def test_whoever_wrote_the_user_turn(mine):
    for messages in ([mine], [{"role": "user", "content": "earlier"}, openai_answer(), mine, openai_answer()]):
        assert request_text({"messages": messages, "model": "m"}) == ("messages", "Where is my parcel?")
        other = with_text(messages, "Where is my coat?")
        assert text_of(other) == "Where is my coat?" and text_of(messages) == "Where is my parcel?"
        assert type(other) is list and [type(turn) for turn in other] == [type(turn) for turn in messages]
        assert without_text(other) == without_text(messages) != messages


@pytest.mark.parametrize("mine", [m for m in MINE if not isinstance(m, tuple)], ids=repr)
def test_one_message_alone_and_what_holds_a_list_of_them(mine):
    assert request_text({"message": mine, "model": "m"}) == ("message", "Where is my parcel?")
    state = {"messages": [mine], "step": 3}
    assert request_text({"input": state, "model": "m"}) == ("input", "Where is my parcel?")
    assert with_text(state, "hi")["step"] == 3 and text_of(with_text(state, "hi")) == "hi"


@pytest.mark.parametrize("other", OTHERS[:-3], ids=repr)
def test_everything_else_stays_in_the_reuse_scope(other):
    def scope(*messages):
        return reuse_scope("chat", "", {"messages": list(messages), "model": "m"}, "messages")

    again = {"role": "user", "content": "Where is my coat?"}
    assert scope(other, QUESTION) == scope(other, again)
    assert len({scope(QUESTION), scope(other, QUESTION), scope(QUESTION, other)}) == 3
    assert scope(QUESTION) != reuse_scope("chat", "", {"messages": [QUESTION], "model": "n"}, "messages")


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "assistant", "content": "x"}],
        [openai_answer(content="x")],
        [],
        ["one", "two"],
        [{"name": "bob", "content": "no turn of anybody's"}],
        {"role": "system", "content": "be brief"},
        object(),
        [[QUESTION]],
    ],
    ids=lambda messages: repr(messages).partition(" at 0x")[0],
)
@pytest.mark.parametrize("name", ["messages", "prompt", "input", "topic", "contents"])
def test_a_named_argument_without_text_gives_none_and_no_other_takes_its_place(name, messages):
    parameter, text = request_text({name: messages, "model": "claude-sonnet", "style": 3})
    assert parameter is None and "claude-sonnet" in text
    assert request_text({name: messages, "customer": "Bob"})[0] is None


@pytest.mark.parametrize(
    "name",
    "topic q task instruction user_input goal message user_message user_prompt content description sentence problem "
    "contents user_query user_question conversation".split(),
)
def test_names_that_hold_the_text_beside_others(name):
    assert request_text({"style": "formal", "lines": 2, name: "cats"}) == (name, "cats")
    assert request_text({name: "cats", "question": "Why?"}) == ("question", "Why?")  # those of before go first


@pytest.mark.parametrize(
    "name",
    "model model_name chat_model llm_model engine provider system system_prompt system_message developer_message "
    "instructions persona role id user_id thread_id".split(),
)
def test_names_that_never_hold_it(name):
    assert request_text({name: "x" * 9, "n": 1})[0] is None
    assert request_text({name: "x" * 9, "poem": 3.5})[0] is None
    assert not may_be_text(name)


def test_what_is_not_given_makes_room_for_the_next():
    assert request_text({"prompt": None, "messages": [QUESTION]}) == ("messages", "Where is my parcel?")
    assert request_text({"query": None, "poem": "roses"}) == ("poem", "roses")
    assert request_text({"query": 3, "text": "t"}) == ("text", "t")
    assert request_text({"query": 3, "model": "t"})[0] is None


class Login(BaseModel):
    user: str
    password: str
    token: SecretStr = SecretStr("s3cret-token")
    note: str = Field("hidden-note", repr=False)


@dataclasses.dataclass
class Credentials:
    user: str
    password: str
    logins: list[Login] = dataclasses.field(default_factory=list)
    pin: str = dataclasses.field(default="hidden-pin", repr=False)


def test_secrets_of_models_and_dataclasses_are_in_no_text():
    login = Login(user="bob", password="hunter2")
    for value in (
        login,
        Credentials("bob", "hunter2", [login]),
        [login],
        {"of": {"bob": login}},
        {login.user: {login.user: login}},
    ):
        text = json_text({"login": value, "n": 1})
        assert "bob" in text and "[redacted]" in text
        assert not any(secret in text for secret in ("hunter2", "s3cret-token", "hidden-note", "hidden-pin"))
