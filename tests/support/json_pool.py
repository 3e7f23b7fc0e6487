"""What tests of ``json:///`` look at: its files."""

import json

from exp_pool.protocols import RecordQuery


def files(store):
    """Every file that is not hidden and not of the pool itself."""
    return sorted(p for p in store.path.rglob("*.json") if p.name != "pool.json" and ".state" not in p.parts)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=2))


def only(store, **how):
    (found,) = store.scan(RecordQuery("n", **how))
    return found


def assert_sound(store):
    """One current row of each key; files and memory agree; nothing was set aside."""
    assert store.check() == []
    rows = list(store.scan(RecordQuery(None, history=True)))
    current = [(r.namespace, r.key) for r in rows if r.is_current]
    assert len(current) == len(set(current))
    assert len(rows) == len(files(store))
    assert not list(store.path.rglob("*.new"))
