"""Streaming retrieval: documents are read, cut and scored side by side, their chunks given as they are ready.

READ THIS FIRST.

One retrieval, from top to bottom:

1. The query is rewritten, if asked for, and the scoring prepared (`chunk_scores`): for embeddings, the query is
   embedded.
2. Readers, as many as `concurrency`, each take the next document and read it block by block (`documents`).
3. Each block is cut into chunks (`chunker`), these are scored together, and put into a short queue.
4. The caller takes from the queue. While it is full the readers wait, so a slow caller holds little in memory.
5. Whoever stops, is cancelled, or has enough, ends the readers.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from exp_pool.errors import ConfigurationError, DocumentError, InvalidInputError
from exp_pool.retrieval.chunk_scores import Scores, Scoring, check_scoring, scores_for
from exp_pool.retrieval.chunker import ChunkSettings, Piece
from exp_pool.retrieval.documents import Document, check_document, check_encoding, closing, texts_of
from exp_pool.reuse.context import estimated_tokens
from exp_pool.runtime.async_bridge import call_async
from exp_pool.runtime.display import Shown
from exp_pool.runtime.notices import Notices

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager

_AHEAD = 64  # chunks that wait for the caller
_TOGETHER = 16  # chunks scored at once: the first of a document are there soon, and a model has enough for a batch


@dataclass(frozen=True, slots=True, repr=False)
class Chunk(Shown):
    """A part of a document, or, with an `error`, the end of one that could not be read any further.

    Attributes:
        document: which one, counted from 0.
        position: where the chunk begins, in characters: ``text[position : position + len(chunk.text)]`` is the chunk.
        text: empty where there is an error.
        score: how well it fits the query. ``"overlap"``, ``"bm25"`` and ``"hybrid"``: 0 to 1; ``"semantic"``: -1 to 1.
        error: a `DocumentError`, whose cause is what went wrong.
    """

    document: int
    position: int
    text: str
    score: float
    error: DocumentError | None = None


class AsyncRAGGenerator:
    """Finds the parts of documents that fit a query.

    Args:
        chunk_size: the most a chunk holds: characters, or tokens with ``by="tokens"``. Only a character that is longer
            by itself, as people see characters (a grapheme cluster: an emoji of a family), makes a longer chunk.
        overlap: how much of the end of a chunk, at most, the next one begins with; less than `chunk_size`.
        by: where chunks end: anywhere between two ``"characters"``, after as many whole ``"sentences"`` as fit (one
            that does not fit is cut), or after as many characters as `count_tokens` counts ``"tokens"`` for.
        scoring: ``"overlap"`` (the share of the query's words in the chunk), ``"bm25"`` (rare words count for more;
            what is rare is learned from what has been read so far, so the first scores are rough), ``"semantic"``
            (cosine similarity of embeddings), ``"hybrid"`` (the mean of the last two), or a callable(query, texts) ->
            one number for each text, ``def`` (run on a thread) or ``async def``.
        rewrite: callable(query) -> the query in better words, or several: a chunk has the best score it gets for one
            of them. ``def`` (run on a thread) or ``async def``. Where it fails, the query is used as it is, with a
            warning.
        concurrency: how many documents are read side by side.
        count_tokens: counts the tokens of a text, for ``by="tokens"``; by default an estimate that is rather too high.
        encoding: of files.
        manager: whose embedder is asked, and so whose cache of embeddings; by default that of `get_exp_manager()`.

    Raises:
        ConfigurationError: a value that cannot work; the message names it and what is allowed.
    """

    def __init__(
        self,
        chunk_size: int = 1000,
        *,
        overlap: int = 0,
        by: str = "characters",
        scoring: str | Scoring = "overlap",
        rewrite: Callable[[str], Any] | None = None,
        concurrency: int = 8,
        count_tokens: Callable[[str], int] = estimated_tokens,
        encoding: str = "utf-8",
        manager: ExpManager | None = None,
    ) -> None:
        self._chunk_settings = ChunkSettings(chunk_size, overlap, by, count_tokens)
        check_scoring(scoring)
        check_encoding(encoding)
        if rewrite is not None and not callable(rewrite):
            raise ConfigurationError(f"rewrite={rewrite!r} must be a callable(query) -> a text, or several")
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ConfigurationError(f"concurrency={concurrency!r} must be a whole number of at least 1")
        if manager is not None and not hasattr(manager, "sync"):
            raise ConfigurationError(f"manager={manager!r} is no ExpManager")
        self._scoring, self._rewrite, self._concurrency = scoring, rewrite, concurrency
        self._encoding, self._manager = encoding, manager
        self._notices = Notices()

    def stream_retrieval(
        self,
        query: str,
        documents: Iterable[Document] | AsyncIterable[Document],
        *,
        top_k: int | None = None,
        min_score: float | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """The chunks, as they are ready.

        A document that cannot be read is reported as a chunk with an `error`, whatever the conditions, and the others
        go on. Nothing is read before the first chunk is wanted. Who leaves the loop early, and cannot wait until the
        garbage collector has seen that, closes it: ``async with contextlib.aclosing(...)``.

        Args:
            query: what is looked for, not empty.
            documents: each a text, a path of a file, or an async iterable of texts (one after the other they are the
                document). They may come from an (async) iterator themselves, which is read as far as needed.
            top_k: give at most so many. With `min_score`, the first that are good enough, and what has not been read
                by then is not read at all; without, the best ones of all, best first, when everything has been read.
            min_score: leave out what scores less.

        Raises:
            InvalidInputError: a value that cannot be; the message names it and what is allowed.
            EmbedderError: while it is read: the query cannot be embedded.
        """
        if not isinstance(query, str) or not query.strip():
            raise InvalidInputError(f"query={query!r:.80} must be text, not empty")
        if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise InvalidInputError(f"top_k={top_k!r} must be a whole number of at least 1, or None for all")
        if min_score is not None and (
            isinstance(min_score, bool) or not isinstance(min_score, int | float) or math.isnan(min_score)
        ):
            raise InvalidInputError(f"min_score={min_score!r} must be a number, or None for any score")
        chunks = self._retrieve(query, _numbered(documents))
        if min_score is not None:
            return _good_enough(chunks, min_score, top_k)
        return chunks if top_k is None else _best(chunks, top_k)

    async def _retrieve(self, query: str, documents: Numbered) -> AsyncGenerator[Chunk, None]:
        """Every chunk, as it is ready."""
        scores = await scores_for(self._scoring, await self._queries(query), self._manager, self._notices)
        ready: asyncio.Queue[Chunk | _Over] = asyncio.Queue(_AHEAD)
        turn = asyncio.Lock()
        readers = [
            asyncio.create_task(self._read_all(documents, turn, scores, ready)) for _ in range(self._concurrency)
        ]
        try:
            for _ in readers:
                while isinstance(item := await ready.get(), Chunk):
                    yield item
                if item.error is not None:
                    raise item.error
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            await documents.aclose()

    async def _queries(self, query: str) -> Sequence[str]:
        if self._rewrite is None:
            return [query]
        try:
            rewritten = await call_async(self._rewrite, query)
            queries = [rewritten] if isinstance(rewritten, str) else list(rewritten)
            if not queries or not all(isinstance(each, str) and each.strip() for each in queries):
                raise InvalidInputError(f"it gave {rewritten!r:.80}; it must give a text, or several, not empty")
            return queries
        except Exception as err:
            self._notices.warn_once("rewrite", f"rewrite={self._rewrite!r} failed, the query is used as it is: {err!r}")
            return [query]

    async def _read_all(
        self, documents: Numbered, turn: asyncio.Lock, scores: Scores, ready: asyncio.Queue[Chunk | _Over]
    ) -> None:
        """Take documents until there are no more; the last thing said is that this reader is done, and why."""
        try:
            while True:
                async with turn:
                    number, document = await anext(documents)
                await self._read(number, document, scores, ready)
        except StopAsyncIteration:
            await ready.put(_Over())
        except (Exception, asyncio.CancelledError) as err:
            if _of_this_task(err):
                raise
            await ready.put(_Over(err))  # of the iterable of documents: what it would have given is not known

    async def _read(self, number: int, document: Any, scores: Scores, ready: asyncio.Queue[Chunk | _Over]) -> None:
        """All chunks of one document; whatever is wrong with it is a chunk, too."""
        reached = 0
        try:
            async with aclosing(self._chunks(number, document, scores)) as chunks:
                async for chunk in chunks:
                    await ready.put(chunk)
                    reached = chunk.position + len(chunk.text)
        except (Exception, asyncio.CancelledError) as err:
            if _of_this_task(err):
                raise
            error = DocumentError(f"document {number} ends at character {reached}, for what is behind failed: {err!r}")
            error.__cause__ = err
            await ready.put(Chunk(number, reached, "", 0.0, error))

    async def _chunks(self, number: int, document: Any, scores: Scores) -> AsyncGenerator[Chunk, None]:
        """The chunks of one document, scored some at a time."""
        check_document(document)
        chunker = self._chunk_settings.begin()
        async with aclosing(texts_of(document, self._encoding)) as texts:
            async for text in texts:
                for pieces in _batches(chunker.feed(text)):
                    for chunk in await _scored(number, pieces, scores):
                        yield chunk
                await asyncio.sleep(0)  # documents in memory wait for nothing: let others have their turn
        for pieces in _batches(chunker.finish()):
            for chunk in await _scored(number, pieces, scores):
                yield chunk


@dataclass(frozen=True, slots=True)
class _Over:
    """A reader has no more documents to read, or the iterable of documents has raised."""

    error: BaseException | None = None


def _of_this_task(err: BaseException) -> bool:
    """Whether it is this task that is cancelled, not something within a user's iterator."""
    task = asyncio.current_task()
    return isinstance(err, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _batches(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    while batch := list(islice(pieces, _TOGETHER)):
        yield batch


async def _scored(number: int, pieces: Sequence[Piece], scores: Scores) -> list[Chunk]:
    values = await scores([piece.text for piece in pieces])
    return [Chunk(number, *piece, score) for piece, score in zip(pieces, values, strict=True)]


# ── The documents, one after the other ────────────────────────────────────────────────────────────────────────────────

Numbered: TypeAlias = AsyncGenerator[tuple[int, Any], None]


def _numbered(documents: Any) -> Numbered:
    """The documents with their numbers.

    Raises:
        InvalidInputError: it holds no documents, or one of a list is none.
    """
    if isinstance(documents, str | bytes) or not isinstance(documents, Iterable | AsyncIterable):
        raise InvalidInputError(
            f"documents={documents!r:.80} must be an iterable of documents, such as a list; "
            "each a text, a path, or an async iterable of texts"
        )
    if isinstance(documents, Sequence):
        for document in documents:
            check_document(document)
    return _counted(documents)


async def _counted(documents: Iterable[Any] | AsyncIterable[Any]) -> Numbered:
    if not isinstance(documents, AsyncIterable):
        for numbered in enumerate(documents):
            yield numbered
        return
    number = 0
    async with closing(aiter(documents)) as iterator:
        async for document in iterator:
            yield number, document
            number += 1


# ── Which chunks are given ────────────────────────────────────────────────────────────────────────────────────────────


async def _good_enough(
    chunks: AsyncGenerator[Chunk, None], min_score: float, top_k: int | None
) -> AsyncGenerator[Chunk, None]:
    """Those that reach the score, and no more of them than wanted."""
    given = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            if chunk.error is not None:
                yield chunk
            elif chunk.score >= min_score:
                given += 1
                yield chunk
                if given == top_k:
                    return


async def _best(chunks: AsyncGenerator[Chunk, None], top_k: int) -> AsyncGenerator[Chunk, None]:
    """The best ones, best first; of equal ones the earlier. Only so many are kept."""
    best: list[tuple[float, int, int, Chunk]] = []
    async with aclosing(chunks):
        async for chunk in chunks:
            if chunk.error is not None:
                yield chunk
                continue
            entry = (chunk.score, -chunk.document, -chunk.position, chunk)
            if len(best) < top_k:
                heapq.heappush(best, entry)
            else:
                heapq.heappushpop(best, entry)
    for *_, chunk in sorted(best, key=lambda entry: entry[:3], reverse=True):
        yield chunk
