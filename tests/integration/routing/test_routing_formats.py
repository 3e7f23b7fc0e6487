"""Four wire formats against servers that speak them; the official clients find those servers honest."""

import asyncio
import json
import threading

import pytest
from support.servers.models import Raw
from support.servers.wire_formats import FORMATS, ToolCall

from exp_pool.errors import EndpointError
from exp_pool.routing import Adapter, ConcurrentRouter, ModelEndpoint, Outgoing, Reply

WIRES = list(FORMATS)
TEXT = "größer 你好 👩‍🚀 done"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "content": [{"type": "text", "text": "How is the weather "}, {"type": "text", "text": "in Bern?"}],
    },
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}},
            {"id": "call_b", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Thun"}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_a", "content": "rain"},
    {"role": "tool", "tool_call_id": "call_b", "content": "sun"},
]


def route(server, prompt, key="sk-test", **options):
    async def main():
        async with ConcurrentRouter([ModelEndpoint("m", server.url, api_key=key, model="gemini-pro")]) as router:
            return await router.route_request(prompt, **options)

    return asyncio.run(main())


@pytest.mark.parametrize("wire", WIRES)
def test_a_prompt_is_answered(model_server, wire):
    server = model_server(wire, reply=lambda body: TEXT)
    answer = route(server, "Grüezi 你好")
    assert answer["response"] == TEXT
    assert (answer["model"], answer["tokens_in"], answer["tokens_out"]) == ("m", 100, 10)
    assert answer["raw"] == server.format.whole("model", TEXT)
    assert [(each["model"], each["status"], each["error"]) for each in answer["attempts"]] == [("m", 200, None)]
    assert server.format.prompt(server.requests[0]) == "Grüezi 你好"
    assert wire == "gemini" or server.requests[0]["model"] == "gemini-pro"


@pytest.mark.parametrize("wire", WIRES)
def test_a_prompt_is_answered_as_a_stream(model_server, wire):
    server = model_server(wire, reply=lambda body: TEXT)

    async def main():
        async with ConcurrentRouter([ModelEndpoint("m", server.url)]) as router:
            stream = router.stream_request("hello")
            assert stream.model is None
            texts = [text async for text in stream]
            return texts, stream.model, router.health()["m"]["running"]

    texts, model, running = asyncio.run(main())
    assert texts == ["größer ", "你好 ", "👩‍🚀 ", "done"]
    assert (model, running) == ("m", 0)


@pytest.mark.parametrize("wire", WIRES)
def test_a_stream_is_read_as_it_comes(model_server, wire):
    """The server ends it only when the beginning was read."""
    server, was_read = model_server(wire, reply=lambda body: "a b c d e"), threading.Event()
    events = len(list(server.format.events("model", "a b c d e")))
    left = iter(range(events - 2, -2, -1))

    def between():
        if next(left) == 0 and not was_read.wait(20):
            raise TimeoutError("nobody read the beginning")  # and the stream is cut

    server.between = between

    async def main():
        async with ConcurrentRouter([ModelEndpoint("m", server.url)]) as router:
            texts = []
            async for text in router.stream_request("hello"):
                texts.append(text)
                was_read.set()
            return texts

    assert asyncio.run(main()) == ["a ", "b ", "c ", "d ", "e"]


@pytest.mark.parametrize("wire", WIRES)
def test_tools_are_called_in_one_form(model_server, wire):
    server = model_server(wire, reply=lambda body: ToolCall("weather", {"city": "Bern"}))
    options = {"max_tokens": 99, "temperature": 0.5, "tools": [WEATHER], "tool_choice": "required"}
    answer = route(server, "How is the weather?", **options)
    assert answer["response"] == ""
    (call,) = answer["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Bern"}
    (body,) = server.requests
    function = WEATHER["function"]
    assert {
        "openai": lambda: body["tools"] == [WEATHER] and body["tool_choice"] == "required" and body["max_tokens"] == 99,
        "openai-responses": lambda: (
            body["tools"] == [{"type": "function", **function}]
            and body["tool_choice"] == "required"
            and body["max_output_tokens"] == 99
        ),
        "anthropic": lambda: (
            body["tools"]
            == [{"name": "weather", "description": function["description"], "input_schema": function["parameters"]}]
            and body["tool_choice"] == {"type": "any"}
            and body["max_tokens"] == 99
        ),
        "gemini": lambda: (
            body["tools"] == [{"functionDeclarations": [function]}]
            and body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
            and body["generationConfig"] == {"maxOutputTokens": 99, "temperature": 0.5}
        ),
    }[wire]()
    assert wire == "gemini" or body["temperature"] == 0.5


