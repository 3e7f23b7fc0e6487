"""In what engines that speak SQL differ, as far as this package is concerned. Statements have ``?`` for values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Cursor(Protocol):
    """The result of a statement."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed."""
        ...

    def fetchone(self) -> Any:
        """The next row, None at the end."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows."""
        ...


class Connection(Protocol):
    """A connection in a transaction. `sqlite3.Connection` is one."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor:
        """Run one statement."""
        ...

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]], /) -> Any:
        """Run one statement for each row of values, in as few round trips as the driver can."""
        ...


@dataclass(frozen=True)
class Dialect:
    """One engine.

    Args:
        now: an expression for the present in microseconds, and its values: the store's clock, where it has one.
        draw: gives out so many numbers of a namespace; the first. Who has drawn commits before others may draw.
        alone: until this transaction ends, nobody else draws numbers of this namespace. Whoever locks rows and draws
            calls it first: in any other order two of them would wait for each other.
        listed: the column that counts rows of a namespace in an order that becomes visible as it grows.
        upsert: the INSERT that writes over the row of its key: from a table, the columns of its key, the other columns,
            and by their names what they become, where that is not the new value: SQL with ``{old}`` and ``{new}``.
        first: the INSERT that leaves a row of its key alone, and changes no row then: from a table, the columns of its
            key, and an expression for each other column.
        hashed: the indexed part of `request_hash`, and how many of its characters that are.
        position: the function that finds a part in a text.
        greatest: the function that gives the larger of two values.
        lock: ends a SELECT whose rows nobody else may change until the transaction ends.
        unindexed: before a column that no index is to be chosen for.
        nulls: after a column by which rows are sorted upward, and downward: NULL counts as less than anything else.
        announce: tells other processes that the answers of these keys have changed, once the transaction ends; without
            keys: of the whole namespace.
        scoped: whether vectors stand with their function, version and reuse scope, so that these can be searched.
        embedding: what a vector's bytes become for a column that the engine searches, where there is one.
        json: whether conditions on members of JSON columns can be left to the engine.
    """

    now: Callable[[], tuple[str, list[Any]]]
    draw: Callable[[Connection, str, int], int]
    alone: Callable[[Connection, str], object]
    listed: str
    upsert: Callable[..., str]
    first: Callable[[str, Sequence[str], Mapping[str, str]], str]
    hashed: tuple[str, int]
    position: str
    greatest: str
    lock: str = ""
    unindexed: str = ""
    nulls: tuple[str, str] = ("", "")
    announce: Callable[[Connection, str, Sequence[str]], object] = lambda _connection, _namespace, _keys: None
    scoped: bool = False
    embedding: Callable[[bytes], object] | None = None
    json: bool = False


@functools.lru_cache(1024)
def percent_marks(statement: str) -> str:
    """The statement for drivers that want ``%s`` for a value."""
    return statement.replace("%", "%%").replace("?", "%s")


@functools.lru_cache(1024)
def marks(count: int) -> str:
    """``?, ?, ?``: placeholders for so many values."""
    return ", ".join("?" * count)


@functools.lru_cache(64)
def upsert_on_conflict(table: str, key: tuple[str, ...], others: tuple[str, ...], **changes: str) -> str:
    """INSERT that replaces the row of its key, in SQLite and PostgreSQL; see `Dialect.upsert`.

    Args:
        table: its name.
        key: columns of its primary key.
        others: the other columns.
        **changes: SQL for columns that do not simply get the new value.
    """
    then = "DO NOTHING"
    if others:
        assigned = (
            f"{name} = {changes.get(name, '{new}').format(old=f'{table}.{name}', new=f'excluded.{name}')}"
            for name in others
        )
        then = f"DO UPDATE SET {', '.join(assigned)}"
    names = (*key, *others)
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks(len(names))}) ON CONFLICT ({', '.join(key)}) {then}"
    )


def first_on_conflict(table: str, key: Sequence[str], others: Mapping[str, str]) -> str:
    """INSERT that leaves a row of its key alone, in SQLite and PostgreSQL; see `Dialect.first`.

    Args:
        table: its name.
        key: columns of its primary key.
        others: the other columns, and SQL for their values.
    """
    columns = ", ".join(f'"{name}"' for name in (*key, *others))
    conflict = ", ".join(f'"{name}"' for name in key)
    values = ", ".join((marks(len(key)), *others.values()))
    return f"INSERT INTO {table} ({columns}) VALUES ({values}) ON CONFLICT ({conflict}) DO NOTHING"
