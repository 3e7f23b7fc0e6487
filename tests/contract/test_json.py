import pytest

from exp_pool.stores.json.store import JsonStore
from exp_pool.testing import RecordStoreContract
from exp_pool.testing.factories import NASTY_TEXTS, put, row


class TestJson(RecordStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = JsonStore(tmp_path / "pool")
        yield store
        store.close()

    def test_another_store_sees_what_was_acknowledged(self, store):
        rows = [row(text, text, namespace=text or "-", id=text or "id", principal=text) for text in NASTY_TEXTS]
        put(store, *rows)
        other = JsonStore(store.path)
        assert [other.get_many(r.namespace, [r.key]) for r in rows] == [[r] for r in rows]
        other.close()
