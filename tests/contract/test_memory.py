import pytest

from exp_pool.stores.memory import MemoryStore
from exp_pool.testing import RecordStoreContract


class TestMemory(RecordStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()
