"""Every error that the package raises.

::

    ExpPoolError
    ├── ConfigurationError (ValueError)   a URL, option or setting that cannot work; raised where it is written
    ├── InvalidInputError (ValueError)    a value handed to the API that it cannot take: where, top_k, a request
    ├── NamespaceError                    no namespace was named where one is required, or which one cannot be known
    ├── NotFoundError (LookupError)       no experience has this id
    ├── ReadOnlyError                     a change by hand while `is_writable` or `enabled` is off
    ├── ConflictError                     the experience changed meanwhile, or its id is taken
    ├── UnkeyableError (TypeError)        an argument without a stable identity: the call cannot be told from others
    ├── EncodingError (TypeError)         a value that would not come back as it was: it is not stored
    ├── DecodingError (ValueError)        stored text that cannot be read back: treated as not stored
    │   └── MisfitError                   an answer that the function's return type as it is now would not give
    ├── StoreError                        the record store failed
    ├── MigrationError                    what was moved is not what the source has; it says what to do
    ├── SourceError (ValueError)          a file to be imported is damaged, or of another format
    ├── VectorIndexError                  the vector index failed: exact scan answers instead
    │   └── IndexOwnedError               it is another process's for the time being: exact scan answers here
    ├── EmbedderError                     no vectors could be made; the message says what to install or to check
    │   └── StillLoadingError             the model was not loaded in time, and goes on loading
    ├── RerankerError                     what was found could not be put in order; the message says what to check
    ├── ScorerError                       an experience could not be scored: it stays unscored, with this reason
    │   ├── NotScorableError              there is nothing to score it by yet
    │   └── ScorerUnavailableError        nothing can be scored for the time being; the message says what to check
    ├── DocumentError                     one document of a retrieval cannot be read; the message says why
    ├── EndpointError                     one model endpoint did not answer; the message says why
    ├── AllModelsFailed                   no model endpoint answered; the message names each
    ├── RaceError                         no call of a race gave an answer that was accepted; the message says why
    ├── ReplayMissError (LookupError)     replay is on and the pool has no answer: the message says what is nearest
    └── ClosedError                       the manager was closed

    ExpPoolWarning (UserWarning)          what a developer should act on; given once

Pydantic's ``ValidationError`` (itself a ``ValueError``) is raised for models and settings with wrong values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ExpPoolError(Exception):
    """Base of every error that the package raises."""


class ConfigurationError(ExpPoolError, ValueError):
    """A URL, option or setting that cannot work. The message names it and the allowed values."""


class InvalidInputError(ExpPoolError, ValueError):
    """A value handed to the API that it cannot take. The message names it and the remedy."""


class NamespaceError(ExpPoolError):
    """Whose experiences are meant was not said where `require_namespace` wants it, or cannot be known."""


class NotFoundError(ExpPoolError, LookupError):
    """No experience has this id in this namespace."""


class ReadOnlyError(ExpPoolError):
    """A change by hand in a manager whose `is_writable` or `enabled` is off. Calls go on, and store nothing."""


class ConflictError(ExpPoolError):
    """The experience was changed by someone else meanwhile, or its id is already taken."""


class UnkeyableError(ExpPoolError, TypeError):
    """A value without a stable identity cannot be part of a key. `path` says where in the call it stands."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class EncodingError(ExpPoolError, TypeError):
    """A value that the codec could not restore as it was, so it is not stored."""


class DecodingError(ExpPoolError, ValueError):
    """Stored text that cannot be read back."""


class MisfitError(DecodingError):
    """A stored answer that the function's return type, or its codec, as it is now would not give: it is a miss."""


class StoreError(ExpPoolError):
    """The record store failed. The driver's own error is its `__cause__`."""


class MigrationError(ExpPoolError):
    """What was moved is not what the source has, or some of the source cannot be read. `problems` says what, in words.

    Nothing that was moved is taken back.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class SourceError(ExpPoolError, ValueError):
    """A file to be imported is damaged, hostile or not of its format. What stood before it is imported.

    Attributes:
        report: what was imported until then, an `ImportReport`; None where nothing was begun.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.report: Any = None


class VectorIndexError(ExpPoolError):
    """The vector index failed. Nothing is lost: it is derived from the record store."""


class IndexOwnedError(VectorIndexError):
    """Another process has the embedded index open; this one scans the store's vectors, which is exact but slower."""


class EmbedderError(ExpPoolError):
    """The embedder is missing, failed, timed out or returned something that is not vectors."""


class StillLoadingError(EmbedderError):
    """The model was not loaded in time. It goes on loading; `ExpManager.warm_up` waits for it."""


class RerankerError(ExpPoolError):
    """The reranker is missing, failed, timed out or returned something that is not a number for each text."""


class ScorerError(ExpPoolError):
    """The experience could not be scored, or a judge got no decision. It stays unscored, with this reason."""


class NotScorableError(ScorerError):
    """There is nothing to score the experience by yet: it is scored once somebody has annotated or rated it."""


class ScorerUnavailableError(ScorerError):
    """No experience can be scored for the time being, or until a setting is mended. The message says what to check."""


class DocumentError(ExpPoolError):
    """A document cannot be read, or not to its end. What went wrong is its `__cause__`; the others are not affected."""


class EndpointError(ExpPoolError):
    """A model endpoint did not answer, or not with an answer. No API key is in the message.

    Attributes:
        status: of HTTP, None where there was none.
        passing: the same request may do a moment later.
        retry_after: seconds that the server asked to wait for, if it did.
        blameless: it is about this request, and says nothing about the endpoint.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        passing: bool = False,
        retry_after: float | None = None,
        blameless: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.passing, self.retry_after, self.blameless = status, passing, retry_after, blameless


class AllModelsFailed(ExpPoolError):  # noqa: N818  (the name is public)
    """No endpoint answered. `attempts` says what was tried, in order: model, status, error, latency_s."""

    def __init__(self, message: str, attempts: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)


class RaceError(ExpPoolError):
    """No call of a race gave an answer that was accepted.

    Attributes:
        refused: what was returned and not accepted, in the order in which it came.
        errors: what was raised, by calls or by ``accept=``, likewise.
    """

    def __init__(self, message: str, refused: Sequence[Any] = (), errors: Sequence[BaseException] = ()) -> None:
        super().__init__(message)
        self.refused, self.errors = tuple(refused), tuple(errors)


class ReplayMissError(ExpPoolError, LookupError):
    """Replay is on, and nothing stored answers the call. The message says how it differs from the nearest one."""


class ClosedError(ExpPoolError):
    """The manager was closed: open it again with ``with manager:``, or make a new one."""


class ExpPoolWarning(UserWarning):
    """What a developer should act on. Each is given once per manager."""
