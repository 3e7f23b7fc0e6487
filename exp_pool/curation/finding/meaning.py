"""The vectors of rows, as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from exp_pool.curation.nearness import Meaning, Places
from exp_pool.errors import InvalidInputError

if TYPE_CHECKING:
    from exp_pool.pool import Pool


def stored_meaning(pool: Pool, ids: Sequence[str], scopes: Places | None = None) -> Meaning:
    """Rows by their stored vectors, their places being their order. What is owed one is embedded first.

    Rows that cannot be embedded are near to nothing, which is said once.

    Raises:
        InvalidInputError: there are rows, and none has a vector.
        EmbedderError: another process embeds this namespace with another embedder.
        StoreError: the store failed.
    """
    pool.embed_owed()
    meaning = Meaning.stored(pool.store, pool.space, ids, np.arange(len(ids)), scopes)
    without = len(ids) - len(meaning.places)
    if ids and without == len(ids):
        raise InvalidInputError(
            f"none of the {len(ids):,} experiences has a vector; use a manager with an embedder and an index "
            "(index='exact://'), or compare them by their letters or words"
        )
    if without:
        pool.notices.once(
            f"no vectors:{without}", f"{without:,} of {len(ids):,} experiences have no vector and are left out"
        )
    return meaning
