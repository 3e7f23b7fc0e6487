"""Passages of documents, given as they are found: this project's own documentation is searched.

By words they come as they are read; by words and meaning the best three come when everything was read. One of the
documents does not exist, which ends nothing. (The second search loads the embedding model, which takes some seconds.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from exp_pool import ExpManager
from exp_pool.retrieval import AsyncRAGGenerator

DOCS = Path(__file__).parents[1] / "docs"
QUERY = "What happens when the vector index is damaged?"


async def notes() -> AsyncIterator[str]:
    """A document that comes piece by piece, as from a network."""
    for piece in (
        "索引损坏时, ",
        "where the vector index is damaged, ",
        "exact scan answers ",
        "until it was built anew.",
    ):
        yield piece


def shown(text: str) -> str:
    return " ".join(text.split())[:90]


async def main() -> None:
    documents = [DOCS / "backends.md", DOCS / "durability.md", DOCS / "not_there.md", notes()]
    by_words = AsyncRAGGenerator(600, overlap=100, by="sentences")
    async for chunk in by_words.stream_retrieval(QUERY, documents, min_score=0.7):
        if chunk.error is not None:
            print(f"document {chunk.document} cannot be read: {chunk.error.__cause__}")
        else:
            print(f"{chunk.score:.2f} document {chunk.document} at {chunk.position}: {shown(chunk.text)}")

    print("\nthe best of all, by words and meaning:")
    with ExpManager(store="memory://", index="exact://") as manager:
        by_both = AsyncRAGGenerator(400, by="sentences", scoring="hybrid", manager=manager)
        async for chunk in by_both.stream_retrieval(QUERY, [DOCS / "durability.md"], top_k=3):
            print(f"{chunk.score:.2f} document {chunk.document} at {chunk.position}: {shown(chunk.text)}")


if __name__ == "__main__":
    asyncio.run(main())
