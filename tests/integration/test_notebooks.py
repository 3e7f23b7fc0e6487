"""Each notebook runs on the real data and without them, and is kept without outputs."""

import json
import sys
from pathlib import Path

import pytest
from conftest import DATA

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
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
@pytest.mark.parametrize("data", ["real data", "made up"])
def test_they_run(data, tmp_path, monkeypatch, capsys):
    """Cell by cell, as a kernel would; `make notebooks` uses a kernel. Both ways in one process load the model once."""
    matplotlib = pytest.importorskip("matplotlib")
    if data == "real data" and not (DATA / "question_pairs.jsonl.gz").exists():
        pytest.skip("no real data: set EXP_POOL_TEST_DATA to the folder that holds them")
    monkeypatch.setenv("EXP_POOL_TEST_DATA", str(DATA if data == "real data" else tmp_path / "nowhere"))
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
    shown = capsys.readouterr().out
    assert ("MetaGPT" in shown or "engineer_exps.json" in shown) == (data == "real data")
