"""Scorers by name, ours and a stranger's; classes; what is refused where it is written."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points

import pytest
from support.paths import ROOT
from support.raters import always, cached

from exp_pool.api.registry import load_scorer
from exp_pool.errors import (
    ConfigurationError,
)

# By name


def test_every_name_of_ours_is_installed_and_says_what_it_needs():
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["exp_pool.scorers"]
    assert sorted(ours) == ["composite", "exact", "execution", "feedback", "llm", "rules", "similarity"]
    installed = {entry.name: entry.value for entry in entry_points(group="exp_pool.scorers")}
    assert ours.items() <= installed.items(), "install the project again: its entry points have changed"
    for name in ("exact", "execution", "feedback", "similarity"):
        assert load_scorer(name).name == name
    for name in ("composite", "llm", "rules"):
        with pytest.raises(
            ConfigurationError, match=rf"scorer={name!r} needs settings.*from exp_pool.scorers\.{name} import"
        ) as needs:
            load_scorer(name)
    assert "rubric" not in str(needs.value)


def test_a_name_that_is_not_installed_lists_those_that_are(make_manager):
    with pytest.raises(ConfigurationError, match=r"scorer='nobody' is not installed; installed: .*exact"):
        make_manager().exp_cache(scorer="nobody")(lambda req: req)
    with pytest.raises(ConfigurationError, match="not installed"):
        make_manager().sync.score_exps("nobody")


STRANGER = """
from exp_pool import Score

class Polite:
    name, version = "polite", "3"
    async def __call__(self, context):
        return Score(value=float("please" in context.value), reason="said please, or not")

class Picky:
    def __init__(self, taste): ...

def plain(context):
    return Score(value=0.5)
"""

USE = """
from exp_pool import ExpManager
from exp_pool.errors import ConfigurationError
from exp_pool.api.registry import load_scorer

with ExpManager(store="memory://", index="none://") as pool:
    @pool.exp_cache(scorer="polite")
    def ask(req):
        return f"{req}, please"
    ask("bread")
    pool.sync.flush()
    (kept,) = pool.sync.iter_exps()
    print(kept.score.value, kept.score.scorer, kept.score.version)
    print(pool.sync.score_exps("plain").scored)
for name in ("picky", "broken", "nobody"):
    try:
        load_scorer(name)
    except ConfigurationError as err:
        print(err)
"""


def test_a_strangers_package(tmp_path):
    (tmp_path / "polite_scorers.py").write_text(STRANGER)
    info = tmp_path / "polite_scorers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: polite-scorers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[exp_pool.scorers]\npolite = polite_scorers:Polite\npicky = polite_scorers:Picky\n"
        "plain = polite_scorers:plain\nbroken = no_such_module:X\n"
    )
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{USE}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    first, second, picky, broken, nobody = done.stdout.splitlines()
    assert (first, second) == ("1.0 polite 3", "1"), done.stderr
    assert "from polite_scorers import Picky, and scorer=Picky(taste=...)" in picky
    assert "no_such_module" in broken
    assert nobody.startswith("scorer='nobody' is not installed; installed: broken, ")
    assert "picky, plain, polite" in nobody


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"concurrency": True}, {"timeout_s": 0}, {"name": "a@b"}, {"version": 3}]
)
def test_a_scorer_whose_attributes_cannot_be(make_manager, wrong):
    scorer = always(1.0)
    for name, value in wrong.items():
        setattr(scorer, name, value)
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        cached(make_manager(), scorer)


def test_a_projects_own_scorers_module_is_in_nobodys_way(tmp_path):
    """A file of that name is likely where models are evaluated."""
    (tmp_path / "scorers.py").write_text("MINE = True\n")
    program = (
        "import scorers\nfrom exp_pool import ExpManager\nfrom exp_pool.scorers.llm import LLMScorer\n"
        "m = ExpManager(store='memory://', index='none://', embedder='none')\n"
        "@m.exp_cache(scorer='exact')\ndef f(q):\n    return q\n"
        "f('a')\nprint(scorers.MINE, LLMScorer.__module__)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path, env=env
    )
    assert done.stdout == "True exp_pool.scorers.llm\n", done.stderr
