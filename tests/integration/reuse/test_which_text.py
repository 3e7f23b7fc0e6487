"""What is compared is what was asked: never a model's name, and what is identical is found by any threshold."""

from __future__ import annotations

import numpy as np
import pytest
from openai.types.chat import ChatCompletionMessage

from exp_pool import ThresholdJudge
from exp_pool.core.experience import Experience
from exp_pool.core.values.vectors import cosines, to_unit

CALL = {"id": "c1", "type": "function", "function": {"name": "track", "arguments": "{}"}}
ANSWERS = {
    "a call of a tool without content": {"role": "assistant", "tool_calls": [CALL]},
    "an object of the SDK": ChatCompletionMessage.model_validate(
        {"role": "assistant", "content": None, "tool_calls": [CALL]}
    ),
    "Gemini's parts": {"role": "model", "parts": [{"functionCall": {"name": "track", "args": {}}}]},
    "an item of OpenAI's Responses": {"type": "function_call", "call_id": "c1", "name": "track", "arguments": "{}"},
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_another_models_answer_is_never_given(make_manager, answer):
    manager = make_manager()

    @manager.exp_cache(judge=ThresholdJudge(0.5, guard=False))
    def chat(messages, model="claude-sonnet"):
        return f"{model}: {messages[-1]['content']}"

    def conversation(text):
        return [{"role": "user", "content": "hello"}, ANSWERS[answer], {"role": "user", "content": text}]

    assert chat(conversation("where is my parcel")) == "claude-sonnet: where is my parcel"
    manager.sync.flush()
    other = "claude-sonnet-latest: where is my parcel"
    assert chat(conversation("where is my parcel"), model="claude-sonnet-latest") == other
    similar = chat.call(conversation("where is my parcel?"))
    assert (similar.value, similar.found_by) == ("claude-sonnet: where is my parcel", "semantic")
    assert {e.request for e in manager.sync.iter_exps()} == {"where is my parcel"}
    assert [e.value for e in manager.sync.query_exps("where is my parcel", query_type="exact")] == [
        other,
        "claude-sonnet: where is my parcel",
    ]


def test_a_conversation_without_a_question_is_only_answered_exactly(make_manager):
    manager = make_manager()

    @manager.exp_cache(judge=ThresholdJudge(0.0, guard=False))
    def go_on(messages, model="m"):
        return f"{model} {len(messages)}"

    assert go_on([{"role": "assistant", "content": "x"}]) == "m 1"
    manager.sync.flush()
    assert go_on([{"role": "assistant", "content": "x"}, {"role": "assistant", "content": "x"}]) == "m 2"
    assert go_on([{"role": "assistant", "content": "x"}], model="mm") == "mm 1"
    assert go_on.call([{"role": "assistant", "content": "x"}]).found_by == "exact"


def test_context_is_written_into_the_turn_of_an_sdk_object(make_manager):
    class Last:
        limit, top_k, min_similarity = 1, 1, -1.0

        def build(self, request, experiences):
            return f"{request}, as {experiences[0].value}"

    manager = make_manager()

    @manager.exp_cache(context_builder=Last())
    def chat(messages):
        return messages[-1]["content"][0].text

    from anthropic.types import TextBlock

    def asking(text):
        return [ANSWERS["an object of the SDK"], {"role": "user", "content": [TextBlock(type="text", text=text)]}]

    first = asking("a")
    assert chat(first) == "a"
    manager.sync.flush()
    assert chat(asking("aa")) == "aa, as a"
    assert first[1]["content"][0].text == "a", "the caller's own is not touched"


@pytest.mark.parametrize("seed", range(20))
def test_a_threshold_of_one_finds_the_identical_text(make_manager, seed):
    random = np.random.default_rng(seed)
    known = {}

    def vectors(texts):
        return np.stack([known.setdefault(text, random.normal(size=384)) for text in texts])

    manager = make_manager(embedder=vectors)
    texts = [f"text {n}" for n in range(20)]
    manager.sync.create_exps([Experience(function="f", request=text, response=text) for text in texts])
    for text in texts:
        (hit,) = manager.sync.search(text, min_similarity=1)
        assert (hit.experience.request, hit.similarity) == (text, 1.0)
        (hit,) = manager.sync.search(text, min_similarity=1, query_type="hybrid", top_k=1)
        assert (hit.experience.request, hit.similarity) == (text, 1.0)


def test_thresholds_of_nothing_mean_what_they_say(make_manager):
    manager = make_manager(embedder=lambda texts: [[1.0, 0.0] if "a" in text else [0.0, 1.0] for text in texts])
    manager.sync.create_exps([Experience(function="f", request=text, response=text) for text in ("a", "")])
    assert [hit.similarity for hit in manager.sync.search("a", min_similarity=0)] == [1.0, 0.0]
    assert [hit.experience.request for hit in manager.sync.search("", min_similarity=1)] == [""]
    assert [hit.experience.request for hit in manager.sync.search("a", min_similarity=0.00001)] == ["a"]


def test_only_rounding_is_rounded():
    near = to_unit([[1.0, 0.0], [1.0, 0.004], [1.0, 0.01]], 3)
    assert cosines(near, near[0]).tolist() == pytest.approx([1.0, 0.999992, 0.99995])
    assert cosines(near, near[0])[1] < 1.0
