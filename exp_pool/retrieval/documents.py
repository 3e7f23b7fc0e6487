"""Documents, read block by block: a string, a file, or an async iterable of texts."""

from __future__ import annotations

import asyncio
import codecs
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from exp_pool.errors import ConfigurationError, InvalidInputError, StoreError

T = TypeVar("T")

Document: TypeAlias = str | os.PathLike[str] | AsyncIterable[str]
"""A text, the path of a file, or an async iterable of texts that are one document."""

_BLOCK = 16_384  # characters, or bytes of a file: some milliseconds of cutting and scoring


def check_document(document: Any) -> None:
    """Refuse what is no document. Whether a document can be read is known only when it is.

    Raises:
        InvalidInputError: it is no document.
    """
    if not isinstance(document, str | os.PathLike | AsyncIterable):
        raise InvalidInputError(
            f"the document {document!r:.80} is of type {type(document).__name__}; a document is a text (str), the path "
            "of a file (pathlib.Path), or an async iterable of texts"
        )


def check_encoding(encoding: Any) -> None:
    """Refuse an unknown encoding.

    Raises:
        ConfigurationError: Python knows no such encoding of text.
    """
    try:
        "".encode(encoding)
    except (LookupError, TypeError) as err:
        raise ConfigurationError(f"encoding={encoding!r} is no encoding of text, such as 'utf-8': {err}") from err


async def texts_of(document: Document, encoding: str) -> AsyncGenerator[str, None]:
    """The text of a document, block by block: as it is, with its line ends, and its byte order mark if it has one.

    Raises:
        OSError, UnicodeError, InvalidInputError: it cannot be read.
    """
    if isinstance(document, str):
        for text in _blocks(document):
            yield text
    elif isinstance(document, os.PathLike):
        async for text in _of_file(Path(document), encoding):
            yield text
    else:
        async with closing(aiter(document)) as iterator:
            async for text in iterator:
                if not isinstance(text, str):
                    raise InvalidInputError(f"it gave {text!r:.80}; an async iterable that is a document gives str")
                for block in _blocks(text):
                    yield block


@asynccontextmanager
async def closing(iterator: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close an iterator in the end, if that can be closed: what a user's generator holds open is not left to chance."""
    try:
        yield iterator
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


def _blocks(text: str) -> list[str]:
    return [text[start : start + _BLOCK] for start in range(0, len(text), _BLOCK)]


async def _of_file(path: Path, encoding: str) -> AsyncGenerator[str, None]:
    decoder = codecs.getincrementaldecoder(encoding)()
    position, before = 0, None
    while True:
        block, stamp = await asyncio.to_thread(_read_block, path, position)
        if before not in (None, stamp):
            raise StoreError(f"{path} was changed while it was read")
        position, before = position + len(block), stamp
        text = decoder.decode(block, final=not block)
        if text:
            yield text
        if not block:
            return


def _read_block(path: Path, position: int) -> tuple[bytes, tuple[int, ...]]:
    """A block, and what would tell that the file is not the one it was.

    The file is opened anew for each: where nothing is kept open, no cancelled reader can leave it open, and a
    thousand documents side by side need no more files than one.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe waits for who writes to it, and nothing ends that
        raise InvalidInputError(f"{path} is no regular file")
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        file.seek(position)
        return file.read(_BLOCK), (status.st_ino, status.st_size, status.st_mtime_ns)
