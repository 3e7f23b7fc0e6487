"""Response objects of the OpenAI and Anthropic SDKs, made by the SDKs themselves from answers as on the wire."""

import importlib
import json
import subprocess
import sys

import pytest

from exp_pool.core.codecs.typed import TypedCodec
from exp_pool.core.values.deep_equal import difference
from exp_pool.core.values.encoding import loads
from exp_pool.core.values.sdk_types import MODELS
from exp_pool.errors import DecodingError, EncodingError

COMPLETION = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m", "service_tier": None, "new_at_the_top": {"k": [1.5]},
    "choices": [{"index": 0, "finish_reason": "stop", "unheard_of": [1, 2], "message": {"role": "assistant", "content": "hi", "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}, {"id": "2", "type": "custom", "custom": {"name": "g", "input": "i"}}, {"id": "3", "type": "unknown", "z": {"a": 1}}]}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}},
}  # fmt: skip
CHUNK = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {"content": "h"}, "finish_reason": None}], "obfuscation": "zz"}  # fmt: skip
RESPONSE = {
    "id": "r", "object": "response", "created_at": 1741476542, "status": "completed", "model": "m", "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "parallel_tool_calls": True, "temperature": 1, "tool_choice": "auto", "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}], "top_p": 1.0,
    "output": [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "hi", "annotations": [{"type": "url_citation", "start_index": 0, "end_index": 1, "title": "t", "url": "u"}]}]}, {"type": "function_call", "id": "f", "call_id": "c", "name": "n", "arguments": "{}"}, {"type": "reasoning", "id": "g", "summary": []}, {"type": "never_seen", "id": "h"}],
}  # fmt: skip
MESSAGE = {
    "id": "m", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 2},
    "content": [{"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "text", "text": "hi", "citations": [{"type": "char_location", "cited_text": "c", "document_index": 0, "document_title": None, "start_char_index": 0, "end_char_index": 1}]}, {"type": "tool_use", "id": "t", "name": "n", "input": {"a": [1, 2.0]}}, {"type": "never_seen", "z": 1}],
}  # fmt: skip
WIRE = [
    ("openai.types.chat.ChatCompletion", COMPLETION),
    ("openai.types.chat.ChatCompletion", {}),
    ("openai.types.chat.ChatCompletionMessage", COMPLETION["choices"][0]["message"]),
    ("openai.types.chat.chat_completion.Choice", COMPLETION["choices"][0]),
    ("openai.types.chat.ChatCompletionChunk", CHUNK),
    ("openai.types.CreateEmbeddingResponse", {"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.1, -1]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}}),
    ("openai.types.responses.Response", RESPONSE),
    ("openai.types.responses.ResponseTextDeltaEvent", {"type": "response.output_text.delta", "delta": "h", "item_id": "m", "output_index": 0, "content_index": 0, "sequence_number": 4, "logprobs": []}),
    ("openai.types.responses.ResponseCompletedEvent", {"type": "response.completed", "response": RESPONSE, "sequence_number": 9}),
    ("anthropic.types.Message", MESSAGE),
    ("anthropic.types.beta.BetaMessage", MESSAGE),
    ("anthropic.types.RawMessageStartEvent", {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}}),
    ("anthropic.types.RawContentBlockStartEvent", {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    ("anthropic.types.RawContentBlockDeltaEvent", {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ""}}),
    ("anthropic.types.RawMessageDeltaEvent", {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 3}}),
    ("anthropic.types.RawMessageStopEvent", {"type": "message_stop"}),
]  # fmt: skip


def model(name):
    pytest.importorskip(name.partition(".")[0])
    module, _, kind = name.rpartition(".")
    return getattr(importlib.import_module(module), kind)


@pytest.mark.parametrize(("name", "wire"), WIRE, ids=[name for name, _ in WIRE])
def test_an_answer_as_the_sdk_read_it_from_the_wire_comes_back(name, wire):
    value = model(name).construct(**json.loads(json.dumps(wire)))
    codec = TypedCodec()
    for given in (value, [value], {"a": (value, 1)}):
        text = codec.encode(given)
        back = codec.decode(text)
        assert difference(given, back) is None
        assert codec.encode(back) == text
    back = codec.decode(codec.encode(value))
    assert type(back) is type(value) and back == value
    assert back.model_fields_set == value.model_fields_set
    assert back.to_dict(warnings=False) == value.to_dict(warnings=False)
    assert back.to_json(warnings=False) == value.to_json(warnings=False)
    assert (back.model_extra or {}) == (value.model_extra or {})


@pytest.mark.parametrize("name", [f"{module}.{kind}" for module, kinds in MODELS.items() for kind in kinds])
def test_every_class_of_the_list_comes_back(name):
    package = name.partition(".")[0]
    pytest.importorskip(package)
    try:
        kind = model(name)
    except AttributeError:
        pytest.skip(f"this version of {package} has no {name}")
    for fields in ({}, {"id": "x", "unheard_of": [1, None]}):
        value = kind.construct(**fields)
        assert difference(value, TypedCodec().decode(TypedCodec().encode(value))) is None


def test_what_people_build_themselves_comes_back():
    kind = model("openai.types.chat.ChatCompletion")
    wire = json.loads(json.dumps(COMPLETION))
    del wire["choices"][0]["message"]["tool_calls"][2]
    value = kind.model_validate(wire)
    assert difference(value, TypedCodec().decode(TypedCodec().encode(value))) is None


@pytest.mark.parametrize(("name", "wire"), [("openai.types.chat.ChatCompletion", COMPLETION), ("anthropic.types.Message", MESSAGE)])  # fmt: skip
def test_what_a_client_gives_comes_back_with_its_request_id(name, wire):
    sdk = pytest.importorskip(name.partition(".")[0])
    try:
        import httpx2 as httpx
    except ImportError:
        import httpx
    answer = {"json": wire, "headers": {"x-request-id": "req_1", "request-id": "req_1"}}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, **answer))
    with httpx.Client(transport=transport) as http:
        if name.startswith("openai"):
            value = sdk.OpenAI(api_key="k", http_client=http).chat.completions.create(model="m", messages=[])
        else:
            value = sdk.Anthropic(api_key="k", http_client=http).messages.create(model="m", messages=[], max_tokens=1)
    back = TypedCodec().decode(TypedCodec().encode(value))
    assert difference(value, back) is None
    assert back._request_id == value._request_id == "req_1"


