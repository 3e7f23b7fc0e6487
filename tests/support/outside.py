"""``pytest --outside``: only the tests that the last run skipped for want of what no clone has: servers, large data.

So CI runs everything once in a clone on its own, and then what is left beside servers and data, but nothing twice.
Which tests these are is not marked but seen, so no mark can be forgotten.
"""

import pytest
from support.servers import OUTSIDE

KEPT = "exp_pool/outside"  # of pytest's own cache


def pytest_addoption(parser):
    parser.addoption(
        "--outside", action="store_true", help="only what the last run skipped for want of servers or data"
    )


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Skipped(config), "outside-skipped")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--outside"):
        return
    wanted = config.cache.get(KEPT, None)
    if wanted is None:
        raise pytest.UsageError("--outside runs what the last run skipped, and there was none: run the tests first")
    wanted = set(wanted)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in wanted])
    items[:] = [item for item in items if item.nodeid in wanted]


class _Skipped:
    """Hears of all tests, also of those that workers run."""

    def __init__(self, config):
        self.config, self.tests = config, set()

    def pytest_runtest_logreport(self, report):
        if report.skipped and isinstance(report.longrepr, tuple) and OUTSIDE in report.longrepr[2]:
            self.tests.add(report.nodeid)

    def pytest_sessionfinish(self):
        if not self.config.getoption("--outside") and hasattr(self.config, "cache"):
            self.config.cache.set(KEPT, sorted(self.tests))