def test_a_conversation_with_tools_is_put_in_each_format(model_server):
    bodies = {}
    for wire in WIRES:
        server = model_server(wire, reply=lambda body: "It rains.")
        server.format = type("Silent", (FORMATS[wire],), {"prompt": staticmethod(lambda body: "")})
        assert route(server, CONVERSATION)["response"] == "It rains."
        (bodies[wire],) = server.requests
    assert bodies["openai"]["messages"] == CONVERSATION
    assert bodies["openai-responses"]["instructions"] == "Be brief."
    assert bodies["openai-responses"]["input"] == [
        {"role": "user", "content": "How is the weather in Bern?"},
        {"type": "function_call", "call_id": "call_a", "name": "weather", "arguments": '{"city": "Bern"}'},
        {"type": "function_call", "call_id": "call_b", "name": "weather", "arguments": '{"city": "Thun"}'},
        {"type": "function_call_output", "call_id": "call_a", "output": "rain"},
        {"type": "function_call_output", "call_id": "call_b", "output": "sun"},
    ]
    assert bodies["anthropic"]["system"] == "Be brief."
    assert bodies["anthropic"]["messages"] == [
        {"role": "user", "content": "How is the weather in Bern?"},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Bern"}},
                {"type": "tool_use", "id": "call_b", "name": "weather", "input": {"city": "Thun"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_a", "content": "rain"},
                {"type": "tool_result", "tool_use_id": "call_b", "content": "sun"},
            ],
        },
    ]
    assert bodies["gemini"]["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert bodies["gemini"]["contents"] == [
        {"role": "user", "parts": [{"text": "How is the weather in Bern?"}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "weather", "args": {"city": "Bern"}}},
                {"functionCall": {"name": "weather", "args": {"city": "Thun"}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "weather", "response": {"result": "rain"}}},
                {"functionResponse": {"name": "weather", "response": {"result": "sun"}}},
            ],
        },
    ]


@pytest.mark.parametrize("wire", WIRES)
def test_the_key_goes_where_the_format_wants_it(model_server, wire):
    server = model_server(wire)
    route(server, "hello", key="sk-mine")
    names = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}
    headers = {name.lower(): value for name, value in server.headers[0].items()}
    assert headers[names.get(wire, "authorization")] == ("sk-mine" if wire in names else "Bearer sk-mine")
    assert "sk-mine" not in server.paths[0]


@pytest.mark.parametrize("wire", ["openai", "openai-responses"])
def test_the_server_is_honest_says_the_openai_client(model_server, wire):
    openai = pytest.importorskip("openai")
    server = model_server(wire, reply=lambda body: ToolCall("weather", {}) if body.get("tools") else TEXT)
    with openai.OpenAI(api_key="k", base_url=f"{server.base}/v1", max_retries=0) as client:
        if wire == "openai":
            ask = client.chat.completions.create
            messages = [{"role": "user", "content": "hi"}]
            whole = ask(model="m", messages=messages)
            assert whole.choices[0].message.content == TEXT
            events = ask(model="m", messages=messages, stream=True)
            assert "".join(event.choices[0].delta.content or "" for event in events) == TEXT
            called = ask(model="m", messages=messages, tools=[WEATHER])
            assert called.choices[0].message.tool_calls[0].function.name == "weather"
        else:
            whole = client.responses.create(model="m", input="hi")
            assert whole.output_text == TEXT
            with client.responses.stream(model="m", input="hi") as events:
                assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
                assert events.get_final_response().output_text == TEXT
            tool = {"type": "function", "strict": False, **WEATHER["function"]}
            called = client.responses.create(model="m", input="hi", tools=[tool])
            assert called.output[-1].name == "weather"
        type(whole).model_validate(whole.model_dump())


def test_the_server_is_honest_says_the_anthropic_client(model_server):
    anthropic = pytest.importorskip("anthropic")
    server = model_server("anthropic", reply=lambda body: ToolCall("weather", {}) if body.get("tools") else TEXT)
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    with anthropic.Anthropic(api_key="k", base_url=server.base, max_retries=0) as client:
        assert client.messages.create(**asked).content[0].text == TEXT
        with client.messages.stream(**asked) as events:
            assert "".join(events.text_stream) == TEXT
            assert events.get_final_message().stop_reason == "end_turn"
        called = client.messages.create(**asked, tools=[{"name": "weather", "input_schema": {"type": "object"}}])
        assert called.content[0].name == "weather"


def test_an_adapter_is_a_pair_of_functions(model_server):
    def write(ask):
        return Outgoing(ask.url, {"messages": [{"content": ask.messages[-1]["content"].upper()}]})

    def read(payload):
        return Reply(text=payload["choices"][0]["message"]["content"] + "!", finished=True)

    server = model_server("openai", name="mine")

    async def main():
        endpoint = ModelEndpoint("m", server.url, provider=Adapter("mine", write, read))
        async with ConcurrentRouter([endpoint]) as router:
            return await router.route_request("hello")

    assert asyncio.run(main())["response"] == "mine says: HELLO!"


def test_a_message_falls_through_formats(model_server):
    """An image is for OpenAI only: the others say so, and are not blamed."""
    server = model_server("openai", reply=lambda body: "a cat")
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    other = model_server("anthropic")

    async def main():
        endpoints = [ModelEndpoint("a", other.url), ModelEndpoint("b", server.url, priority=1)]
        async with ConcurrentRouter(endpoints) as router:
            return await router.route_request([{"role": "user", "content": [image]}])

    answer = asyncio.run(main())
    assert answer["response"] == "a cat"
    assert "image_url" in answer["attempts"][0]["error"]
    assert other.requests == []


