"""Which settings hold, and who is told: files that are read or not, a hot tier that is away, scores that nobody gives."""

import json
import pickle

import pytest
from typer.testing import CliRunner

from exp_pool import ExpManager, ExpPoolConfig, Inject, PerfectJudge, SimpleContextBuilder, exp_cache
from exp_pool.api import decorator
from exp_pool.cli import app
from exp_pool.core import config
from exp_pool.core.ttl import as_text as duration
from exp_pool.core.ttl import to_seconds
from exp_pool.errors import ConfigurationError, ExpPoolWarning
from exp_pool.runtime.notices import Notices
from exp_pool.runtime.sizes import as_text as size
from exp_pool.runtime.sizes import to_bytes

AWAY = "redis://:secret@127.0.0.1:1/0"  # nothing listens there


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch):
    for module in (config, decorator):
        monkeypatch.setattr(module, "_notices", Notices())


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder of a project with a deeper one, in which we are."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "deeper")
    return tmp_path


# Where settings come from


def test_each_setting_says_where_it_came_from(project, monkeypatch):
    (project / "exp_pool.toml").write_text("max_entries = 5\nnamespace = 'file'\neviction = 'lfu'")
    monkeypatch.setenv("EXP_POOL_NAMESPACE", "environment")
    monkeypatch.setenv("exp_pool_eviction", "ttl")
    settings = ExpPoolConfig(eviction="fifo")
    assert settings.sources.keys() == ExpPoolConfig.model_fields.keys()
    wanted = {
        "max_entries": str(project / "exp_pool.toml"),
        "namespace": "environment: EXP_POOL_NAMESPACE",
        "eviction": "argument",
        "store": "default",
    }
    assert {name: settings.sources[name] for name in wanted} == wanted
    assert (settings.max_entries, settings.namespace, settings.eviction) == (5, "environment", "fifo")
    assert pickle.loads(pickle.dumps(settings)).sources == settings.sources
    with ExpManager(settings, embedder="none", index="none://", store="memory://") as manager:
        assert {name: manager.config.sources[name] for name in wanted} == {**wanted, "store": "argument"}
    (project / "exp_pool.toml").unlink()
    (project / "pyproject.toml").write_text("[tool.exp_pool]\nmax_entries = 6")
    assert ExpPoolConfig().sources["max_entries"] == f"{project / 'pyproject.toml'} [tool.exp_pool]"


def test_a_table_that_is_not_read_is_said(project):
    (project / "pyproject.toml").write_text("[tool.exp_pool]\nmax_entries = 6")
    (project / "exp_pool.toml").write_text("namespace = 'file'")
    with pytest.warns(
        ExpPoolWarning, match=r"\[tool.exp_pool\] of .*pyproject.toml is not read.*exp_pool.toml"
    ) as said:
        assert ExpPoolConfig().max_entries is None
        ExpPoolConfig()
    assert len(said) == 1


def test_a_damaged_pyproject_that_is_not_read_is_nobodys_business(project):
    (project / "pyproject.toml").write_text("[tool")
    (project / "exp_pool.toml").write_text("max_entries = 5")
    assert ExpPoolConfig().max_entries == 5
    (project / "exp_pool.toml").unlink()
    with pytest.raises(ConfigurationError, match=r"pyproject.toml cannot be read"):
        ExpPoolConfig()


def test_a_file_below_the_root_is_not_read_which_is_said(project):
    (project / "deep" / "exp_pool.toml").write_text("max_entries = 5")
    with pytest.warns(ExpPoolWarning, match=rf"deep/exp_pool.toml is not read.*root {project}; move it there"):
        assert ExpPoolConfig().max_entries is None


def test_where_there_is_no_project_the_settings_file_marks_the_root(project):
    (project / "pyproject.toml").unlink()
    (project / "exp_pool.toml").write_text("max_entries = 5\nstore = 'sqlite:///mine.db'")
    settings = ExpPoolConfig()
    assert (settings.max_entries, settings.store) == (5, f"sqlite:///{project}/mine.db")


