"""Contract of vector indexes: `VectorIndexContract`. A test subclasses it and gives the index and a store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exp_pool.core.contracts.plugs import (
    IndexPartition,
    Neighbour,
    Put,
    RecordStore,
    RenewableIndex,
    VectorIndex,
    VectorQuery,
    VectorRow,
)
from exp_pool.core.record import Record, Vector
from exp_pool.testing.factories import row, unit

PARTITION = IndexPartition("n", "e")
POOL = "a pool"


class VectorIndexShape:
    """Contract even for an index that finds nothing."""

    def fill(
        self,
        store: RecordStore,
        index: VectorIndex,
        count: int = 50,
        namespace: str = "n",
        seed: int = 0,
        embedder: str = "e",
        **fields: Any,
    ) -> list[Record]:
        """Put rows into the store and hand them to the index.

        Args:
            store: the store.
            index: the index.
            count: of rows.
            namespace: of the rows.
            seed: of the random vectors.
            embedder: whose vectors they are.
            fields: of the rows, as for `factories.row`.
        """
        partition = IndexPartition(namespace, embedder)
        index.generation(partition, POOL)
        rows = [row(f"r{i}", namespace=namespace, id=f"{namespace}-{i}", **fields) for i in range(count)]
        vectors = [Vector(embedder, v.tobytes()) for v in unit(seed, count)]
        store.put_many([Put(r, vector=v) for r, v in zip(rows, vectors, strict=True)])
        index.upsert_many(
            partition,
            [
                VectorRow(r.id, namespace, r.function, r.version, r.reuse_scope, 0, v)
                for r, v in zip(rows, vectors, strict=True)
            ],
        )
        self.complete(index, partition)
        return rows

    def complete(self, index: VectorIndex, partition: IndexPartition) -> None:
        """Mark that everything was handed over."""
        if isinstance(index, RenewableIndex):
            index.complete(partition)

    def ask(
        self,
        index: VectorIndex,
        vectors: np.ndarray,
        limit: int = 5,
        namespace: str = "n",
        embedder: str = "e",
        **scope: Any,
    ) -> list[list[Neighbour]]:
        """Search the index.

        Args:
            index: the index.
            vectors: (n, d) queries.
            limit: hits for each.
            namespace: where to search.
            embedder: whose vectors they are.
            scope: other fields of `VectorQuery`.
        """
        return index.search(VectorQuery(namespace, embedder, vectors, limit, **scope))

    def test_it_is_a_vector_index(self, index: VectorIndex) -> None:
        assert isinstance(index, VectorIndex)
        assert isinstance(index.generation(PARTITION, POOL), str)

    def test_an_empty_index_finds_nothing(self, index: VectorIndex) -> None:
        assert self.ask(index, unit(1, 2)) == [[], []]

    def test_closing_twice_is_fine(self, store: RecordStore, index: VectorIndex) -> None:
        self.fill(store, index, 2)
        index.close()
        index.close()


class VectorIndexContract(VectorIndexShape):
    """Everything that `exp_pool.core.contracts.plugs.VectorIndex` promises; what it finds must be exact for 50 rows.

    ::

        class TestMine(VectorIndexContract):
            @pytest.fixture
            def store(self):
                return MemoryStore()

            @pytest.fixture
            def index(self, tmp_path):
                index = MyIndex(tmp_path)
                yield index
                index.close()
    """

    def test_nearest_first_with_cosine_similarity(self, store: RecordStore, index: VectorIndex) -> None:
        self.fill(store, index)
        vectors, queries = unit(0, 50), unit(1, 3)
        found = self.ask(index, queries)
        for query, neighbours in zip(queries, found, strict=True):
            similarities = vectors @ query
            best = np.argsort(-similarities)[:5]
            assert [n.id for n in neighbours] == [f"n-{i}" for i in best]
            assert [n.similarity for n in neighbours] == pytest.approx(similarities[best], abs=1e-5)

    def test_fewer_rows_than_asked_for(self, store: RecordStore, index: VectorIndex) -> None:
        self.fill(store, index, 3)
        assert len(self.ask(index, unit(1), 10)[0]) == 3

    def test_scope_is_applied_before_ranking(self, store: RecordStore, index: VectorIndex) -> None:
        self.fill(store, index, 40, function="f", version="1")
        namespaces = self.ask(index, unit(1), 5, function="nobody"), self.ask(index, unit(1), 5, version="2")
        assert namespaces == ([[]], [[]])
        assert len(self.ask(index, unit(1), 5, function="f", version="1")[0]) == 5
        scope = row("r0").reuse_scope
        assert self.ask(index, unit(1), 5, reuse_scope=scope + "x") == [[]]

    def test_identical_vectors_of_other_namespaces_and_embedders_are_not_seen(
        self, store: RecordStore, index: VectorIndex
    ) -> None:
        for namespace in ("n", "m"):
            self.fill(store, index, 20, namespace=namespace)
        assert {n.id[0] for n in self.ask(index, unit(0), 20)[0]} == {"n"}
        assert {n.id[0] for n in self.ask(index, unit(0), 20, namespace="m")[0]} == {"m"}
        assert self.ask(index, unit(0), 20, embedder="other") == [[]]

    def test_deleted_rows_are_forgotten(self, store: RecordStore, index: VectorIndex) -> None:
        rows = self.fill(store, index, 10)
        gone = [r.id for r in rows[:4]]
        store.delete_many("n", gone)
        index.delete_many(PARTITION, [*gone, "nothing", *gone])  # one that came back and went again is told of twice
        assert {n.id for n in self.ask(index, unit(1), 20)[0]} == {r.id for r in rows[4:]}

    def test_a_cleared_namespace_is_empty_and_can_be_filled_again(self, store: RecordStore, index: VectorIndex) -> None:
        self.fill(store, index, 5)
        self.fill(store, index, 5, namespace="m")
        store.clear("n")
        index.clear("n", POOL)
        assert self.ask(index, unit(1), 20) == [[]]
        assert len(self.ask(index, unit(1), 20, namespace="m")[0]) == 5
        self.fill(store, index, 5, seed=3)
        assert len(self.ask(index, unit(1), 20)[0]) == 5

    @pytest.mark.parametrize("id_", ["a b", "\0", "\ud800", "é" * 300, "x:00", "'"])
    def test_any_id_comes_back(self, store: RecordStore, index: VectorIndex, id_: str) -> None:
        (vector,) = unit(0)
        kept = row(id=id_)
        store.put_many([Put(kept, vector=Vector("e", vector.tobytes()))])
        index.generation(PARTITION, POOL)
        index.upsert_many(PARTITION, [VectorRow(id_, "n", "f", "", kept.reuse_scope, 0, Vector("e", vector.tobytes()))])
        self.complete(index, PARTITION)
        assert [n.id for n in self.ask(index, unit(0))[0]] == [id_]
        store.delete_many("n", [id_])
        index.delete_many(PARTITION, [id_])
        assert self.ask(index, unit(0)) == [[]]
