"""Guarantee 2: of what a function writes in its closure counts what was there at first; its own part does not."""

import collections
import dataclasses
import gc
import importlib
import sys
import threading
import warnings
import weakref

import pytest
from pydantic import BaseModel

from exp_pool import exp_cache, set_exp_manager
from exp_pool.api import function_registry
from exp_pool.core.identity import initial_contents
from exp_pool.core.identity.argument_source import Known
from exp_pool.core.identity.names import qualified_name


@pytest.fixture(autouse=True)
def manager(make_manager, monkeypatch):
    monkeypatch.setattr(function_registry, "_known", {})
    manager = make_manager(index="none://", embedder="none")
    set_exp_manager(manager)
    return manager


def asked(c):
    @exp_cache
    def ask(q):
        return c.run(q)

    return ask


def an_item_of_an_attribute(model):
    class Client:
        def __init__(self, model):
            self.params = {"model": model}

        def run(self, q):
            self.params["prompt"] = q
            return str(self.params)

    return asked(Client(model))


def computed_items_of_an_attribute(model):
    class Client:
        def __init__(self, model):
            self.params = {"model": model}

        def run(self, q):
            self.params[q] = 1
            return self.params["model"] + q

    return asked(Client(model))


def items_of_an_attribute_by_update(model):
    class Client:
        def __init__(self, model):
            self.params = {"model": model}

        def run(self, q):
            self.params |= {"prompt": q}
            self.params.update(last=q)
            return str(self.params)

    return asked(Client(model))


def an_attribute_that_is_rewritten(model):
    class Client:
        def __init__(self, model):
            self.model = model

        def run(self, q):
            self.model = self.model.strip()
            return self.model + q

    return asked(Client(model))


def an_attribute_that_was_of_the_class(model):
    class Client:
        def run(self, q):
            self.model = self.model.strip()
            return self.model + q

    Client.model = model
    return asked(Client())


@dataclasses.dataclass
class Settings:
    model: str
    calls: int = 0
    notes: dict = dataclasses.field(default_factory=dict)


class SettingsModel(BaseModel):
    model: str
    calls: int = 0


def a_dataclass_in_an_attribute(model):
    class Client:
        def __init__(self, model):
            self.settings = Settings(model)

        def run(self, q):
            self.settings = dataclasses.replace(self.settings)
            return self.settings.model + q

    return asked(Client(model))


def an_attribute_of_a_dataclass(model):
    data = Settings(model)

    @exp_cache
    def ask(q):
        data.model = data.model.strip()
        data.notes["q"] = q
        return data.model + q

    return ask


def a_number_that_is_bounded(model):
    class Client:
        def __init__(self, model):
            self.heat = float(len(model))

        def run(self, q):
            self.heat = max(self.heat, 0.5)
            return f"{self.heat} {q}"

    return asked(Client(model))


def an_item_by_setdefault(model):
    cfg = {"model": model}

    @exp_cache
    def ask(q):
        cfg.setdefault("temp", 1)
        cfg.pop("x", None)
        cfg.update(last=q)
        cfg.update({"more": q, "most": [q]})
        return cfg["model"] + q

    return ask


def an_item_that_is_given_and_read(model):
    cfg = {"model": model}

    @exp_cache
    def ask(q):
        return cfg.setdefault("model", "default") + q

    return ask


def items_of_a_dict_that_is_replaced(model):
    cfg = {"model": model}

    @exp_cache
    def ask(q):
        nonlocal cfg
        cfg |= {"last": q}
        return cfg["model"] + q

    return ask


def computed_items(model):
    cfg = {"model": model}

    @exp_cache
    def ask(q):
        cfg[q] = 1
        return cfg["model"] + q

    return ask


def a_chat(model):
    messages = [{"role": "system", "content": model}]

    @exp_cache
    def ask(q):
        messages.append({"role": "user", "content": q})
        return str([m["content"] for m in messages])

    return ask


def a_chat_in_an_object(model):
    class Chat:
        def __init__(self, model):
            self.messages = [model]

        def run(self, q):
            self.messages.append(q)
            return " ".join(self.messages)

    return asked(Chat(model))


