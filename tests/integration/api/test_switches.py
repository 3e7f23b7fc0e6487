"""Switches mean what they say."""

import pytest

from exp_pool import Experience, ExpManager, snapshots
from exp_pool.errors import NotFoundError, ReadOnlyError


@pytest.fixture
def manager():
    with ExpManager(store="memory://", index="none://", embedder="none") as made:
        yield made


def test_what_the_main_switch_turns_off_is_off(manager):
    assert manager.is_readable
    assert manager.is_writable
    manager.enabled = False
    assert not manager.is_readable
    assert not manager.is_writable
    manager.is_writable = False
    manager.enabled = True
    assert manager.is_readable
    assert not manager.is_writable, "what was set meanwhile holds"
    manager.sync.close()
    assert not manager.is_readable, "nobody is answered by a closed manager"


def test_settings_are_the_switches():
    with ExpManager(store="memory://", index="none://", enable_read=False, enable_write=False) as manager:
        assert not (manager.is_readable or manager.is_writable)
    with ExpManager(store="memory://", index="none://", enabled=False) as manager:
        assert not (manager.is_readable or manager.is_writable)


CHANGES = {
    "create_exp": lambda pool, id_: pool.create_exp(Experience(function="f", request="another", response="yes")),
    "create_exps": lambda pool, id_: pool.create_exps([Experience(function="f", request="another", response="yes")]),
    "update_exp": lambda pool, id_: pool.update_exp(id_, model="m"),
    "annotate": lambda pool, id_: pool.annotate(id_, expected="no"),
    "feedback": lambda pool, id_: pool.feedback(id_, 1.0),
    "delete_exp": lambda pool, id_: pool.delete_exp(id_),
    "delete_exps": lambda pool, id_: pool.delete_exps({"function": "f"}),
    "delete_all_exps": lambda pool, id_: pool.delete_all_exps(),
    "erase": lambda pool, id_: pool.erase({"function": "f"}),
    "clear_expired": lambda pool, id_: pool.clear_expired(),
    "clear_by_key": lambda pool, id_: pool.clear_by_key("key"),
    "score_exps": lambda pool, id_: pool.score_exps(lambda context: None),
}


@pytest.mark.parametrize("switch", ["is_writable", "enabled"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_by_hand_is_refused_where_nothing_may_be_written(manager, change, switch):
    id_ = manager.sync.create_exp(Experience(function="f", request="hi", response="yes"))
    before = list(manager.sync.iter_exps(history=True))
    setattr(manager, switch, False)
    with pytest.raises(ReadOnlyError, match=rf"{switch} is off: set manager\.{switch} = True"):
        change(manager.sync, id_)
    assert list(manager.sync.iter_exps(history=True)) == before, "queries go on"
    setattr(manager, switch, True)
    try:
        change(manager.sync, id_)
    except NotFoundError:
        pytest.fail("it is there")


def test_what_a_function_is_told_to_forget_is_refused_too(manager):
    ask = manager.exp_cache(name="ask")(lambda question: question)
    ask("hi")
    manager.is_writable = False
    for forget in (lambda: ask.invalidate("hi"), ask.cache_clear):
        with pytest.raises(ReadOnlyError):
            forget()
    assert ask.call("hi").found_by == "exact"


def test_a_snapshot_is_not_loaded_where_nothing_may_be_written(manager, tmp_path):
    manager.sync.create_exp(Experience(function="f", request="hi", response="yes"))
    snapshots.save(manager, tmp_path)
    with ExpManager(store="memory://", index="none://", embedder="none", enable_write=False) as other:
        with pytest.raises(ReadOnlyError):
            snapshots.load(other, tmp_path)
        assert other.sync.get_exps_count() == 0
