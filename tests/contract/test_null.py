import pytest

from exp_pool.stores.null import NullStore
from exp_pool.testing import RecordStoreShape


class TestNull(RecordStoreShape):
    @pytest.fixture
    def store(self):
        return NullStore()
