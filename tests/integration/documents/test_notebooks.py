"""Each notebook runs, on the questions of the clone, and is kept without outputs."""

import json
import sys

import pytest
from support.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = ["01_explore", "02_clean_and_correct", "03_from_logs_to_training_data"]


def cells(notebook, kind="code"):
    found = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def test_they_are_all_there():
    assert [notebook.stem for notebook in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_kept_without_outputs(notebook):
    kept = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in kept["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert set(kept["metadata"]) <= {"kernelspec", "language_info"}
    assert kept["metadata"]["language_info"] == {"name": "python"}  # a version would change with who runs it


@pytest.mark.slow
def test_they_run(monkeypatch):
    """Cell by cell, as a kernel would, from where one starts; `make notebooks` uses a kernel."""
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.chdir(NOTEBOOKS[0].parent)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules[__name__])
    with matplotlib.rc_context({"backend": "agg"}):
        for notebook in NOTEBOOKS:
            names = {"__name__": "__main__"}
            for number, source in enumerate(cells(notebook)):
                exec(compile(source, f"{notebook.stem}[{number}]", "exec"), names)
            if notebook.stem.startswith("01"):
                assert names["low"].shape[0] > 0
                assert names["topics"]["found.cluster"].nunique() > 3
                assert names["gaps"]["request"].str.contains("sourdough").any()
                assert not names["gaps"]["request"].isin(names["known"][:1]).any()
                assert len(names["change"].added) == 1
            elif notebook.stem.startswith("02"):
                assert len(names["deleted"].deleted) > 0
                assert len(names["merged"].changed) > 0
                assert names["verified"].count("passed") >= 1
                assert names["corrected"]
            else:
                assert names["manifest"].rows > 1
                assert names["manifest"].sides["test"] > 0
                assert len(names["fights"]) > 0
