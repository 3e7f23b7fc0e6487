"""Stored vectors of rows, for comparing them by meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from exp_pool.curation.near_duplicates import RowNumbers, VectorSimilarity
from exp_pool.errors import InvalidInputError
from exp_pool.search.embedders._sentence_models import MULTILINGUAL

if TYPE_CHECKING:
    from exp_pool.api.pool import Pool


_PAGE = 500
_LONG = 100  # letters; of a longer word the default model knows nothing


def stored_vectors(
    pool: Pool, ids: Sequence[str], scopes: RowNumbers | None = None, *, whole: bool = False
) -> VectorSimilarity:
    """Rows by their stored vectors; the place of a row is its position in `ids`. Pending rows are embedded first.

    Rows that cannot be embedded are near to nothing, which is said once. With `whole`, neither are those whose text the
    embedder does not read whole.

    Args:
        pool: where the rows are.
        ids: of the rows.
        scopes: (n,) only rows of the same scope are near to each other.
        whole: rows whose text the embedder does not read whole are near to nothing.

    Raises:
        InvalidInputError: there are rows, and none has a vector.
        EmbedderError: another process embeds this namespace with another embedder.
        StoreError: the store failed.
    """
    pool.embed_owed()
    meaning = VectorSimilarity.stored(pool.store, pool.namespace, ids, np.arange(len(ids)), scopes)
    without = len(ids) - len(meaning.places)
    if whole and without < len(ids):
        meaning = _read_whole(pool, ids, scopes)
    if ids and without == len(ids):
        raise InvalidInputError(
            f"none of the {len(ids):,} experiences has a vector; use a manager with an embedder and an index "
            "(index='exact://'), or compare them by their letters or words"
        )
    if without:
        pool.notices.warn_once(
            f"no vectors:{without}", f"{without:,} of {len(ids):,} experiences have no vector and are left out"
        )
    return meaning


def _read_whole(pool: Pool, ids: Sequence[str], scopes: RowNumbers | None) -> VectorSimilarity:
    """Similarity by vectors of whole texts: texts of which only the same beginning was read have the same vector.

    So have two of which no word is known. Of those the texts are looked at: a vector that an earlier version made says
    that it was read whole.
    """
    unread: set[int] = set()
    for start in range(0, len(ids), _PAGE):
        rows = pool.store.get_many(pool.namespace, ids[start : start + _PAGE], by="id")
        texts = {at: row.request for at, row in enumerate(rows, start) if row is not None and not _plain(row.request)}
        fits = pool.read_whole(list(texts.values())) if texts else []
        unread.update(at for at, whole in zip(texts, fits, strict=True) if not whole)
    kept = [at for at in range(len(ids)) if at not in unread]
    places = np.array(kept, dtype=np.int64)
    of_kept = None if scopes is None else scopes[places]
    meaning = VectorSimilarity.stored(pool.store, pool.namespace, [ids[at] for at in kept], places, of_kept, whole=True)
    if left_out := len(ids) - len(meaning.places):
        pool.notices.warn_once(
            f"not read whole:{left_out}",
            f"{left_out:,} of {len(ids):,} experiences are near to nothing by meaning: the embedder does not know "
            "their words, or reads no text as long as theirs. Compare them by their letters, or use an embedder that "
            f"reads them, such as embedder={MULTILINGUAL!r}",
        )
    return meaning


def _plain(text: str) -> bool:
    """Whether every embedder knows the words, so that none need be asked: ASCII, with no very long word."""
    return text.isascii() and all(len(word) < _LONG for word in text.split())
