"""Base class of SQL stores: transactions, the dialect, and drivers' errors as `StoreError`."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, ParamSpec, TypeVar

from exp_pool.errors import StoreError
from exp_pool.stores.sql.dialect import Connection, Dialect

P = ParamSpec("P")
R = TypeVar("R")


def translated(method: Callable[P, R]) -> Callable[P, R]:
    """Give the driver's errors as `StoreError` that names the place and the remedy."""

    @functools.wraps(method)
    def translating(*args: P.args, **kwargs: P.kwargs) -> R:
        engine = args[0]
        assert isinstance(engine, SqlEngine)
        try:
            return method(*args, **kwargs)
        except engine.troubles as err:
            raise StoreError(f"{engine.place}: {err}.{engine.remedy(err)}") from err

    return translating


class SqlEngine(ABC):
    """A database, its dialect and its errors.

    Args:
        place: where it is, for people: a file, or a URL without its password.
        dialect: of the engine.
        compress_above: characters above which arguments, responses and corrections are compressed; None: never.
    """

    errors: ClassVar[tuple[type[Exception], ...]]
    """What the engine's driver raises."""
    troubles: ClassVar[tuple[type[Exception], ...]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "errors" in vars(cls):
            cls.troubles = (*cls.errors, OSError, UnicodeError, OverflowError, TypeError)  # types: of damaged rows

    def __init__(self, place: str, dialect: Dialect, compress_above: int | None) -> None:
        self.place = place
        self._dialect = dialect
        self._compress_above = compress_above

    @abstractmethod
    def _read(self, work: Callable[[Connection], R], *, patient: bool = False) -> R:
        """Run work that only reads; it may be run twice. Patient: without a deadline, as it takes long."""

    @abstractmethod
    def _write(self, work: Callable[[Connection], R], *, patient: bool = False) -> R:
        """Run work in one serialized transaction; again, if the transaction came to nothing."""

    @abstractmethod
    def remedy(self, err: Exception) -> str:
        """What a person can do about an error of the driver; ``""`` where nothing is known."""

    def _all(self, statement: str, values: Sequence[Any] = (), *, patient: bool = False) -> list[Any]:
        """All rows of one statement that only reads."""
        return self._read(lambda connection: connection.execute(statement, values).fetchall(), patient=patient)