def a_chat_in_an_item(model):
    state = {"messages": [model]}

    @exp_cache
    def ask(q):
        state["messages"].append(q)
        return " ".join(state["messages"])

    return ask


def a_chat_by_a_helper(model):
    messages = [model]

    def say(q):
        messages.append(q)
        return " ".join(messages)

    @exp_cache
    def ask(q):
        return say(q)

    return ask


def a_chat_in_a_deque(model):
    messages = collections.deque([model], maxlen=9)

    @exp_cache
    def ask(q):
        messages.append(q)
        return " ".join(messages)

    return ask


def a_chat_that_is_replaced(model):
    messages = [model]

    @exp_cache
    def ask(q):
        nonlocal messages
        messages = [*messages, q]
        return " ".join(messages)

    return ask


def a_text_that_is_rewritten(model):
    prompt = model

    @exp_cache
    def ask(q):
        nonlocal prompt
        prompt = prompt.strip()
        return prompt + q

    return ask


def attributes_of_a_thread(model):
    local = threading.local()
    local.model = model

    @exp_cache
    def ask(q):
        local.last = q
        return local.model + q

    return ask


def attributes_of_a_thread_by_name(model):
    local = threading.local()
    local.model = model

    @exp_cache
    def ask(q):
        return getattr(local, "model", "none") + q

    return ask


READ_AND_WRITTEN = [
    an_item_of_an_attribute, computed_items_of_an_attribute, items_of_an_attribute_by_update, an_attribute_that_is_rewritten,
    an_attribute_that_was_of_the_class, a_dataclass_in_an_attribute, an_attribute_of_a_dataclass, a_number_that_is_bounded,
    an_item_by_setdefault, an_item_that_is_given_and_read, items_of_a_dict_that_is_replaced, computed_items, a_chat,
    a_chat_in_an_object, a_chat_in_an_item, a_chat_by_a_helper, a_chat_in_a_deque, a_chat_that_is_replaced,
    a_text_that_is_rewritten, attributes_of_a_thread, attributes_of_a_thread_by_name,
]  # fmt: skip


@pytest.mark.parametrize("make", READ_AND_WRITTEN, ids=lambda m: m.__name__)
def test_what_is_written_counts_as_it_was_at_first(manager, make):
    small, large = make("small"), make("larger")
    assert small("q") != large("q")
    first = small("q"), large("q")
    assert (manager.stats().misses, manager.stats().hits, manager.stats().uncached) == (2, 2, 0)
    assert small("r") not in first
    # Made again, it is the same function; asked again after all of this, too.
    assert (make("small")("q"), small("q"), large("q")) == (first[0], *first)
    assert (manager.stats().misses, manager.stats().hits, manager.stats().uncached) == (3, 5, 0)


# What a function has for itself


class Counts:
    def __init__(self):
        self.calls, self.seen, self.log, self.last, self.client = 0, {}, [], None, None
        self.by_kind = {"calls": 0}

    def run(self, q):
        self.calls += 1
        self.by_kind["calls"] += 1
        self.log.append(q)
        self.log = self.log[-3:]
        self.last = q
        if self.client is None:
            self.client = object()
        if q not in self.seen:
            self.seen[q] = f"{q} {self.calls} {len(self.log)} {self.by_kind['calls']} {self.last}"
        return self.seen[q]


def an_object_that_counts():
    return asked(Counts())


def an_object_that_counts_by_a_sum():
    class Base:
        calls = 0

        def run(self, q):
            self.calls = self.calls + 1
            return q

    return asked(Base())


def an_object_that_counted_before():
    c = Counts()
    c.calls, c.by_kind["calls"] = len(_made), len(_made)
    _made.append(c)
    return asked(c)


_made = [None]


def a_memo_that_is_read():
    seen, calls = {}, []

    @exp_cache
    def ask(q):
        calls.append(q)
        if q not in seen:
            seen[q] = f"{q} {len(calls)}"
        return seen.setdefault(q, "") + str(seen.pop("x", ""))

    return ask


def a_list_that_is_only_written():
    calls = [object(), len(_made)]
    _made.append(1)

    @exp_cache
    def ask(q):
        calls.append(q)
        return q

    return ask


