"""DSPy demonstrations: a JSON object with the examples of each function.

``{"app.answer": {"inputs": ["question"], "outputs": ["answer"], "demos": [{"question": ..., "answer": ...}]}}``. To
use them: ``dspy.Example(**demo).with_inputs(*inputs)``, or ``predictor.demos = demos``.
"""

from __future__ import annotations

from typing import Any

from exp_pool.core.experience import Experience
from exp_pool.core.identity.arguments import BESIDE
from exp_pool.core.values.encoding import to_plain
from exp_pool.curation.exporters.output import Output, as_json
from exp_pool.curation.exporters.selection import ExportSelection

FOLDER = False
TRAINING = True
_ANSWER = "answer"


def write(selection: ExportSelection, output: Output) -> None:
    """One demo for each experience. Inputs are the arguments; a dict as answer gives an output for each member."""
    for side in selection.sides:
        functions: dict[str, dict[str, Any]] = {}
        count = 0
        for experience in selection.experiences(side):
            inputs, outputs = _fields(experience)
            demos = functions.setdefault(experience.function, {"inputs": {}, "outputs": {}, "demos": []})
            demos["inputs"] |= dict.fromkeys(inputs)
            demos["outputs"] |= dict.fromkeys(outputs)
            demos["demos"].append({**inputs, **outputs})
            count += 1
        listed = {
            name: {**demos, "inputs": list(demos["inputs"]), "outputs": list(demos["outputs"])}
            for name, demos in functions.items()
        }
        with output.file(f"{side}.json", side) as file:
            file.write(as_json(listed))
            file.rows = count


def _fields(experience: Experience) -> tuple[dict[str, Any], dict[str, Any]]:
    inputs = {name: to_plain(value) for name, value in experience.arguments.items() if name not in BESIDE}
    value = to_plain(experience.value)
    named = value if isinstance(value, dict) and value and value.keys().isdisjoint(inputs) else None
    if named is not None and all(name.isidentifier() for name in named):
        return inputs, named
    name = _ANSWER if _ANSWER not in inputs else f"{_ANSWER}_"
    return inputs, {name: value}
