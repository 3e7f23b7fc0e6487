"""What the Chroma index does beyond the contract: reopening, permissions, many threads."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from exp_pool.errors import VectorIndexError
from exp_pool.search.indexes.chroma import ChromaIndex
from exp_pool.stores.memory import MemoryStore
from exp_pool.testing import VectorIndexShape
from exp_pool.testing.factories import unit
from exp_pool.testing.vector_index import PARTITION, POOL


class TestFolder(VectorIndexShape):
    @pytest.fixture
    def store(self):
        return MemoryStore()

    @pytest.fixture
    def index(self, tmp_path):
        index = ChromaIndex(tmp_path / "pool" / "chroma")
        yield index
        index.close()

    def test_it_is_still_there_after_reopening(self, store, index, tmp_path):
        self.fill(store, index)
        before, generation = self.ask(index, unit(1)), index.generation(PARTITION, POOL)
        index.close()
        again = ChromaIndex(tmp_path / "pool" / "chroma")
        assert (again.generation(PARTITION, POOL), again.doubt(PARTITION)) == (generation, "")
        assert self.ask(again, unit(1)) == before
        again.close()

    def test_files_are_for_this_user_only_and_hold_no_text(self, store, index, tmp_path):
        self.fill(store, index, 5, function="secret_function")
        index.close()
        paths = list((tmp_path / "pool").rglob("*"))
        assert {stat.S_IMODE(p.stat().st_mode) for p in paths if p.is_dir()} == {0o700}
        assert {stat.S_IMODE(p.stat().st_mode) for p in paths if p.is_file() and p.name != ".gitignore"} == {0o600}
        everything = b"".join(p.read_bytes() for p in paths if p.is_file())
        assert b"secret_function" not in everything

    def test_many_threads_at_once(self, store, index):
        self.fill(store, index)
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda i: self.ask(index, unit(i % 4)), range(64)))
        assert all(found[i] == found[i % 4] for i in range(64))

    def test_a_folder_that_cannot_be_is_named(self, tmp_path):
        (tmp_path / "file").touch()
        index = ChromaIndex(tmp_path / "file" / "chroma")
        with pytest.raises(VectorIndexError, match="file/chroma"):
            index.generation(PARTITION, POOL)
