"""Settings: a wrong one is named, and no password is shown."""

import pytest
from pydantic import ValidationError

from exp_pool.core.config import ExpPoolConfig
from exp_pool.errors import (
    ExpPoolWarning,
)
from exp_pool.runtime.notices import Notices


@pytest.mark.parametrize(
    "setting",
    [{"store_timeout": 0}, {"namespace": ""}, {"enabled": "perhaps"}, {"default_ttl": "soon"}, {"stores": "x"}],
)
def test_wrong_settings_are_named(setting):
    with pytest.raises(ValueError, match=next(iter(setting)) if "ttl" not in str(setting) else "ttl"):
        ExpPoolConfig(**setting)


def test_settings_are_shown_without_passwords():
    config = ExpPoolConfig(
        store="mysql://me:hunter2@host/db", index="milvus://h?token=hunter2", hot="redis://:hunter2@h"
    )
    assert config.store == "mysql://me:hunter2@host/db"
    assert [text.count("***") for text in (repr(config), str(config), f"{[config]}")] == [3, 3, 3]
    assert "hunter2" not in repr(config) + str(config)


@pytest.mark.parametrize("name", ["stoer", "zzz"])
def test_an_unknown_setting_shows_no_password_of_any(name):
    with pytest.raises(ValidationError, match=f"unknown setting '{name}'") as caught:
        ExpPoolConfig(**{name: "mysql://me:hunter2@h", "store": "mysql://me:hunter2@h"})
    assert "mysql://me:***@h" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_variable_that_is_no_setting_is_said_once(monkeypatch):
    for name in ("EXP_POOL_STOER", "exp_pool_indx", "EXP_POOL_ABCDEFGHIJKL", "EXP_POOL_STORE_TIMEOUT", "XEXP_POOL_A"):
        monkeypatch.setenv(name, "3")
    for name in ("EXP_POOL_TEST_ANYTHING", "EXP_POOL_FULL", "EXP_POOL_REQUIRE_SERVICES", "EXP_POOL_ONNX_CACHE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr("exp_pool.core.config._notices", Notices())
    with pytest.warns(ExpPoolWarning) as caught:
        assert [ExpPoolConfig().store_timeout, ExpPoolConfig().store_timeout] == [3, 3]
    said = sorted(str(warning.message) for warning in caught)
    assert len(said) == 3
    assert "EXP_POOL_ABCDEFGHIJKL is no setting and changes nothing; known: EXP_POOL_{STORE,INDEX," in said[0]
    assert said[1].endswith("EXP_POOL_STOER is no setting and changes nothing; did you mean EXP_POOL_STORE?")
    assert said[2].endswith("exp_pool_indx is no setting and changes nothing; did you mean EXP_POOL_INDEX?")


def test_every_setting_is_known_to_type_checkers():
    from exp_pool.core.config import ExpPoolConfig
    from exp_pool.core.settings import Settings

    plugs = {"store", "index", "embedder", "reranker"}
    assert set(Settings.__annotations__) == set(ExpPoolConfig.model_fields) - plugs
