"""Each notebook runs, on the questions of the clone, and is kept without outputs."""

import json

import pytest
from support.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = ["01_explore", "02_clean_and_correct", "03_from_logs_to_training_data"]


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


# What is looked at in the kernel when the last cell has run.
RESULTS = {
    "01_explore": """
assert low.shape[0] > 0
assert topics["found.cluster"].nunique() > 3
assert gaps["request"].str.contains("sourdough").any()
assert not gaps["request"].isin(known[:1]).any()
assert len(change.added) == 1
""",
    "02_clean_and_correct": """
assert len(deleted.deleted) > 0
assert len(merged.changed) > 0
assert verified.count("passed") >= 1
assert corrected
""",
    "03_from_logs_to_training_data": """
assert manifest.rows > 1
assert manifest.sides["test"] > 0
assert len(fights) > 0
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_in_a_kernel(notebook):
    """As a user would run it, from the folder where it lies."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    pages = nbformat.read(notebook, as_version=4)
    pages.cells.append(nbformat.v4.new_code_cell(RESULTS[notebook.stem]))
    nbclient.NotebookClient(pages, timeout=300, resources={"metadata": {"path": str(notebook.parent)}}).execute()
