import pytest
from exp_pool.stores.memory import MemoryStore

from contract.record_store import RecordStoreContract


class TestMemory(RecordStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()
