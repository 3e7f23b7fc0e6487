"""Contract suites for strangers show what their asserts compared."""

import importlib.util
from pathlib import Path


def test_contracts_for_strangers_show_what_their_asserts_compared():
    from exp_pool import testing

    for module in testing._CONTRACTS:
        assert importlib.util.find_spec(f"exp_pool.testing.{module}") is not None, module
    inside = {path.stem for path in Path(testing.__file__).parent.glob("_*.py")} - {"__init__"}
    assert inside <= set(testing._CONTRACTS)
