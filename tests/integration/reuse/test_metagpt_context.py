"""MetaGPT's context builders and adapters, each line of what must match with a test of its name, and its defects without.

The functions have the shapes of MetaGPT's: `RoleZero.llm_cached_aask` gets a message list whose last turn is a prompt
with a mask, `ActionNode.fill` a node's context, `LLM.aask` a plain request.
"""

import asyncio

import pytest

from exp_pool import Experience, SimpleContextBuilder
from exp_pool.protocols import ContextBuilder
from exp_pool.reuse.context import ActionNodeContextBuilder, RoleZeroContextBuilder

PROMPT = """# Past experience
<experience>

# Instruction
{}"""


@pytest.fixture
def manager(make_manager):
    return make_manager()


def role_zero(manager, **options):
    """An agent that asks its model, and the messages that the model got."""
    asked = []

    class RoleZero:
        @manager.exp_cache(
            name="RoleZero.llm_cached_aask", self_key=(), context_builder=RoleZeroContextBuilder(), **options
        )
        async def llm_cached_aask(self, *, req: list[dict], system_msgs: list[str], state_data: dict):
            asked.append((req, system_msgs))
            return f'[{{"command_name": "Plan.append_task", "n": {len(asked)}}}]'

    return RoleZero(), asked


def turns(instruction):
    return [
        {"role": "user", "content": "[Message] from User to Mike"},
        {"role": "assistant", "content": "Understood."},
        {"role": "user", "content": PROMPT.format(instruction)},
    ]


def ask(agent, instruction, **given):
    return asyncio.run(
        agent.llm_cached_aask.call(
            **{"req": turns(instruction), "system_msgs": ["You are Mike."], "state_data": {}, **given}
        )
    )


def test_role_zero_adapter_fills_the_experience_mask(manager):
    agent, asked = role_zero(manager)
    first = ask(agent, "write a 2048 game")
    manager.sync.flush()
    second = ask(agent, "write a snake game")
    before, prompt = asked[1][0][:-1], asked[1][0][-1]["content"]
    assert second.parents == (first.id,)
    assert "<experience>" not in prompt
    assert prompt.startswith("# Past experience\nSimilar requests")
    assert prompt.endswith("</experiences>\n\n# Instruction\nwrite a snake game")
    assert "write a 2048 game" in prompt
    assert "Plan.append_task" in prompt
    assert before == turns("")[:-1], "no other message is touched"


def test_role_zero_adapter_never_writes_a_system_message(manager):
    agent, asked = role_zero(manager)
    ask(agent, "write a 2048 game")
    manager.sync.flush()
    ask(agent, "write a snake game", req=[{"role": "system", "content": "<experience>"}, *turns("write a snake game")])
    messages, system_msgs = asked[1]
    assert messages[0] == {"role": "system", "content": "<experience>"}
    assert system_msgs == ["You are Mike."]
    assert "2048" in messages[-1]["content"]


def test_role_zero_adapter_leaves_the_prompt_as_it_is_when_nothing_is_found(manager):
    agent, asked = role_zero(manager)
    assert ask(agent, "write a 2048 game").parents == ()
    assert asked[0][0] == turns("write a 2048 game")


def test_role_zero_adapter_searches_by_files_and_state_where_told_so(manager):
    """What its serializer picks is `request=` here; what answers is still decided by the whole call."""
    agent, asked = role_zero(
        manager,
        request=lambda self, *, req, system_msgs, state_data: " ".join(
            [*(m["content"] for m in req if "read file" in m["content"]), state_data["plan"]]
        ),
    )
    first = ask(agent, "go on", state_data={"plan": "aaaa"})
    other = ask(agent, "go on", state_data={"plan": "zzzz"})
    manager.sync.flush()
    found = ask(agent, "go on now", state_data={"plan": "aaab"})
    assert found.found_by is None
    assert found.parents == (first.id, other.id), "nearest in state first, though the prompts are the same"
    prompt = asked[2][0][-1]["content"]
    assert prompt.index("Request: aaaa") < prompt.index("Request: zzzz")
    assert prompt.endswith("# Instruction\ngo on now")


def test_action_node_adapter_puts_experiences_before_the_context(manager):
    contexts = []

    class ActionNode:
        @manager.exp_cache(
            name="ActionNode.fill", self_key=(), request="context", context_builder=ActionNodeContextBuilder()
        )
        async def fill(self, context, schema="json"):
            contexts.append(context)
            return {"title": context[-4:]}

    node = ActionNode()
    assert asyncio.run(node.fill("# context\nwrite a 2048 game")) == {"title": "game"}
    manager.sync.flush()
    answer = asyncio.run(node.fill.call("# context\nwrite a snake game"))
    assert contexts[0] == "# context\nwrite a 2048 game"
    assert len(answer.parents) == 1
    assert contexts[1].startswith("Similar requests")
    assert contexts[1].endswith("</experiences>\n\n# context\nwrite a snake game")
    assert '"title": "game"' in contexts[1]


def test_simple_context_builder_does_not_stringify_what_is_no_text(manager):
    seen = []

    @manager.exp_cache(context_builder=SimpleContextBuilder())
    def aask(req, n=0):
        seen.append(req)
        return "said"

    for req in ({"a": 1}, {"a": 2}):
        aask(req)
        manager.sync.flush()
    assert seen == [{"a": 1}, {"a": 2}]


def test_pluggable_context_builder(manager):
    class Mine:
        limit = 1

        def build(self, request, experiences):
            return f"{request} ({experiences[0].value} before)"

    assert isinstance(Mine(), ContextBuilder)
    seen = []

    @manager.exp_cache(context_builder=Mine())
    async def aask(req):
        seen.append(req)
        return req.upper()

    async def main():
        first = await aask.call("aab")
        await manager.flush()
        return first.id, (await aask.call("abb")).parents

    first, parents = asyncio.run(main())
    assert seen == ["aab", "abb (AAB before)"]
    assert parents == (first,)


def test_context_builders_hold_nothing_of_a_call(manager):
    """MetaGPT's hold the experiences of the call in hand: two at once show each other's."""
    builder = SimpleContextBuilder()
    experiences = [Experience(function="f", request=text, response=text) for text in ("one", "two")]

    async def build(experience):
        await asyncio.sleep(0)
        return builder.build("q", [experience])

    async def main():
        return await asyncio.gather(*map(build, experiences))

    first, second = asyncio.run(main())
    assert "one" in first
    assert "one" not in second
    assert builder == SimpleContextBuilder()
    with pytest.raises(AttributeError):
        builder.limit = 3
    assert not hasattr(builder, "__dict__")


def test_experiences_are_shown_by_inject_and_their_ids_recorded(manager):
    """MetaGPT records nothing about what it injected."""

    @manager.exp_cache(name="Engineer.plan", inject="experiences")
    def plan(req, experiences=()):
        return [e.value for e in experiences]

    seeded = manager.sync.create_exp(
        Experience.from_metagpt({"req": "write a 2048 game", "resp": "1. board", "tag": "Engineer.plan"})
    )
    manager.sync.flush()
    answer = plan.call("write a snake game")
    assert answer.value == ["1. board"]
    assert answer.parents == (seeded,)
    assert manager.sync.get_exp(answer.id).parents == [seeded]