def a_memo_in_a_variable():
    kept = None

    @exp_cache
    def ask(q):
        nonlocal kept
        if kept is None:
            kept = q
        return [q, kept]

    return ask


def a_count_that_goes_on():
    calls = len(_made)
    _made.append(1)

    @exp_cache
    def ask(q):
        nonlocal calls
        calls += 1
        return [q, calls]

    return ask


def a_list_that_holds_what_has_no_identity():
    hooks = [object()]

    @exp_cache
    def ask(q):
        hooks.append(q)
        return [q, len(hooks)]

    return ask


def a_session_of_a_thread():
    local = threading.local()

    @exp_cache
    def ask(q):
        if not hasattr(local, "session"):
            local.session = object()
        return [q, local.session is None]

    return ask


OWN = [
    an_object_that_counts, an_object_that_counts_by_a_sum, an_object_that_counted_before, a_memo_that_is_read, a_list_that_is_only_written,
    a_memo_in_a_variable, a_count_that_goes_on, a_list_that_holds_what_has_no_identity, a_session_of_a_thread,
]  # fmt: skip


@pytest.mark.parametrize("make", OWN, ids=lambda m: m.__name__)
def test_what_a_function_has_for_itself_does_not_count(manager, make):
    ask = make()
    answers = [ask("q"), ask("r"), ask("q"), ask("r")]
    assert answers[2:] == answers[:2]
    assert make()("q") == answers[0]
    assert (manager.stats().misses, manager.stats().hits, manager.stats().uncached) == (2, 3, 0)


def test_a_list_that_functions_share_was_empty_for_all_of_them(manager):
    calls = []

    def make():
        @exp_cache
        def ask(q):
            calls.append(q)
            return [q, len(calls)]

        return ask

    assert make()("q") == make()("q") == make()("q")
    assert (manager.stats().misses, manager.stats().hits) == (1, 2)


@pytest.mark.parametrize("kind", [Settings, SettingsModel])
def test_a_setting_that_others_change_is_looked_at_anew(kind):
    class Client:
        def __init__(self, model):
            self.model, self.settings = model, kind(model=model)

        def run(self, q):
            self.model = self.model.strip()
            self.settings = self.settings or kind(model="default")
            return f"{self.model} {self.settings.model} {q}"

    client = Client("a")
    ask = asked(client)
    assert ask("q") == "a a q"
    client.model = "b"
    assert ask("q") == "b a q"
    client.settings = kind(model="c")
    assert ask("q") == "b c q"


def test_what_has_no_identity_and_is_replaced_runs_uncached(manager):
    class Engine:
        def __init__(self, model):
            self.model = model

    class Client:
        def __init__(self, model):
            self.engine = Engine(model)

        def run(self, q):
            self.engine = self.engine or Engine("default")
            return self.engine.model + q

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [asked(Client(model))("q") for model in "aba"] == ["aq", "bq", "aq"]


@pytest.mark.parametrize("place", ["an item", "an attribute"])
def test_an_object_of_which_something_is_counted_is_still_read(place):
    class Engine:
        def __init__(self, model):
            self.model, self.calls = model, 0

    class Client:
        def __init__(self, model):
            self.engine = Engine(model)

        def run(self, q):
            self.engine.calls += 1
            return self.engine.model + q

    def make(model):
        state = {"engine": Engine(model)}
        if place == "an attribute":
            return asked(Client(model))

        @exp_cache
        def ask(q):
            state["engine"].calls += 1
            return state["engine"].model + q

        return ask

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [make(model)("q") for model in "aba"] == ["aq", "bq", "aq"]


def test_other_threads_have_settings_of_their_own():
    local = threading.local()
    local.model = "a"

    @exp_cache
    def ask(q):
        return local.model + q

    def other():
        local.model = "b"
        answers.append(ask("q"))

    answers = [ask("q")]
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert [*answers, ask("q")] == ["aq", "bq", "aq"]