def test_what_would_be_lost_is_refused():
    kind = model("openai.types.chat.ChatCompletion")
    value = kind.construct(**COMPLETION)
    value.choices[0].message._mine = 1
    with pytest.raises(EncodingError, match=r"at \.choices\[0\]\.message\._mine"):
        TypedCodec().encode(value)

    class Mine(kind):
        pass

    with pytest.raises(EncodingError, match="could not be restored"):
        TypedCodec().encode(Mine.construct(**COMPLETION))
    other = model("openai.types.responses.ResponseItemList")
    with pytest.raises(EncodingError, match="only the common responses are known"):
        TypedCodec().encode(other.construct())


def test_absent_on_the_wire_is_not_null():
    kind = model("openai.types.chat.ChatCompletion")
    absent, null = kind.construct(id="x"), kind.construct(id="x", usage=None)
    assert absent == null
    assert "model_fields_set" in difference(absent, null)
    assert TypedCodec().encode(absent) != TypedCodec().encode(null)


@pytest.mark.parametrize(
    "content",
    [
        '["openai.types.chat.ChatCompletion", {"_fields_set": 5}, {}]',
        '["openai.types.chat.ChatCompletion", {"choices": 5}, {"__class__": 1}]',
        '["openai.types.chat.ChatCompletion", {}, {"model_dump": 1}]',
        '["openai.types.chat.ChatCompletion", [], {}]',
        '["openai.types.chat.ChatCompletion", {}]',
        '["openai.types.chat.ChatCompletionStoreMessage", {}, {}]',
        '["openai.OpenAI", {}, {}]',
        '["os.system", {}, {}]',
        '["ChatCompletion", {}, {}]',
        '[["openai.types.chat", "ChatCompletion"], {}, {}]',
        '["antigravity.X", {}, {}]',
    ],
)
def test_hostile_sdk_content_is_a_typed_error_and_imports_nothing_else(content):
    if "openai.types" in content:
        pytest.importorskip("openai")
    with pytest.raises(DecodingError):
        loads(f'{{"$exp:sdk": {content}}}')
    assert "antigravity" not in sys.modules


def test_without_the_sdk_the_error_says_what_to_install():
    script = (
        "import sys; sys.modules.update({'openai': None, 'anthropic': None})\n"
        "from exp_pool.core.values.encoding import loads\n"
        'try: loads(\'{"$exp:sdk": ["anthropic.types.Message", {}, {}]}\')\n'
        "except ValueError as err: print(type(err).__name__, err)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("DecodingError") and "pip install -U anthropic" in done.stdout