# ── Why it ended ──────────────────────────────────────────────────────────────────────────────────────────────────────

CUT = {"openai": "length", "openai-responses": "max_output_tokens", "anthropic": "max_tokens", "gemini": "MAX_TOKENS"}
KEPT_BACK = {"openai": "content_filter", "openai-responses": "content_filter", "gemini": "SAFETY"}
ENDED = {
    "openai": b'"finish_reason": "stop"',
    "anthropic": b'"stop_reason": "end_turn"',
    "gemini": b'"finishReason": "STOP"',
}


def ended(wire, server, word, text=TEXT):
    """An answer that ended for that reason, in the words of the format."""
    payload = json.loads(json.dumps(server.format.whole("model", text)))
    match wire:
        case "openai":
            payload["choices"][0]["finish_reason"] = word
        case "openai-responses":
            payload |= {"status": "incomplete", "incomplete_details": {"reason": word}}
        case "anthropic":
            payload["stop_reason"] = word
        case "gemini":
            payload["candidates"][0]["finishReason"] = word
    return Raw(body=json.dumps(payload).encode())


def streamed(wire, server, word, text=TEXT):
    body = b"".join(server.format.events("model", text))
    name = ENDED[wire].partition(b":")[0]
    assert ENDED[wire] in body
    return Raw(body=body.replace(ENDED[wire], name + f': "{word}"'.encode()), content_type="text/event-stream")


def read(server, other=None):
    async def main():
        servers = [server] if other is None else [server, other]
        endpoints = [ModelEndpoint(f"m{n}", each.url, priority=n) for n, each in enumerate(servers)]
        async with ConcurrentRouter(endpoints) as router:
            stream = router.stream_request("hello")
            return "".join([text async for text in stream]), stream.finish_reason

    return asyncio.run(main())


@pytest.mark.parametrize("wire", WIRES)
def test_why_it_ended_is_said_in_one_form(model_server, wire):
    server = model_server(wire)
    assert route(server, "hello")["finish_reason"] == "stop"
    server.reply = lambda body: ToolCall("weather", {"city": "Bern"})
    assert route(server, "hello", tools=[WEATHER])["finish_reason"] == "tool_calls"
    server.reply = lambda body: ended(wire, server, CUT[wire])
    answer = route(server, "hello")
    assert (answer["response"], answer["finish_reason"]) == (TEXT, "length")


@pytest.mark.parametrize("wire", ENDED)
def test_a_stream_says_at_its_end_why(model_server, wire):
    server = model_server(wire, reply=lambda body: TEXT)
    assert read(server) == (TEXT, "stop")
    server.reply = lambda body: streamed(wire, server, CUT[wire])
    assert read(server) == (TEXT, "length")


@pytest.mark.parametrize("wire", KEPT_BACK)
@pytest.mark.parametrize("text", ["", "half of i"])
def test_what_a_filter_kept_back_is_no_answer(model_server, wire, text):
    filtering, other = model_server(wire), model_server(wire, name="other")
    filtering.reply = lambda body: ended(wire, filtering, KEPT_BACK[wire], text)

    async def main():
        endpoints = [ModelEndpoint("a", filtering.url, breaker_after=1), ModelEndpoint("b", other.url, priority=1)]
        async with ConcurrentRouter(endpoints) as router:
            answers = [await router.route_request("hello") for _ in range(2)]
            return answers, router.health()["a"]["circuit"]

    answers, circuit = asyncio.run(main())
    assert {answer["model"] for answer in answers} == {"b"}
    assert "content filter" in answers[0]["attempts"][0]["error"]
    assert circuit == "closed", "it is about the request"


def test_a_filtered_stream_goes_elsewhere_before_its_first_text_and_breaks_off_after_it(model_server):
    filtering, other = model_server("openai"), model_server("openai", name="other", reply=lambda body: "so")
    filtering.reply = lambda body: streamed("openai", filtering, "content_filter", "")
    assert read(filtering, other) == ("so", "stop")
    filtering.reply = lambda body: streamed("openai", filtering, "content_filter", "half of i")
    with pytest.raises(EndpointError, match="content filter"):
        read(filtering, other)


def test_a_model_that_refuses_says_so(model_server):
    claude, gpt = model_server("anthropic"), model_server("openai")
    claude.reply = lambda body: ended("anthropic", claude, "refusal", "I will not.")
    payload = gpt.format.whole("model", "")
    payload["choices"][0]["message"] |= {"content": None, "refusal": "I will not."}
    gpt.reply = lambda body: Raw(body=json.dumps(payload).encode())
    for server in (claude, gpt):
        answer = route(server, "hello")
        assert (answer["response"], answer["finish_reason"]) == ("I will not.", "refusal")