def test_what_was_noted_is_forgotten_with_what_it_was_noted_of(monkeypatch):
    monkeypatch.setattr(initial_contents, "_noted", {})

    class Held:
        pass

    class Client:
        def __init__(self):
            self.model = "m"

            @exp_cache
            def ask(q):
                self.model = self.model.strip()
                held.append(1)
                return [self.model, len(held)]

            held = [Held()]
            self.ask, self.held = ask, weakref.ref(held[0])

    def use():
        client = Client()
        client.ask("q")
        return weakref.ref(client), client.held

    monkeypatch.setattr(initial_contents, "_limit", [0])
    left = [use() for _ in range(3)]
    function_registry._known.clear()
    gc.collect()
    initial_contents._limit[0] = 0
    initial_contents._sweep()
    gc.collect()
    assert [(client(), held()) for client, held in left] == [(None, None)] * 3
    assert not initial_contents._noted


# Methods of what is closed over

KINDS = {
    "a plain class": "class Config:\n    def __init__(self, name):\n        self.name = name\n",
    "a dataclass": "@dataclasses.dataclass\nclass Config:\n    name: str\n",
    "a frozen dataclass with slots": "@dataclasses.dataclass(frozen=True, slots=True)\nclass Config:\n    name: str\n",
    "a model": "class Config(pydantic.BaseModel):\n    name: str\n    def __init__(self, name):\n        super().__init__(name=name)\n",
    "a named tuple": "class Config(typing.NamedTuple):\n    name: str\n",
    "a text": "class Config(str):\n    __slots__ = ()\n    name = property(str.__str__)\n",
}
HOLDING = ["{}", "[{}]", "{{'a': {}}}", "Holder({})", "Holder([{}])"]


def loaded(tmp_path, text):
    (tmp_path / "of_configs.py").write_text(text)
    importlib.invalidate_caches()
    sys.modules.pop("of_configs", None)
    return importlib.import_module("of_configs")


@pytest.mark.parametrize(
    ("kind", "holding"),
    # In a list, a plain object has no identity.
    [(kind, holding) for kind in KINDS for holding in HOLDING if kind != "a plain class" or holding == "{}"],
)
def test_an_edited_method_of_what_is_closed_over_is_asked_anew(manager, tmp_path, monkeypatch, kind, holding):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    taking = {
        "{}": "it",
        "[{}]": "it[0]",
        "{{'a': {}}}": "it['a']",
        "Holder({})": "it.held",
        "Holder([{}])": "it.held[0]",
    }
    text = (
        "import dataclasses, pydantic, typing\nfrom exp_pool import exp_cache\n"
        "@dataclasses.dataclass\nclass Holder:\n    held: object\n"
        + KINDS[kind]
        + "    def prompt(self, q):\n        return 'one ' + q\n"
        + f"def make():\n    it = {holding.format('Config(' + repr('n') + ')')}\n"
        + f"    @exp_cache\n    def ask(q):\n        return {taking[holding]}.prompt(q)\n    return ask\n"
    )
    assert loaded(tmp_path, text).make()("q") == "one q"
    assert loaded(tmp_path, text).make()("q") == "one q"
    assert (manager.stats().hits, manager.stats().uncached) == (1, 0)
    assert loaded(tmp_path, text.replace("'one '", "'two '")).make()("q") == "two q"
    sys.modules.pop("of_configs", None)


def test_data_without_methods_is_known_by_what_it_holds(manager):
    settings = Settings("m")

    @exp_cache(redact=())
    def ask(q):
        return [settings.model, q]

    ask("q")
    (stored,) = manager.sync.iter_exps()
    assert stored.arguments["<closure>"] == {"settings": {"model": "m", "calls": 0, "notes": {}}}


class Stack:
    """Its methods have the names of a collector's."""

    def __init__(self, model):
        self.model = model

    def pop(self, key="q"):
        return self.model + key

    def update(self, **more):
        return self.model + str(more)

    def run(self, q):
        return self.pop("q") + self.pop() + self.update(q=q)


def test_methods_of_a_collectors_names_are_followed(manager):
    def make(stack):
        @exp_cache
        def ask(q):
            return stack.pop("q") + stack.update(q=q) + stack.pop() + stack.run(q)

        return ask

    answers = [make(Stack(model))("q") for model in "aba"]
    assert answers[0] == answers[2] != answers[1]
    assert (manager.stats().hits, manager.stats().uncached) == (1, 0)


def test_keys_say_known_values_by_the_name_they_always_had():
    assert qualified_name(Known) == "exp_pool.closures.Known"
