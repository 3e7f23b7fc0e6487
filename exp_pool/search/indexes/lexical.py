"""Lexical search: BM25 over the requests of one namespace, in memory, brought up to date before each search.

It follows `RecordStore.requests_after` as `exact` follows the vectors, so it works on every store, with no embedder
and no vector index, and has nothing to damage.

On numpy, because what there is costs more: FTS5 took 80 ms for a question among 100,000 on the machine where this
takes 2.3 ms, and cannot say what a request itself would score; bm25s takes no new documents.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from exp_pool.core.contracts.plugs import Neighbour, RecordStore, RequestRow
from exp_pool.core.tokenizer import words
from exp_pool.core.values.vectors import top
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.search.bm25 import damping, rarity

_PAGE = 1000  # requests read at once: few round trips, and some megabytes where they are long
_MAX_BYTES = 2**29  # some two million short requests
_SPARE_DEAD = 1000  # rows that are gone are kept, marked, until they are more than those that live


@dataclass(frozen=True, slots=True)
class LexicalQuery:
    """A search for words. A field that is not None restricts the rows before they are ranked."""

    namespace: str
    text: str
    limit: int
    function: str | None = None
    version: str | None = None
    ids: Sequence[str] | None = None


@reinit_after_fork()
class LexicalIndex:
    """Finds requests by words.

    Args:
        store: whose requests are searched.
        max_bytes: kept in memory, about. Beyond it the namespaces that were searched longest ago are dropped; the one
            that is searched is kept whatever its size.
    """

    def __init__(self, store: RecordStore, max_bytes: int = _MAX_BYTES) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._tables: OrderedDict[str, _InvertedIndex] = OrderedDict()

    def search(self, query: LexicalQuery) -> list[Neighbour]:
        """At most `limit` rows that have a word in common with the text, best first; some may be gone by now.

        The similarity is the row's BM25 score as a share of what the text itself would get: 0 to 1, and 1.0 for an
        identical request. A shorter one that holds all the rare words would get more than that: it, too, gets 1.0.

        Raises:
            StoreError: the store failed.
        """
        with self._lock:
            return self._table(query.namespace).best(query)

    def forget(self, namespace: str, ids: Iterable[str]) -> None:
        """Drop rows that are gone, or history: they need not be ranked again."""
        with self._lock:
            table = self._tables.get(namespace)
            if table is not None:
                for id_ in ids:
                    table.remove(id_)
                if table.dead > len(table) + _SPARE_DEAD:
                    del self._tables[namespace]  # the next search reads those that live

    def close(self) -> None:
        """Give back the memory. What is searched later is read from the store anew."""
        with self._lock:
            self._tables.clear()

    def _table(self, namespace: str) -> _InvertedIndex:
        table = self._tables.get(namespace) or _InvertedIndex()
        while rows := self._store.requests_after(namespace, table.position, _PAGE):
            self._tables.pop(namespace, None)  # who is interrupted leaves none that is half written
            for row in rows:
                table.put(row)
            self._tables[namespace] = table
            if len(rows) < _PAGE:
                break
        self._tables[namespace] = table
        self._tables.move_to_end(namespace)  # the last one is the one searched last
        while len(self._tables) > 1 and sum(kept.nbytes for kept in self._tables.values()) > self._max_bytes:
            self._tables.popitem(last=False)
        return table


class _InvertedIndex:
    """The inverted index of one namespace's requests: of each word the rows that have it. Not thread-safe.

    Arrays are copied for each search: a view that a traceback keeps alive would keep its array from growing.
    """

    def __init__(self) -> None:
        self.position = 0
        self.dead = 0
        self._ids: list[str] = []
        self._place_of: dict[str, int] = {}
        self._lengths = array("I")  # words of each row; 0: it is gone, or has none
        self._scopes = array("I"), array("I")  # the numbers of its function and its version
        self._numbers: dict[str, int] = {}
        self._places: dict[str, array[int]] = {}  # of each word: where it stands, and how often
        self._entries = 0

    def __len__(self) -> int:
        return len(self._place_of)

    def __bool__(self) -> bool:
        return True  # an empty one has its position, too

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about: ids, words and arrays are objects, which have some hundred each."""
        return 8 * self._entries + 250 * (len(self._ids) + len(self._places))

    def put(self, row: RequestRow) -> None:
        """Add a row, or replace it where its request has changed."""
        self.remove(row.id)
        place = self._place_of[row.id] = len(self._ids)
        self._ids.append(row.id)
        counts = Counter(words(row.request))
        for word, count in counts.items():
            self._places.setdefault(word, array("I")).extend((place, count))
        self._entries += len(counts)
        self._lengths.append(counts.total())
        for scopes, text in zip(self._scopes, (row.function, row.version), strict=True):
            scopes.append(self._numbers.setdefault(text, len(self._numbers)))
        self.position = row.position

    def remove(self, id_: str) -> None:
        """Forget a row."""
        place = self._place_of.pop(id_, None)
        if place is not None:
            self._lengths[place] = 0
            self.dead += 1

    def best(self, query: LexicalQuery) -> list[Neighbour]:
        """The best rows in scope, those with equal scores in the order in which they came."""
        asked = Counter(words(query.text))
        lengths = np.array(self._lengths, dtype=np.float64)
        total = lengths.sum()
        if not asked or not total:
            return []
        damped = damping(np.append(lengths, asked.total()), total / len(self))
        scores = np.zeros(len(lengths))
        itself = 0.0  # what the text would get
        for word, times in asked.items():
            places, counts = self._of(word, lengths)
            weight = times * rarity(len(self), len(places))
            scores[places] += weight * counts / (counts + damped[places])
            itself += weight * times / (times + damped[-1])
        scores[self._outside(query)] = 0.0
        return [
            Neighbour(self._ids[place], min(1.0, float(scores[place] / itself)))
            for place in top(scores, query.limit)
            if scores[place] > 0
        ]

    def _of(self, word: str, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows that have a word and live (places), and how often each has it."""
        found = np.array(self._places.get(word, ()), dtype=np.uint32).reshape(-1, 2)
        if self.dead:
            found = found[lengths[found[:, 0]] > 0]
        return found[:, 0], found[:, 1]

    def _outside(self, query: LexicalQuery) -> np.ndarray:
        """Whether each row is out of scope."""
        outside = np.zeros(len(self._ids), dtype=bool)
        for scopes, text in zip(self._scopes, (query.function, query.version), strict=True):
            if text is not None:
                outside |= np.array(scopes) != self._numbers.get(text, -1)
        if query.ids is not None:
            chosen = [self._place_of[id_] for id_ in query.ids if id_ in self._place_of]
            others = np.ones(len(self._ids), dtype=bool)
            others[chosen] = False
            outside |= others
        return outside