def test_times_and_sizes_are_written_as_they_are_shown(monkeypatch):
    written = ExpPoolConfig(embed_timeout="1m30s", hot_bytes="2MiB", max_stream_bytes="1 GB")
    assert (written.embed_timeout, written.hot_bytes, written.max_stream_bytes) == (90, 2 * 2**20, 10**9)
    monkeypatch.setenv("EXP_POOL_HOT_TTL", "0")
    monkeypatch.setenv("EXP_POOL_HOT_BYTES", "0")
    assert (ExpPoolConfig().hot_ttl, ExpPoolConfig().hot_bytes) == (0, 0)
    for seconds in (0.25, 1, 2.5, 60, 90, 3600, 5400, 86400, 90 * 86400, 100_000):
        assert to_seconds(duration(seconds)) == seconds
    for count in (1, 999, 1000, 1024, 65536, 2**31, 200_000_000, 12_345):
        assert to_bytes(size(count)) == count
    assert (duration(0), duration(7776000), size(2**31), size(0)) == ("0s", "90d", "2GiB", "0B")


def test_the_command_says_which_file_won_and_shows_times_and_sizes_for_people(project):
    (project / "exp_pool.toml").write_text("max_entries = 5")
    shown = CliRunner().invoke(app, ["config", "--namespace", "mine"]).output
    rows = [line.split() for line in shown.splitlines()]
    for row in (
        ["max_entries", "5", "exp_pool.toml"],
        ["namespace", "mine", "option"],
        ["tombstone_retention", "90d", "default"],
        ["scan_bytes", "2GiB", "default"],
        ["load_timeout", "30s", "default"],
    ):
        assert row in rows
    found = json.loads(CliRunner().invoke(app, ["config", "--json"]).output)
    assert found["max_entries"] == {"value": 5, "from": "file", "file": str(project / "exp_pool.toml")}
    assert found["tombstone_retention"] == {"value": 7776000.0, "from": "default"}


# A hot tier that is away


def test_a_hot_tier_that_is_away_is_said_once_and_counted(make_manager):
    manager = make_manager(hot=AWAY, store_timeout=0.2)

    @manager.exp_cache(name="f")
    def f(req):
        return req

    with pytest.warns(ExpPoolWarning, match=r"the hot tier .*`hot`.* cannot be used, so the store answers") as said:
        assert [f(str(i)) for i in range(5)] == [str(i) for i in range(5)]
    assert len(said) == 1
    assert "secret" not in str(said[0].message)
    assert manager.stats().degraded > 0


def test_the_doctor_says_that_the_hot_tier_is_away(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/pool.db"
    with ExpManager(store=url, index="none://", embedder="none") as manager:
        manager.sync.warm_up()
    asked = ["doctor", "--store", url]
    assert CliRunner().invoke(app, asked).exit_code == 0
    monkeypatch.setenv("EXP_POOL_HOT", AWAY)
    for more in ([], ["--fix"]):
        done = CliRunner().invoke(app, [*asked, *more])
        assert done.exit_code == 1
        assert "the hot tier cannot be used" in done.output
        assert "nothing is damaged" not in done.output
        assert "mended" not in done.output
        assert "secret" not in done.output
    assert list(tmp_path.glob("pool.db*damaged*")) == [], "a sound store is not set aside for it"


def test_the_doctor_says_that_the_hot_tier_answers(make_manager, redis_url):
    manager = make_manager(hot=redis_url)
    assert manager.sync.doctor().facts["hot tier"] == "it answers"
    assert manager.sync.doctor().sound


# Scores that nobody gives

LEAST = {
    "the function's": {"min_score": 0.8},
    "the judge's": {"judge": PerfectJudge(0.8)},
    "what is injected": {"inject": Inject("shown", min_score=0.8)},
    "what is built": {"context_builder": SimpleContextBuilder(min_score=0.8)},
}


@pytest.mark.parametrize("options", LEAST.values(), ids=LEAST)
def test_a_least_score_without_a_scorer_is_said_where_it_is_written(options):
    def f(req, shown=()):
        return req

    with pytest.warns(ExpPoolWarning, match=r"\.f: .*min_score=0.8.*scorer=") as said:
        exp_cache(**options)(f)
    assert said[0].filename == __file__
    with pytest.warns(ExpPoolWarning, match="another") as said:  # with one there is nothing to say
        exp_cache(name="another", scorer="exact", **options)(f)
        exp_cache(name="another", min_score=0.5)(f)
    assert len(said) == 1
