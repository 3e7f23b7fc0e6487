import pytest
from contract.record_store import RecordStoreContract

from exp_pool.stores.memory import MemoryStore


class TestMemory(RecordStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()
