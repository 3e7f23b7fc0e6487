"""Guarantee 2: of what a function writes in its closure counts what was there at first; its own part does not."""

import collections
import dataclasses
import gc
import threading
import warnings
import weakref

import pytest
from pydantic import BaseModel

from exp_pool import beginnings, exp_cache, places, set_exp_manager


@pytest.fixture(autouse=True)
def manager(make_manager, monkeypatch):
    monkeypatch.setattr(places, "_known", {})
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
        def __init__(self):
            self.params = {"model": model}

        def run(self, q):
            self.params["prompt"] = q
            return str(self.params)

    return asked(Client())


def computed_items_of_an_attribute(model):
    class Client:
        def __init__(self):
            self.params = {"model": model}

        def run(self, q):
            self.params[q] = 1
            return self.params["model"] + q

    return asked(Client())


def items_of_an_attribute_by_update(model):
    class Client:
        def __init__(self):
            self.params = {"model": model}

        def run(self, q):
            self.params |= {"prompt": q}
            self.params.update(last=q)
            return str(self.params)

    return asked(Client())


def an_attribute_that_is_rewritten(model):
    class Client:
        def __init__(self):
            self.model = model

        def run(self, q):
            self.model = self.model.strip()
            return self.model + q

    return asked(Client())


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
        def __init__(self):
            self.settings = Settings(model)

        def run(self, q):
            self.settings = dataclasses.replace(self.settings)
            return self.settings.model + q

    return asked(Client())


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
        def __init__(self):
            self.heat = float(len(model))

        def run(self, q):
            self.heat = max(self.heat, 0.5)
            return f"{self.heat} {q}"

    return asked(Client())


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
        def __init__(self):
            self.messages = [model]

        def run(self, q):
            self.messages.append(q)
            return " ".join(self.messages)

    return asked(Chat())


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
    monkeypatch.setattr(beginnings, "_noted", {})

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

    monkeypatch.setattr(beginnings, "_limit", [0])
    left = [use() for _ in range(3)]
    places._known.clear()
    gc.collect()
    beginnings._limit[0] = 0
    beginnings._sweep()
    gc.collect()
    assert [(client(), held()) for client, held in left] == [(None, None)] * 3
    assert not beginnings._noted
