"""What the log says of calls: live, from the pool, refined."""

import asyncio
import threading

import pytest
from loguru import logger

from exp_pool import Experience, Refine, exp_cache, record
from exp_pool.calls.call_log import CallLogRecord
from exp_pool.errors import ConfigurationError

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture
def said():
    """The records of calls, and what was written of each."""
    records = []

    def sink(message):
        line = message.record["extra"].get("exp_pool")
        if isinstance(line, CallLogRecord):
            records.append((message.record["level"].name, line, message.record["message"]))

    logger.enable("exp_pool")
    number = logger.add(sink, level="DEBUG")
    yield records
    logger.remove(number)
    logger.disable("exp_pool")


def texts(said):
    return [text for _, _, text in said]


def test_live_cached_and_unknown(make_manager, said):
    manager = make_manager(**PLAIN)

    @manager.exp_cache(name="merge_step")
    def merge_step(conversation):
        record(model="gemini-2.0-flash", strategy="multimodal")
        return {"messages": 6}

    merge_step("c1"), merge_step("c1"), merge_step("c1")
    manager.sync.create_exp(Experience(function="merge_step", arguments={"conversation": "old"}, response={}))
    merge_step("old")
    assert texts(said) == [
        "merge_step [multimodal|gemini-2.0-flash]",
        "merge_step [CACHED|multimodal|gemini-2.0-flash]",
        "merge_step [CACHED|multimodal|gemini-2.0-flash]",
        "merge_step [CACHED|unknown|unknown]",
    ]
    level, line, _ = said[1]
    assert (level, line.function, line.cached, line.strategy, line.model) == (
        "DEBUG", "merge_step", True, "multimodal", "gemini-2.0-flash",
    )  # fmt: skip


def test_a_refinement_says_which_model_it_was(make_manager, said):
    manager = make_manager(**PLAIN)
    gate = threading.Event()

    def better(q):
        assert gate.wait(30)
        record(model="claude-3.5-sonnet", strategy=None if q == "plain" else "vision")
        return "better"

    @manager.exp_cache(name="merge_step", refine=Refine(better, timeout=30))
    def quick(q):
        return "quick"

    for q in ("plain", "picture"):
        quick(q)
        gate.set()
        manager.sync.flush()
        gate.clear()
    assert texts(said) == [
        "merge_step [unknown|unknown]",
        "merge_step [premium|claude-3.5-sonnet]",
        "merge_step [unknown|unknown]",
        "merge_step [vision|claude-3.5-sonnet]",
    ]


def test_details_of_the_domain(make_manager, said):
    manager, asked = make_manager(**PLAIN), []

    def describe(call, value):
        asked.append((call.function, dict(call.arguments), call.model))
        return f"Conversation: {value['messages']} messages\nParticipants: {call.arguments['conversation']}"

    @manager.exp_cache(name="merge_step", describe=describe)
    def merge_step(conversation):
        record(model="m", strategy="s")
        return {"messages": 6}

    merge_step("Zhang"), merge_step("Zhang"), merge_step("Zhang")
    for text, beginning in zip(texts(said), ["[s|m]", "[CACHED|s|m]", "[CACHED|s|m]"], strict=True):
        assert text == (f"merge_step {beginning} Conversation: 6 messages\nmerge_step {beginning} Participants: Zhang")
    assert asked[0] == ("merge_step", {"conversation": "Zhang"}, "m")


def test_details_of_streams_and_coroutines_and_of_the_value_alone(make_manager, said):
    manager = make_manager(**PLAIN)

    @manager.exp_cache(name="chunks", describe=lambda value: f"{len(value)} chunks")
    def chunks(n):
        yield from range(n)

    @manager.exp_cache(name="later", describe=lambda value: None)
    async def later(n):
        return n

    assert list(chunks(3)) == list(chunks(3)) == [0, 1, 2]
    assert asyncio.run(later(2)) == asyncio.run(later(2)) == 2
    assert texts(said) == [
        "chunks [unknown|unknown] 3 chunks",
        "chunks [CACHED|unknown|unknown] 3 chunks",
        "later [unknown|unknown]",
        "later [CACHED|unknown|unknown]",
    ]


def test_a_description_that_fails_fails_nothing(make_manager, said):
    manager = make_manager(**PLAIN)

    @manager.exp_cache(name="f", describe=lambda value: 1 / 0)
    def f(q):
        return q

    assert f("a") == f("a") == "a"
    assert texts(said)[0] == "f [unknown|unknown] (describe= raised ZeroDivisionError('division by zero'))"
    assert manager.stats().degraded == 0


def test_nobody_is_asked_for_details_where_nobody_listens(make_manager):
    manager, asked = make_manager(**PLAIN), []

    @manager.exp_cache(describe=asked.append)
    def f(q):
        return q

    f("a"), f("a")
    assert asked == []
    with pytest.raises(ConfigurationError, match="describe='text' must be a callable"):
        exp_cache(describe="text")(len)


def test_a_sink_that_writes_extra_shows_no_arguments_and_no_answers(make_manager):
    written = []
    logger.enable("exp_pool")
    number = logger.add(lambda message: written.append(str(message)), format="{message} {extra}", serialize=True)
    try:
        make_manager(**PLAIN).exp_cache(name="f")(lambda q: "the answer")("the question")
    finally:
        logger.remove(number)
        logger.disable("exp_pool")
    assert any("f [unknown|unknown]" in text for text in written)
    assert not any("the answer" in text or "the question" in text for text in written)
