"""Chunks of documents, scored against a query and given as they are ready. `generator` tells how.

::

    generator = AsyncRAGGenerator(chunk_size=800, overlap=100, by="sentences", scoring="hybrid")
    async for chunk in generator.stream_retrieval("How do I reset my password?", [Path("manual.md"), text]):
        print(chunk.score, chunk.document, chunk.position, chunk.text)

It stands by itself; only ``"semantic"`` and ``"hybrid"`` ask a manager, for its embedder.
"""

from exp_pool.errors import DocumentError
from exp_pool.retrieval.chunk_scores import SCORINGS, Scoring
from exp_pool.retrieval.chunker import UNITS
from exp_pool.retrieval.documents import Document
from exp_pool.retrieval.generator import AsyncRAGGenerator, Chunk

__all__ = ["SCORINGS", "UNITS", "AsyncRAGGenerator", "Chunk", "Document", "DocumentError", "Scoring"]
